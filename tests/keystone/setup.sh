#!/bin/sh
# Makes the Python environment of the real Keystone and of its oracle:
#
#     tests/keystone/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/keystone-venv at the root of the checkout. Besides
# the environment it gets a folder `cloud`: a database with everybody in it, and
# keys, of which each test takes a copy. Where all is there already, nothing
# happens, in a few milliseconds.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
who=keystone
venv=${1:-$here/../../build/keystone-venv}
. "$here/../venv.sh"

packages=$venv/keystone-stamp
edge=$here/../../contrib/keystone-edge
wanted="$venv $(cat "$here/requirements.txt" "$edge/pyproject.toml" "$edge/keystone_edge.py" "$0" | sha256sum | cut -d' ' -f1)"
people=$venv/cloud/stamp
wanted_people=$(cat "$here/requirements.txt" "$here/cloud.py" "$here/settings.py" | sha256sum | cut -d' ' -f1)

has_packages() {
    is_stamped "$packages" "$wanted" && is_python_311 "$venv/bin/python"
}

up_to_date() {
    has_packages && is_stamped "$people" "$wanted_people"
}

up_to_date && exit 0
lock_venv
up_to_date && exit 0

: >"$log"
if ! has_packages; then
    echo "keystone: making $venv (Keystone 30, keystonemiddleware 13 and Swift 2.38, about half a minute)"
    make_venv
    pip_install "Keystone and its parts" --only-binary :all: -r "$here/requirements.txt"
    # Of a copy: setuptools leaves files beside what it builds.
    rm -rf "$venv/keystone-edge" && cp -R "$edge" "$venv/keystone-edge"
    pip_install "contrib/keystone-edge" --no-build-isolation "$venv/keystone-edge"
    echo "$wanted" >"$packages"
fi

echo "keystone: making users, projects and keys (about 20 seconds)"
rm -rf "$venv/cloud" "$venv/cloud.new"
run "Keystone is installed but could not be filled" "$venv/bin/python" "$here/cloud.py" "$venv/cloud.new"
echo "$wanted_people" >"$venv/cloud.new/stamp"
mv "$venv/cloud.new" "$venv/cloud"
rm -f "$log"
