#!/bin/sh
# Fetches keystonemiddleware's tests, and what they import:
#
#     tests/suites/keystonemiddleware/setup.sh [DIRECTORY [ORACLE_VENV [KEYSTONE_VENV]]]
#
# DIRECTORY defaults to build/suites/keystonemiddleware at the root of the checkout. It gets a
# folder for each release, with the sdist and the packages. The environments are those that
# tests/oracle/setup.sh and tests/keystone/setup.sh make: the tests run with what the oracles run
# with. Where all is there already, nothing happens, in a few milliseconds.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$here/../../../build
who=suites
venv=${1:-$build/suites/keystonemiddleware}
oracle=${2:-$build/oracle-venv}
keystone=${3:-$build/keystone-venv}
# shellcheck source=tests/venv.sh
. "$here/../../venv.sh"

stamp=$venv/stamp
wanted="$oracle $keystone $(cat "$here"/*.txt "$0" | sha256sum | cut -d' ' -f1)"

is_stamped "$stamp" "$wanted" && exit 0
lock_venv
is_stamped "$stamp" "$wanted" && exit 0

# fetch RELEASE PYTHON
fetch() {
    release=$1
    python=$2
    folder=$venv/$release
    is_python_311 "$python" || fail "needs $python, which tests/oracle/setup.sh or tests/keystone/setup.sh makes"
    mkdir -p "$folder"
    run "pip could not fetch the sdist of keystonemiddleware $release" \
        "$oracle/bin/python" -m pip download --disable-pip-version-check --no-input --no-deps --no-binary :all: \
        --no-build-isolation --dest "$folder" -r "$here/$release-sdist.txt"
    run "the sdist of keystonemiddleware $release is damaged" \
        tar -x -z -C "$folder" -f "$folder/keystonemiddleware-$release.tar.gz"
    run "pip could not install what the tests of keystonemiddleware $release import" \
        "$python" -m pip install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
        --target "$folder/packages" -r "$here/$release.txt"
}

echo "suites: fetching the tests of keystonemiddleware 4.9.1 and 13.0.1"
rm -rf "$venv"
mkdir -p "$venv"
: >"$log"
fetch 4.9.1 "$oracle/bin/python"
fetch 13.0.1 "$keystone/bin/python"
echo "$wanted" >"$stamp"
rm -f "$log"
