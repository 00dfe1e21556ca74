#!/usr/bin/env bash
# Builds the module for arm64, and runs tests with qemu-user: those of keystone-zone and of
# keystone-token, and tests over HTTP with Debian's nginx for arm64.
#
# usage: arm64.sh BUILD TARGET RELEASE [OPTIONS OF THE TEST PROGRAM...]
#   BUILD    a directory for what Debian has for arm64
#   TARGET   cargo's target directory, which is kept between builds
#   RELEASE  the code name of the Debian
#
# The packages for arm64 are unpacked, not installed: this machine's dpkg does not know of them. The
# test program over HTTP is this machine's; it starts nginx by a script that has qemu run it.
set -euo pipefail
who=arm64.sh
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/.." && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

triple=aarch64-linux-gnu
rust_triple=aarch64-unknown-linux-gnu
# With what they depend on.
packages=(nginx libc6-dev libssl-dev libpcre2-dev libcrypt-dev zlib1g-dev)
# Without: its sources are enough.
sources=nginx-dev

# What they need of Debian, in $root.
unpack() {
    local package stamp
    apt_arm64 update -q
    apt_arm64 install -y -q --no-install-recommends --download-only "${packages[@]}"
    (cd "$apt/cache/archives" && apt_arm64 download -q "$sources")
    stamp=$(cd "$apt/cache/archives" && sha256sum ./*.deb)
    if [ "$(cat "$root.made-of" 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    rm -rf "$root" "$root.made-of"
    mkdir -p "$root/usr/lib"
    ln -s usr/lib "$root/lib"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
    done
    echo "$stamp" >"$root.made-of"
}

# apt-get with a state of its own, where nothing is installed.
apt_arm64() {
    APT_CONFIG=$apt/apt.conf apt-get "$@"
}

write_apt_conf() {
    rm -rf "$apt"
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/state/status"
    debian_sources "$release" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
END
}

# write_tool NAME: a script from the standard input.
write_tool() {
    { echo '#!/bin/bash' && cat; } >"$work/$1"
    chmod +x "$work/$1"
}

write_tools() {
    # qemu hides what nginx calls its processes, and the tests look for workers among the master's children.
    write_tool nginx <<END
exec -a 'nginx: worker process' qemu-aarch64 -L '$root' '$root/usr/sbin/nginx' "\$@"
END
    # The libraries may need a newer libc than this compiler's, and have it when they run.
    write_tool cc <<END
exec $triple-gcc --sysroot='$root' -Wl,--allow-shlib-undefined "\$@"
END
    # For nginx's configure, which runs what it has compiled: so that is a script, too.
    write_tool cc-for-configure <<END
'$work/cc' "\$@" || exit
while [ \$# -gt 1 ]; do
    if [ "\$1" = -o ] && [ -x "\$2" ]; then
        mv "\$2" "\$2.arm64"
        printf '#!/bin/sh\nexec qemu-aarch64 -L %s %s "\$@"\n' '$root' "\$(realpath "\$2.arm64")" >"\$2"
        chmod +x "\$2"
    fi
    shift
done
END
}

# for_arm64 COMMAND...: with what cargo, cc, pkg-config and bindgen need to know.
for_arm64() (
    export "CC_${rust_triple//-/_}=$work/cc" HOST_CC=cc
    export CARGO_BUILD_TARGET=$rust_triple CARGO_TARGET_DIR=$target
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$work/cc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $root"
    export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$root
    export PKG_CONFIG_LIBDIR=$root/usr/lib/$triple/pkgconfig:$root/usr/share/pkgconfig
    export BINDGEN_EXTRA_CLANG_ARGS="--target=$triple --sysroot=$root"
    "$@"
)

build_module() {
    env CC="$work/cc-for-configure" make -C "$repository" BUILD_PACKAGES= BUILD_CRATES='-p ngx_http_keystone_module' \
        BUILD="$work" TARGET="$target" MODULE="$module" NGINX="$work/nginx" NGINX_SOURCE="$root/usr/share/nginx/src"
}

[ $# -ge 3 ] || fail "usage: arm64.sh BUILD TARGET RELEASE [OPTIONS OF THE TEST PROGRAM...]"
build=$1
target=$2
release=$3
shift 3
work=$build/arm64
apt=$work/apt
root=$work/root
log=$work/log
module=$target/$rust_triple/release/libngx_http_keystone_module.so
mkdir -p "$work"

say "unpacking what Debian $release has for arm64"
write_apt_conf
unpack >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "there is no Debian $release for arm64, see $log"; }
write_tools

say "tests of keystone-zone and keystone-token"
for_arm64 cargo test --locked --release -p keystone-zone -p keystone-token --lib --tests

say "building the module for $("$work/nginx" -v 2>&1)"
for_arm64 build_module >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "the build failed: see $log"; }
say "$(grep 'loads it' "$log" | tail -n 1)"

program=$(http_program)
[ -n "$program" ] || fail "the tests over HTTP are not built"
cd "$repository"
KEYSTONE_TESTBED_PATIENCE=6 KEYSTONE_MODULE=$module NGINX_BINARY=$work/nginx "$program" "$@"
