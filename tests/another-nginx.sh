#!/usr/bin/env bash
# Builds the module for an nginx that is not Debian's and has no --with-compat: as a part of it, by
# nginx's own configure, and for one that is installed, by "make NGINX=... NGINX_SOURCE=...".
#
# usage: another-nginx.sh BUILD VENDORED [OPTIONS OF THE TEST PROGRAM...]
#   BUILD     a directory for all that is made
#   VENDORED  cargo's target directory of "make vendored", whose sources of nginx are used, and whose
#             crates need not be built again; the module in it is another one afterwards
set -euo pipefail
who=another-nginx.sh
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/.." && pwd)

fail() {
    echo "$who: $*" >&2
    exit 1
}

say() {
    echo "$who: $*"
}

# run WHAT COMMAND...: shows what it said only if it fails.
run() {
    local what=$1
    shift
    say "$what"
    "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; fail "$what: failed"; }
}

# build_nginx DIRECTORY OPTION...: an nginx without --with-compat.
build_nginx() {
    local directory=$1 configure=./configure
    shift
    cp -r "$source" "$directory"
    # The archives of nginx have it at the top, and a checkout of its repository in auto.
    [ -e "$directory/configure" ] || configure=auto/configure
    (cd "$directory" && "$configure" --with-threads --with-http_ssl_module --with-http_v2_module --with-cc-opt=-O0 "$@") || return
    mkdir -p "$directory/objs"
    ln -s "$vendored" "$directory/objs/ngx_http_keystone_module"
    env -u NGINX_SOURCE_DIR -u NGINX_BUILD_DIR make -C "$directory" -j "$(nproc)"
}

# refuses SENTENCE COMMAND...
refuses() {
    local sentence=$1 said
    shift
    ! said=$("$@" 2>&1) || fail "this should fail, with \"$sentence\": $*"
    [[ $said == *"$sentence"* ]] || fail "this should say \"$sentence\": $*"$'\n'"$said"
    say "refused: $sentence"
}

# An nginx by its words only.
pretend() {
    printf '#!/bin/sh\necho "nginx version: %s" >&2\necho "configure arguments: %s" >&2\n' "$version" "$1" >"$work/pretended"
    chmod +x "$work/pretended"
}

[ $# -ge 2 ] || fail "usage: another-nginx.sh BUILD VENDORED [OPTIONS OF THE TEST PROGRAM...]"
work=$1/another-nginx
vendored=$2
shift 2
objects=$(find "$vendored/release/build" -path '*/nginx-sys-*/out/objs/nginx' -printf '%T@ %h\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
[ -n "$objects" ] || fail "there is no nginx in $vendored: run make vendored"
# It begins with the directory of the sources, in quotes.
source=$(sed -n '1s/^"\([^"]*\)"|.*/\1/p' "$objects/last-build-info")
version=$("$objects/nginx" -v 2>&1 | sed 's/^nginx version: //')
rm -rf "$work"
mkdir -p "$work"

run "building $version with the module in it" build_nginx "$work/static" --add-module="$repository"
KEYSTONE_MODULE='' NGINX_BINARY=$work/static/objs/nginx \
    cargo test --locked --release -p ngx_http_keystone_module --test http -- "$@"

run "building $version without it" build_nginx "$work/plain"
nginx=$work/plain/objs/nginx
module=$vendored/release/libngx_http_keystone_module.so
for_nginx() {
    env CARGO_TARGET_DIR="$vendored" make -C "$repository" --no-print-directory BUILD="$work" TARGET="$vendored" "$@"
}
run "building the module for it" for_nginx NGINX="$nginx" NGINX_SOURCE="$work/plain"
grep -q "loads it: load_module $module;" "$work/log" || fail "it does not say that nginx loads it"

refuses 'is not an nginx' for_nginx NGINX=/bin/true NGINX_SOURCE="$work/plain"
refuses 'there is no program' for_nginx NGINX="$work/no-nginx" NGINX_SOURCE="$work/plain"
refuses 'set NGINX_SOURCE, too' for_nginx NGINX="$nginx"
refuses 'does not have the sources of nginx' for_nginx NGINX="$nginx" NGINX_SOURCE="$work"
refuses "are of $version" for_nginx NGINX=/usr/sbin/nginx NGINX_SOURCE="$work/plain"
pretend "--with-openssl='/usr/src/openssl'"
refuses 'has an OpenSSL of its own' for_nginx NGINX="$work/pretended" NGINX_SOURCE="$work/plain"
pretend --with-what-no-nginx-has
refuses "nginx's configure failed" for_nginx NGINX="$work/pretended" NGINX_SOURCE="$work/plain"
refuses 'it refuses the module' "$repository/tools/for-nginx.sh" load /usr/sbin/nginx "$module"
refuses 'but other options of configure' "$repository/tools/for-nginx.sh" load "$objects/nginx" "$module"
rm -rf "$work"
say "built, and loaded"
