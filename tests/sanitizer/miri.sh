#!/bin/sh
# Runs the tests of keystone-zone, and those of keystone-token and keystone-gateway that call no C, in
# Miri:
#
#     tests/sanitizer/miri.sh DIRECTORY
#
# See README.md beside this file. What is compiled goes to DIRECTORY.
set -eu

[ $# = 1 ] || { echo "miri: which directory to build in?" >&2; exit 2; }
cargo +nightly miri --version 2>/dev/null || {
    echo "miri: there is no Miri here: rustup toolchain install nightly --component miri,rust-src" >&2
    exit 1
}
# proptest looks for the failures of earlier runs in files. The crates have no unsafe code, so there are
# no aliases to check; the check would visit each word of the zone at each call.
common='-Zmiri-disable-isolation -Zmiri-disable-stacked-borrows'
export CARGO_TARGET_DIR="$1" PROPTEST_CASES=4

test_in_miri() {
    flags=$1
    shift
    MIRIFLAGS="$common $flags" cargo +nightly miri test --locked "$@"
}

echo "miri: keystone-zone"
test_in_miri "" -p keystone-zone
echo "miri: keystone-zone's threads, in 8 orders"
test_in_miri -Zmiri-many-seeds=0..8 -p keystone-zone --lib -- \
    counters::tests::threads_lose_no_count cache::tests::readers_never_see_a_mixture

# The other modules call OpenSSL or zlib, as the policy about certificates does. What else is left
# out here shows how long something may take.
echo "miri: keystone-token"
test_in_miri "" -p keystone-token --lib -- \
    access_rules:: headers:: identity::delegation:: policy:: swift:: text:: time:: \
    --skip certificate --skip no_pattern_takes_long --skip rules_that_would_take_long_permit_nothing
echo "miri: keystone-gateway"
test_in_miri "" -p keystone-gateway --lib -- status
