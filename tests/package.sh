#!/usr/bin/env bash
# Installs, uses, upgrades, removes and purges the Debian package in a clean Debian.
#
# usage: package.sh BUILD TESTBED
#   BUILD    the directory with package/*.deb, where the Debian is made too
#   TESTBED  keystone-testbed
#
# The Debian is a directory, entered by chroot, in namespaces of its own for mounts, processes and
# the network: nginx can be started there as on a machine of its own, and all of it goes when the
# script ends, however it ends. apt has no network there, so what it needs is downloaded before.
set -euo pipefail
who=package.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

name=libnginx-mod-http-keystone
link=/etc/nginx/modules-enabled/50-mod-http-keystone.conf
module=/usr/lib/nginx/modules/ngx_http_keystone_module.so
signing_dir=/var/lib/nginx/keystone
url=http://127.0.0.1

prepare() {
    need_root
    set -- "$build"/package/${name}_*.deb
    if [ $# != 1 ] || [ ! -e "$1" ]; then
        fail "$build/package does not hold one $name: run make package"
    fi

    say "lintian"
    lintian --allow-root --fail-on error,warning "$build"/package/*.changes

    make_debian "$(own_release)" "$build/debian"
    rm -rf --one-file-system "$work"
    mkdir -p "$work"
    cp -a "$build/debian" "$root"
    cp "$1" "$root/srv/$name.deb"
    build_higher_version "$1"

    say "downloading nginx"
    in_root apt-get update -qq
    apt_get install --simulate "/srv/$name.deb" >"$work/simulated"
    grep -q '^Inst nginx ' "$work/simulated" || fail "the package does not depend on nginx"
    apt_get install --download-only nginx "/srv/$name.deb" >"$work/download.log" 2>&1 || fail "see $work/download.log"
}

# The same content as another version: apt need not know that nothing has changed.
build_higher_version() {
    local tree=$work/higher
    dpkg-deb --raw-extract "$1" "$tree"
    sed -i 's/^Version: .*/&+test1/' "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$root/srv/$name-higher.deb" >/dev/null
    rm -rf "$tree"
}

play() {
    mount -t proc proc /proc
    mount -t proc proc "$root/proc"
    mount -t devpts devpts "$root/dev/pts"
    ip link set lo up
    # Services are started as on a machine, though there is no init.
    printf '#!/bin/sh\nexit 0\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"

    begin_identity "$testbed" "$work/pki"
    mkdir -p "$root/srv/files/public"
    echo protected >"$root/srv/files/hello.txt"
    echo public >"$root/srv/files/public/hello.txt"
    echo testbed-password >"$root/etc/keystone.password"

    apt "nginx is installed" install nginx
    wait_for "nginx" curl -s "$url"
    files >"$work/files-before"

    apt "the package is installed" install "/srv/$name.deb"
    is_enabled
    read_documents
    in_root nginx -t 2>/dev/null || fail "nginx -t fails after the installation"
    wait_for "nginx to load the module" is_loaded

    configure
    in_root service nginx restart >/dev/null
    wait_for "nginx" curl -s "$url"
    expect 401 "no token" "$url/hello.txt"
    expect 401 "a forged token" "$url/hello.txt" "$forged"
    expect 200 "a PKI token" "$url/hello.txt" "$token"
    expect 200 "a public file without a token" "$url/public/hello.txt"
    consult_doctor
    [ "$(in_root stat -c '%a %U' "$signing_dir")" = "700 www-data" ] || fail "$signing_dir is not the workers' own"

    upgrade
    remove
    purge
    say "installed, used, upgraded, removed and purged"
}

# As an operator would: from page to page, and the dashboard into Grafana.
read_documents() {
    local documents=$root/usr/share/doc/$name page target
    perl -MJSON::PP -0777 -ne 'decode_json($_)' "$documents/docs/grafana/keystone.json" \
        || fail "the dashboard is no JSON"
    [ -s "$documents/docs/prometheus/alerts.yml" ] || fail "there are no alert rules"
    find "$documents" -name '*.md' | while read -r page; do
        # A page may be without one.
        { grep -oE '\]\([^)#:]+' "$page" || true; } | cut -c3- | while read -r target; do
            case $target in
                # The sources are not part of it, nor what is for those who change them.
                https | *.rs | *.sh | ../src/* | ../tests/* | *CONTRIBUTING.md | LICENSE) ;;
                *) [ -e "$(dirname "$page")/$target" ] || fail "${page#"$root"} leads to $target, which is not there" ;;
            esac
        done
    done
    say "the documents are whole"
}

consult_doctor() {
    in_root keystone-doctor --help >/dev/null || fail "keystone-doctor does not run"
    in_root keystone-doctor check >"$work/doctor.log" || fail "keystone-doctor finds fault: $(<"$work/doctor.log")"
    in_root keystone-doctor token <<<"$token" >"$work/doctor.log" || fail "it would refuse: $(<"$work/doctor.log")"
    in_root test -e /usr/share/man/man1/keystone-doctor.1.gz || fail "there is no man page"
    say "keystone-doctor finds all well"
}

configure() {
    cp "$root/etc/nginx/nginx.conf" "$work/nginx.conf"
    sed -e 's#https://identity.example.com:5000#http://127.0.0.1:5000#' \
        -e 's#/etc/nginx/keystone.password#/etc/keystone.password#' \
        -e 's#^load_module .*#include /etc/nginx/modules-enabled/*.conf;#' \
        "$here/../nginx-conf/static-files.conf" >"$root/etc/nginx/nginx.conf"
}

# While requests come in, none of which may notice.
upgrade() {
    local inode asker
    inode=$(stat -c %i "$root$module")
    ask_on >"$work/asked" &
    asker=$!
    apt "the package is upgraded" install "/srv/$name-higher.deb"
    [ "$(stat -c %i "$root$module")" != "$inode" ] || fail "the upgrade has not replaced the module"
    is_enabled
    wait_for "nginx to load the new module" is_loaded
    sleep 1
    kill "$asker"
    wait "$asker" 2>/dev/null || true
    [ "$(sort -u "$work/asked")" = 200 ] || fail "answers during the upgrade: $(sort "$work/asked" | uniq -c | xargs)"
    say "all of $(wc -l <"$work/asked") requests during the upgrade got 200"
}

ask_on() {
    while sleep 0.02; do
        status "$url/hello.txt" "$token"
    done
}

# With the configuration still there, which nginx cannot read any more: it runs on as it is.
remove() {
    apt "the package is removed" remove "$name"
    [ ! -L "$root$link" ] || fail "$link is still there"
    expect 200 "a PKI token" "$url/hello.txt" "$token"
    cp "$work/nginx.conf" "$root/etc/nginx/nginx.conf"
    in_root nginx -t 2>/dev/null || fail "nginx -t fails after the removal"
    in_root service nginx restart >/dev/null
    wait_for "nginx" curl -s "$url"

    apt "the package is installed again" install "/srv/$name.deb"
    is_enabled
    [ -d "$root$signing_dir" ] || fail "$signing_dir went with the removal"
}

purge() {
    apt "the package is purged" purge "$name"
    in_root nginx -t 2>/dev/null || fail "nginx -t fails after the purge"
    files >"$work/files-after"
    diff "$work/files-before" "$work/files-after" >&2 || fail "that is what the package has left or taken"
}

is_enabled() {
    in_root test -L "$link" -a -e "$link" || fail "$link is not there, or leads nowhere"
}

# Whether every process of nginx has the module that is there now, and none one that was replaced.
is_loaded() {
    local pids pid maps
    pids=$(pgrep -x nginx) || return 1
    for pid in $pids; do
        maps=$(grep -F "$module" "/proc/$pid/maps") || return 1
        ! grep -q '(deleted)' <<<"$maps" || return 1
    done
}

# All names but those of processes, and of the records that apt and dpkg keep.
files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./run -o -path ./tmp -o -path ./var/lib/dpkg \
        -o -path ./var/lib/apt -o -path ./var/cache/apt \) -prune -o -print | sort)
}

# apt WHAT ARGUMENTS...: what has been downloaded will do.
apt() {
    say "$1"
    shift
    if ! apt_get "$@" >"$work/apt.log" 2>&1; then
        tail -n 20 "$work/apt.log" >&2
        fail "apt-get $* failed"
    fi
}

apt_get() {
    in_root env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends "$@"
}

in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot "$root" "$@"
}

[ $# -ge 2 ] || fail "usage: package.sh BUILD TESTBED"
build=$1
testbed=$2
work=$build/package-test
root=$work/root
case ${3-} in
    '')
        prepare
        in_namespaces --net "$0" "$build" "$testbed" inside
        rm -rf --one-file-system "$work"
        ;;
    inside) play ;;
esac
