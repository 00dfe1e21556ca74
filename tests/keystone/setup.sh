#!/bin/sh
# Makes the Python environment of the real Keystone and of its oracle:
#
#     tests/keystone/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/keystone-venv at the root of the checkout. Besides
# the environment it gets a folder `cloud`: a database with everybody in it, and
# keys, of which each test takes a copy. Where all is there already, nothing
# happens, in a few milliseconds.
# PYTHON names another interpreter than the first Python 3.11 that is found.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=${1:-$here/../../build/keystone-venv}

fail() {
    echo "keystone: $*" >&2
    exit 1
}

is_python_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-/usr/bin/python3 python3.11 python3}; do
        if is_python_311 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

mkdir -p "$(dirname -- "$venv")" || fail "cannot make the directory of $venv"
venv=$(CDPATH='' cd -- "$(dirname -- "$venv")" && pwd)/$(basename -- "$venv")
packages=$venv/keystone-stamp
wanted="$venv $(cat "$here/requirements.txt" "$0" | sha256sum | cut -d' ' -f1)"
people=$venv/cloud/stamp
wanted_people=$(cat "$here/requirements.txt" "$here/cloud.py" "$here/settings.py" | sha256sum | cut -d' ' -f1)

is_stamped() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

up_to_date() {
    is_stamped "$packages" "$wanted" && is_stamped "$people" "$wanted_people" && is_python_311 "$venv/bin/python"
}

up_to_date && exit 0

# Only one at a time, and who waited finds the work done.
touch "$venv.lock" 2>/dev/null || fail "cannot write $venv.lock"
exec 9>"$venv.lock"
flock 9
up_to_date && exit 0

log=$venv.log
: >"$log"

run() {
    complaint=$1
    shift
    "$@" >>"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "$complaint. The whole output is in $log"
    }
}

if ! is_stamped "$packages" "$wanted" || ! is_python_311 "$venv/bin/python"; then
    python=$(find_python) || fail "needs Python 3.11 (on Debian 12: apt-get install python3 python3-venv), or PYTHON=/path/to/python3.11"
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
        || fail "$python cannot make virtual environments (on Debian 12: apt-get install python3-venv)"
    if [ -e "$venv" ]; then
        [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] \
            || fail "$venv exists and is no virtual environment: remove it or name another directory"
        rm -rf "$venv"
    fi
    echo "keystone: making $venv (Keystone 30 and keystonemiddleware 13, about half a minute)"
    run "$python could not make a virtual environment in $venv" "$python" -m venv "$venv"
    run "pip could not install Keystone and its parts; is a package index in reach (PIP_INDEX_URL)?" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
        -r "$here/requirements.txt"
    echo "$wanted" >"$packages"
fi

echo "keystone: making users, projects and keys (about 20 seconds)"
rm -rf "$venv/cloud" "$venv/cloud.new"
run "Keystone is installed but could not be filled" "$venv/bin/python" "$here/cloud.py" "$venv/cloud.new"
echo "$wanted_people" >"$venv/cloud.new/stamp"
mv "$venv/cloud.new" "$venv/cloud"
rm -f "$log"
