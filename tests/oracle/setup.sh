#!/bin/sh
# Makes the Python environment of the oracle:
#
#     tests/oracle/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/oracle-venv at the root of the checkout. Where it
# already holds what the pins ask for, nothing happens, in a few milliseconds.
# PYTHON names another interpreter than the first Python 3.11 that is found.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=${1:-$here/../../build/oracle-venv}

fail() {
    echo "oracle: $*" >&2
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
stamp=$venv/oracle-stamp
pins=$(cat "$here/requirements-build.txt" "$here/requirements.txt" "$0" | sha256sum | cut -d' ' -f1)
wanted="$venv $pins"

up_to_date() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && is_python_311 "$venv/bin/python"
}

up_to_date && exit 0

# Only one at a time, and who waited finds the work done.
touch "$venv.lock" 2>/dev/null || fail "cannot write $venv.lock"
exec 9>"$venv.lock"
flock 9
up_to_date && exit 0

python=$(find_python) || fail "needs Python 3.11 (on Debian 12: apt-get install python3 python3-venv), or PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python cannot make virtual environments (on Debian 12: apt-get install python3-venv)"
command -v openssl >/dev/null || fail "needs the openssl command (on Debian: apt-get install openssl)"

if [ -e "$venv" ]; then
    [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] \
        || fail "$venv exists and is no virtual environment: remove it or name another directory"
    rm -rf "$venv"
fi

log=$venv.log
pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps "$@" >>"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "pip could not install keystonemiddleware 4.9.1 and its parts; is a package index in reach (PIP_INDEX_URL)? The whole output is in $log"
    }
}

echo "oracle: making $venv (keystonemiddleware 4.9.1, about half a minute)"
"$python" -m venv "$venv" >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "$python could not make a virtual environment in $venv"
}
pip_install -r "$here/requirements-build.txt"
pip_install --no-build-isolation --use-pep517 -r "$here/requirements.txt"
"$venv/bin/python" "$here/oracle.py" --version >>"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "the environment is complete but keystonemiddleware does not start in it"
}
echo "$wanted" >"$stamp"
rm -f "$log"
