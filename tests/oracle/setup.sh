#!/bin/sh
# Makes the Python environment of the oracle:
#
#     tests/oracle/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/oracle-venv at the root of the checkout. Where it
# already holds what the pins ask for, nothing happens, in a few milliseconds.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
who=oracle
venv=${1:-$here/../../build/oracle-venv}
. "$here/../venv.sh"

stamp=$venv/oracle-stamp
pins=$(cat "$here/requirements-build.txt" "$here/requirements.txt" "$0" | sha256sum | cut -d' ' -f1)
wanted="$venv $pins"

up_to_date() {
    is_stamped "$stamp" "$wanted" && is_python_311 "$venv/bin/python"
}

up_to_date && exit 0
lock_venv
up_to_date && exit 0

command -v openssl >/dev/null || fail "needs the openssl command (on Debian: apt-get install openssl)"
echo "oracle: making $venv (keystonemiddleware 4.9.1, about half a minute)"
: >"$log"
make_venv
pip_install "what keystonemiddleware 4.9.1 is built with" -r "$here/requirements-build.txt"
pip_install "keystonemiddleware 4.9.1 and its parts" --no-build-isolation --use-pep517 -r "$here/requirements.txt"
run "the environment is complete but keystonemiddleware does not start in it" \
    "$venv/bin/python" "$here/oracle.py" --version
echo "$wanted" >"$stamp"
rm -f "$log"
