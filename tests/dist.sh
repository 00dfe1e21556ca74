#!/usr/bin/env bash
# Builds the Debian package from the source archive, in another directory and without any network.
# The module and keystone-doctor must have the same bytes as in a package that was built elsewhere.
#
# usage: dist.sh BUILD ARCHIVE PACKAGE
#   BUILD    a directory for all that is made
#   ARCHIVE  what `make dist` has made
#   PACKAGE  the directory of the package that `make package` has made of the same sources
set -euo pipefail
who=dist.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

# contents DIRECTORY: the checksums of what its package installs and was compiled.
contents() {
    local tree=$work/tree
    rm -rf "$tree"
    dpkg-deb --extract "$1"/libnginx-mod-http-keystone_*.deb "$tree"
    (cd "$tree" && sha256sum usr/lib/nginx/modules/*.so usr/bin/*)
}

[ $# = 3 ] || fail "usage: dist.sh BUILD ARCHIVE PACKAGE"
archive=$2
package=$3
work=$1/dist-test
rm -rf "$work"
mkdir -p "$work/home"
tar -x -f "$archive" -C "$work" --one-top-level=unpacked --strip-components=1

# No crates but those of the archive, and no cargo configuration but its own.
toolchain=$(rustc --print sysroot)
say "building the package from $(basename "$archive") (some minutes)"
env -i PATH="$toolchain/bin:/usr/sbin:/usr/bin:/sbin:/bin" LC_ALL=C.UTF-8 HOME="$work/home" \
    CARGO_HOME="$work/home/cargo" CARGO_NET_OFFLINE=true \
    make -C "$work/unpacked" package >"$work/build.log" 2>&1 \
    || { tail -n 30 "$work/build.log" >&2; fail "the build failed: see $work/build.log"; }

contents "$package" >"$work/contents"
contents "$work/unpacked/build/package" | diff "$work/contents" - || fail "built elsewhere, it has other bytes"
say "built without network, the same bytes: $(cut -c 1-16 "$work/contents" | xargs)"
rm -rf "$work"
