#!/bin/sh
# Unpacks Prometheus and its promtool from Debian's package:
#
#     tests/prometheus/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/prometheus at the root of the checkout. The package is not installed,
# which would start a server. Where all is there already, nothing happens.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
directory=${1:-$here/../../build/prometheus}

fail() {
    echo "prometheus: $*" >&2
    exit 1
}

[ -x "$directory/promtool" ] && exit 0
echo "prometheus: unpacking Debian's package into $directory (19 MB to fetch)"
made=$directory.new
rm -rf "$directory" "$made"
mkdir -p "$made" || fail "cannot make $made"
cd "$made"

# The user that apt-get becomes otherwise may have no way to this directory.
fetch() {
    apt-get download -qq -o APT::Sandbox::User=root prometheus
}
fetch || { apt-get update -qq && fetch; } || fail "apt-get could not fetch the package: is the network there?"
dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/prometheus ./usr/bin/promtool
rm prometheus_*.deb
mv "$made" "$directory"
