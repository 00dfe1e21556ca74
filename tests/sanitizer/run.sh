#!/usr/bin/env bash
# Builds nginx and the module with AddressSanitizer and runs the tests over HTTP with them:
#
#     tests/sanitizer/run.sh DIRECTORY [OPTIONS OF THE TEST PROGRAM...]
#
# See README.md beside this file. What the sanitizer reports lies in DIRECTORY/reports.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "sanitizer: which directory to build in?" >&2; exit 2; }
mkdir -p "$1"
directory=$(cd "$1" && pwd)
shift

host=$(rustc -vV | sed -n 's/^host: //p')
built=$directory/target/$host/release

# nginx and the module come from the same sources, those of crate nginx-src. With a target named,
# the flags are not for build scripts. The runtime is the one that gcc links to nginx: rustc links
# none to a cdylib, whose symbols nginx's process has to have.
build() {
    env -u NGINX_SOURCE_DIR -u NGINX_BUILD_DIR \
        NGX_CONFIGURE_ARGS="--with-debug --with-http_auth_request_module --with-http_dav_module --add-module=$here/nginx" \
        NGX_CFLAGS="-g -O1 -fno-omit-frame-pointer -fsanitize=address -DNGX_DEBUG_PALLOC=1" \
        NGX_LDFLAGS="-fsanitize=address" \
        RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes -Cdebug-assertions=yes" \
        cargo build --locked --release --features vendored --target "$host" \
        --target-dir "$directory/target" -p ngx_http_keystone_module --lib --example planted_faults
}

# test_with NAME OF THE TEST PROGRAM, DIRECTORY OF THE REPORTS, OPTIONS...
test_with() {
    local name=$1 reports=$2
    shift 2
    rm -rf "$reports"
    mkdir -p "$reports"
    # Workers write there, as any user.
    chmod 1777 "$reports"
    export ASAN_OPTIONS=$options:log_path=$reports/report LSAN_OPTIONS=print_suppressions=0
    # A test may compile a module of its own, for this nginx; cargo keeps the other one's variables,
    # or would build all anew.
    local runner
    runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
    env "$runner=env NGINX_SOURCE_DIR=$sources NGINX_BUILD_DIR=$objects" \
        KEYSTONE_TESTBED_PATIENCE=6 KEYSTONE_MODULE="$module" NGINX_BINARY="$objects/nginx" \
        cargo test --locked --release -p ngx_http_keystone_module --test "$name" -- "$@"
}

# show_reports DIRECTORY: fails where there are any.
show_reports() {
    local report found=0
    for report in "$1"/*; do
        [ -e "$report" ] || continue
        echo "--- $report" >&2
        cat "$report" >&2
        found=1
    done
    return $found
}

# Freed memory stays in the sanitizer's quarantine, and this test measures the worker's memory.
by_itself=b_offline::a_zip_bomb
# Some tests preload a clock, which then stands before the sanitizer.
options=abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:verify_asan_link_order=0

build
module=$built/libngx_http_keystone_module.so
objects=$(find "$built/build" -path '*/nginx-sys-*/out/objs/nginx' -printf '%T@ %h\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
# It begins with the directory of the sources, in quotes.
sources=$(sed -n '1s/^"\([^"]*\)"|.*/\1/p' "$objects/last-build-info")

echo "sanitizer: planted faults are reported"
test_with sanitizer "$directory/planted"

failed=0
echo "sanitizer: the tests over HTTP"
test_with http "$directory/reports" --skip "$by_itself" "$@" || failed=1
show_reports "$directory/reports" || failed=1

echo "sanitizer: the test that measures memory"
options=$options:quarantine_size_mb=0:thread_local_quarantine_size_kb=0
test_with http "$directory/reports-memory" --exact "$by_itself" || failed=1
show_reports "$directory/reports-memory" || failed=1

if [ $failed = 1 ]; then
    echo "sanitizer: a test failed, or the sanitizer reported what is shown above" >&2
    exit 1
fi
echo "sanitizer: no report"
