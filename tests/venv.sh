# For the scripts that make a Python environment for tests, which source this with `who`, the first
# word of what they say, and `venv`, the directory, set. PYTHON names another interpreter than the
# first Python 3.11 that is found.

fail() {
    echo "$who: $*" >&2
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

# is_stamped FILE TEXT: whether what the file stands for was made as the text says.
is_stamped() {
    [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]
}

# Only one at a time, and who waited finds the work done.
lock_venv() {
    touch "$venv.lock" 2>/dev/null || fail "cannot write $venv.lock"
    exec 9>"$venv.lock"
    flock 9
}

# run COMPLAINT COMMAND...: its output is of interest only if it fails.
run() {
    complaint=$1
    shift
    "$@" >>"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "$complaint. The whole output is in $log"
    }
}

# An empty environment, in place of one of before.
make_venv() {
    python=$(find_python) || fail "needs Python 3.11 (on Debian 12: apt-get install python3 python3-venv), or PYTHON=/path/to/python3.11"
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
        || fail "$python cannot make virtual environments (on Debian 12: apt-get install python3-venv)"
    if [ -e "$venv" ]; then
        [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] \
            || fail "$venv exists and is no virtual environment: remove it or name another directory"
        rm -rf "$venv"
    fi
    run "$python could not make a virtual environment in $venv" "$python" -m venv "$venv"
}

# pip_install WHAT OPTIONS...
pip_install() {
    what=$1
    shift
    run "pip could not install $what; is a package index in reach (PIP_INDEX_URL)?" \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps "$@"
}

mkdir -p "$(dirname -- "$venv")" || fail "cannot make the directory of $venv"
venv=$(CDPATH='' cd -- "$(dirname -- "$venv")" && pwd)/$(basename -- "$venv")
log=$venv.log
