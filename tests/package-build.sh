#!/usr/bin/env bash
# Builds the Debian package for another release than this machine's, in a Debian of that release.
#
# usage: package-build.sh BUILD RELEASE TARGET
#   BUILD    a directory for the Debian, and for package-RELEASE, where the package goes
#   RELEASE  its code name
#   TARGET   cargo's target directory for it, which is kept between builds
#
# Rust and the crates are this machine's, in their places for the time of the build. What apt and
# debhelper do there is that release's own.
set -euo pipefail
who=package-build.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

prepare() {
    need_root
    make_debian "$release" "$build/debian-$release"
    if [ "$(cat "$root.made-of" 2>/dev/null)" != "$(cat "$build/debian-$release.made-of")" ]; then
        rm -rf --one-file-system "$root"
        cp -a "$build/debian-$release" "$root"
        cp "$build/debian-$release.made-of" "$root.made-of"
    fi
    # For the build, which fetches no crates.
    cargo fetch --locked --manifest-path "$here/../Cargo.toml"
    mkdir -p "$target" "$root/usr/local/rust" "$root/usr/local/cargo"
    rm -rf --one-file-system "$root/src"
    mkdir -p "$root/src/target"
    tar -c --exclude=./.git --exclude=./build --exclude=./target --exclude=./fuzz/target -C "$here/.." . | tar -x -C "$root/src"
}

build_there() {
    mount -t proc proc "$root/proc"
    mount --bind -o ro "$(rustc --print sysroot)" "$root/usr/local/rust"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$root/usr/local/cargo"
    mount --bind "$target" "$root/src/target"
    say "building the package for $release (some minutes)"
    in_root_with_rust sh -c 'apt-get update -qq && apt-get -y -q dist-upgrade \
        && apt-get install -y -q --no-install-recommends make && make -C /src package' >"$log" 2>&1 \
        || { tail -n 30 "$log" >&2; fail "the build failed: see $log"; }
    rm -rf "$build/package-$release"
    mv "$root/src/build/package" "$build/package-$release"
}

in_root_with_rust() {
    env -i PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive \
        CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true chroot "$root" "$@"
}

[ $# -ge 3 ] || fail "usage: package-build.sh BUILD RELEASE TARGET"
build=$1
release=$2
target=$3
root=$build/builder-$release
log=$build/package-$release.log
case ${4-} in
    '')
        prepare
        in_namespaces "$0" "$build" "$release" "$target" inside
        ;;
    inside) build_there ;;
esac
