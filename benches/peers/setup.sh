#!/bin/sh
# Installs what auth_token needs to be measured, besides its own environment, into a directory:
#
#     benches/peers/setup.sh DIRECTORY PYTHON
#
# PYTHON is that of an environment with pip. Where DIRECTORY already holds it, nothing happens.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
directory=$1 python=$2
stamp=$directory/requirements.txt

cmp -s "$here/requirements.txt" "$stamp" && exit 0
rm -rf "$directory"
"$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --target "$directory" \
    -r "$here/requirements.txt" || {
    echo "peers: pip could not install python-memcached; is a package index in reach (PIP_INDEX_URL)?" >&2
    exit 1
}
cp "$here/requirements.txt" "$stamp"
