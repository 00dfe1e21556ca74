#!/bin/sh
# Makes an environment that holds the schemas of Kubernetes and of Compose, for check.py:
#
#     tests/manifests/setup.sh [DIRECTORY]
#
# DIRECTORY defaults to build/manifests-venv at the root of the checkout. Where it already holds the
# version of requirements.txt, nothing happens.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
who=manifests
venv=${1:-$here/../../build/manifests-venv}
# shellcheck source=tests/venv.sh
. "$here/../venv.sh"

stamp=$venv/manifests-stamp
wanted="$venv $(cat "$here/requirements.txt" "$0" | sha256sum | cut -d' ' -f1)"

is_stamped "$stamp" "$wanted" && exit 0
lock_venv
is_stamped "$stamp" "$wanted" && exit 0

echo "manifests: making $venv (26 MB to fetch)"
: >"$log"
make_venv
pip_install "the schemas" --only-binary :all: --require-hashes -r "$here/requirements.txt"
run "the schemas are installed but cannot be read" "$venv/bin/python" -c "import kubernetes_validate"
echo "$wanted" >"$stamp"
rm -f "$log"
