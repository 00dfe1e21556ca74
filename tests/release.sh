#!/usr/bin/env bash
# Runs tests over HTTP in another release of Debian than this machine's, with the nginx of that release.
#
# usage: release.sh BUILD RELEASE [OPTIONS OF THE TEST PROGRAM...]
#   BUILD    a directory for the Debian, and for what is built in it
#   RELEASE  its code name, of this machine's release or a later one
#
# Rust, the crates, the sources and the test program are this machine's, in their places for the
# time of the test. For Debian 13, the module is that of BUILD/package-trixie, which package-build.sh
# has built there. For unstable it is built there, as for an nginx of any origin.
set -euo pipefail
who=release.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

packages=(nginx nginx-dev libclang-dev libssl-dev zlib1g-dev pkg-config gcc make
    ca-certificates curl openssl procps python3-aioquic)

prepare() {
    need_root
    if ! make_there >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        # What is amiss in unstable may be over tomorrow.
        [ "$release" = sid ] || fail "there is no Debian $release, see $log"
        say "skipped: apt cannot make a Debian $release today, see $log"
        exit 0
    fi
    cargo fetch --locked --manifest-path "$repository/Cargo.toml"
}

# The Debian is kept, and brought up to date.
make_there() {
    make_debian "$release" "$build/debian-$release" || return
    if [ "$(cat "$root.made-of" 2>/dev/null)" != "$(cat "$build/debian-$release.made-of")" ]; then
        rm -rf --one-file-system "$root"
        cp -a "$build/debian-$release" "$root" || return
        cp "$build/debian-$release.made-of" "$root.made-of"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    in_root apt-get update -q && apt_get dist-upgrade && apt_get install "${packages[@]}"
}

apt_get() {
    in_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends "$@"
}

play() {
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    ip link set lo up
    show_there "$repository" "$repository"
    show_there "$(rustc --print sysroot)" /usr/local/rust
    show_there "${CARGO_HOME:-$HOME/.cargo}" /usr/local/cargo
    local module
    "module_for_$release"
    in_root env KEYSTONE_MODULE="$module" NGINX_BINARY=/usr/sbin/nginx \
        sh -c "cd '$repository' && exec \"\$@\"" sh "$program" "$@"
}

# show_there DIRECTORY NAME: under which it is seen in the other Debian.
show_there() {
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
}

module_for_trixie() {
    rm -rf "$target"
    dpkg-deb --extract "$build/package-$release"/libnginx-mod-http-keystone_*.deb "$target"
    module=$target/usr/lib/nginx/modules/ngx_http_keystone_module.so
    say "the module of the package, with $(in_root nginx -v 2>&1)"
}

# What is needed was installed.
module_for_sid() {
    say "building in $release with $(in_root nginx -v 2>&1)"
    in_root env PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true \
        CARGO_TARGET_DIR="$target" make -C "$repository" BUILD_PACKAGES= BUILD_CRATES='-p ngx_http_keystone_module' BUILD="$target" TARGET="$target" \
        NGINX=/usr/sbin/nginx NGINX_SOURCE=/usr/share/nginx/src >"$log" 2>&1 \
        || { tail -n 30 "$log" >&2; fail "the build failed: see $log"; }
    module=$target/release/libngx_http_keystone_module.so
    say "$(grep 'loads it' "$log" | tail -n 1)"
}

[ $# -ge 2 ] || fail "usage: release.sh BUILD RELEASE [OPTIONS OF THE TEST PROGRAM...]"
build=$1
release=$2
root=$build/builder-$release
log=$build/release-$release.log
target=$build/release-$release
repository=$(cd "$here/.." && pwd)
if [ "${KEYSTONE_RELEASE_PROGRAM-}" ]; then
    program=$KEYSTONE_RELEASE_PROGRAM
    shift 2
    play "$@"
else
    prepare
    program=$(http_program)
    [ -n "$program" ] || fail "the tests over HTTP are not built"
    KEYSTONE_RELEASE_PROGRAM=$program in_namespaces --net "$0" "$@"
fi
