#!/bin/sh
# Fetches the sdists of Swift and of python-swiftclient, for the tests in them:
#
#     tests/suites/swift/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/suites/swift at the root of the checkout, and gets
# the folders `swift` and `python-swiftclient`. pip comes from the environment of
# tests/keystone/setup.sh, build/keystone-venv or KEYSTONE_VENV. Where all is there
# already, nothing happens.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
who=suite-swift
venv=${1:-$here/../../../build/suites/swift}
# shellcheck source=tests/venv.sh
. "$here/../../venv.sh"

python=${KEYSTONE_VENV:-$here/../../../build/keystone-venv}/bin/python
stamp=$venv/stamp
wanted=$(cat "$here/requirements.txt" "$here/build-constraints.txt" "$0" | sha256sum | cut -d' ' -f1)

is_stamped "$stamp" "$wanted" && exit 0
lock_venv
is_stamped "$stamp" "$wanted" && exit 0
[ -x "$python" ] || fail "needs the environment of tests/keystone/setup.sh ($python does not exist)"

: >"$log"
echo "suite-swift: fetching the sources of Swift and python-swiftclient"
rm -rf "$venv"
mkdir -p "$venv/sdists"
run "pip could not download the sdists; is a package index in reach (PIP_INDEX_URL)?" \
    env PIP_CONSTRAINT="$here/build-constraints.txt" "$python" -m pip download --disable-pip-version-check --no-input \
    --no-deps --no-binary :all: --require-hashes -r "$here/requirements.txt" -d "$venv/sdists"
for sdist in "$venv"/sdists/*.tar.gz; do
    name=$(basename "${sdist%-*}" | tr _ -)
    mkdir "$venv/$name"
    run "$sdist could not be unpacked" tar -xzf "$sdist" -C "$venv/$name" --strip-components=1
done
rm -rf "$venv/sdists"
echo "$wanted" >"$stamp"
rm -f "$log"
