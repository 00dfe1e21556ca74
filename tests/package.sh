#!/usr/bin/env bash
# Installs, uses, upgrades, removes and purges the Debian package in a clean Debian.
#
# usage: package.sh BUILD TESTBED [RELEASE PACKAGE]
#   BUILD    the directory where the Debian is made
#   TESTBED  keystone-testbed
#   RELEASE  the code name of the Debian: without it, this machine's
#   PACKAGE  the directory with the .deb for it: without it, BUILD/package
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
documents=/usr/share/doc/$name
signing_dir=/var/lib/nginx/keystone
url=http://127.0.0.1
# curl and openssl are what debian/tests needs, and dpkg-dev what autopkgtest needs for a source package.
packages=(nginx curl openssl autopkgtest dpkg-dev)

prepare() {
    need_root
    make_debian "$release" "$debian"
    set -- "$package"/${name}_*.deb
    if [ $# != 1 ] || [ ! -e "$1" ]; then
        fail "$package does not hold one $name: run make package"
    fi
    is_for_release "$1"

    say "lintian"
    lintian --allow-root --fail-on error,warning "$package"/*.changes

    rm -rf --one-file-system "$work"
    mkdir -p "$work"
    cp -a "$debian" "$root"
    cp "$1" "$root/srv/$name.deb"
    cp -r "$here/../debian" "$work/source"
    build_version_before "$1"

    say "downloading nginx"
    in_root apt-get update -qq
    apt_get install --simulate "/srv/$name.deb" >"$work/simulated"
    grep -q '^Inst nginx ' "$work/simulated" || fail "the package does not depend on nginx"
    apt_get install --download-only "${packages[@]}" "/srv/$name.deb" >"$work/download.log" 2>&1 \
        || fail "see $work/download.log"
}

is_for_release() {
    local version suffix
    version=$(dpkg-deb --field "$1" Version)
    # shellcheck source=/dev/null
    suffix=~deb$(. "$debian/etc/os-release" && echo "$VERSION_ID")
    [[ $version == *"$suffix" ]] || fail "the version for $release is $version, which does not end with $suffix"
    say "the package has version $version"
}

# A package of before, whose files are others: a module that calls itself another version, pages with
# other words, one that there is no more, and none yet of those that are new.
build_version_before() {
    local tree=$work/before version
    dpkg-deb --raw-extract "$1" "$tree"
    version=$(version_of "$tree/DEBIAN/control")
    sed -i 's/^Version: .*/&~before/' "$tree/DEBIAN/control"
    perl -pi -e "s/\\Q$version\\E/$(before <<<"$version")/g" "$tree$module"
    echo "What the version before says." >"$tree$documents/README.md"
    echo "What only the version before has." >"$tree$documents/docs/before.md"
    rm "$tree$documents/docs/troubleshooting.md"
    dpkg-deb --root-owner-group --build "$tree" "$root/srv/$name-before.deb" >/dev/null
    rm -rf "$tree"
}

# Of this project, of a control file.
version_of() {
    sed -n 's/^Version: \([^-]*\)-.*/\1/p' "$1"
}

# Another version, of as many bytes.
before() {
    tr 0123456789 9012345678
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

    apt "nginx is installed" install "${packages[@]}"
    wait_for "nginx" curl -s "$url"
    files >"$work/files-before"

    version=$(dpkg-deb --field "$root/srv/$name.deb" Version | cut -d- -f1)
    apt "the package of before is installed" install "/srv/$name-before.deb"
    is_enabled
    in_root nginx -t 2>/dev/null || fail "nginx -t fails after the installation"
    wait_for "nginx to load the module" is_loaded

    configure
    in_root service nginx restart >/dev/null
    wait_for "nginx" curl -s "$url"
    expect 401 "no token" "$url/hello.txt"
    expect 401 "a forged token" "$url/hello.txt" "$forged"
    expect 200 "a PKI token" "$url/hello.txt" "$token"
    expect 200 "a public file without a token" "$url/public/hello.txt"
    [ "$(in_root stat -c '%a %U' "$signing_dir")" = "700 www-data" ] || fail "$signing_dir is not the workers' own"

    upgrade
    read_documents
    consult_doctor
    remove
    test_as_debian_does
    purge
    say "installed, used, upgraded, removed and purged, in Debian $release"
}

# As an operator would: from page to page, and the dashboard into Grafana.
read_documents() {
    local documents=$root$documents page target
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
    local asker
    runs "$(before <<<"$version")" || fail "nginx does not run the module of before"
    ask_on >"$work/asked" &
    asker=$!
    apt "the package is upgraded" install "/srv/$name.deb"
    is_enabled
    wait_for "nginx to load the new module" is_loaded
    sleep 1
    kill "$asker"
    wait "$asker" 2>/dev/null || true
    [ "$(sort -u "$work/asked")" = 200 ] || fail "answers during the upgrade: $(sort "$work/asked" | uniq -c | xargs)"
    say "all of $(wc -l <"$work/asked") requests during the upgrade got 200"
    wait_for "nginx to run the new module" runs "$version"
    dpkg-deb --fsys-tarfile "$root/srv/$name.deb" >"$work/new.tar"
    tar --compare --file "$work/new.tar" --directory "$root" || fail "not all files are those of the new package"
    [ ! -e "$root$documents/docs/before.md" ] || fail "a file that only the version before has is still there"
}

# runs VERSION: whether nginx says that its module is of this version.
runs() {
    curl -s -m 10 "$url/keystone_status" | grep -qF "\"version\":\"$1\""
}

ends_with_its_test() {
    ! pgrep -f 'nginx -c /tmp'
}

# By the tests that the source package has, as Debian runs them.
test_as_debian_does() {
    mkdir "$root/srv/source"
    cp -r "$work/source" "$root/srv/source/debian"
    in_root env PYTHONDONTWRITEBYTECODE=1 autopkgtest --no-built-binaries /srv/source/ -- null >"$work/autopkgtest.log" 2>&1 \
        || { tail -n 40 "$work/autopkgtest.log" >&2; fail "autopkgtest fails"; }
    grep -q '^gateway  *PASS' "$work/autopkgtest.log" || fail "autopkgtest does not run debian/tests/gateway"
    wait_for "the nginx of debian/tests to end" ends_with_its_test
    say "autopkgtest passes"
    rm -r "$root/srv/source"
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

# All names but those of processes, and of the records that apt, dpkg and debconf keep.
files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./run -o -path ./tmp -o -path ./var/lib/dpkg \
        -o -path ./var/lib/apt -o -path ./var/cache/apt -o -path ./var/cache/debconf \) -prune -o -print | sort)
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

[ $# -ge 2 ] || fail "usage: package.sh BUILD TESTBED [RELEASE PACKAGE]"
build=$1
testbed=$2
release=${3:-$(own_release)}
package=${4:-$build/package}
debian=$build/debian-$release
work=$build/package-test-$release
root=$work/root
case ${5-} in
    '')
        prepare
        in_namespaces --net "$0" "$build" "$testbed" "$release" "$package" inside
        rm -rf --one-file-system "$work"
        ;;
    inside) play ;;
esac
