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
    # Workers write there, whoever they run as.
    chmod 1777 "$reports"
    ASAN_OPTIONS=$options:log_path=$reports/report LSAN_OPTIONS=print_suppressions=0 \
        KEYSTONE_TESTBED_PATIENCE=6 cargo test --locked --release -p ngx_http_keystone_module --test "$name" -- "$@"
}

options=abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1

build
KEYSTONE_MODULE=$built/libngx_http_keystone_module.so
NGINX_BINARY=$(ls -t "$built"/build/nginx-sys-*/out/objs/nginx | head -n 1)
export KEYSTONE_MODULE NGINX_BINARY

echo "sanitizer: planted faults are reported"
test_with sanitizer "$directory/planted"

echo "sanitizer: the tests over HTTP"
failed=0
test_with http "$directory/reports" "$@" || failed=1
for report in "$directory"/reports/*; do
    [ -e "$report" ] || continue
    echo "--- $report" >&2
    cat "$report" >&2
    failed=1
done
[ "$failed" = 0 ] || { echo "sanitizer: the tests or the sanitizer found faults; its reports are in $directory/reports" >&2; exit 1; }
echo "sanitizer: no report"
