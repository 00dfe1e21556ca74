# For the scripts that need a clean Debian, which source this with `who`, the first word of what
# they say, set.

fail() {
    echo "$who: $*" >&2
    exit 1
}

say() {
    echo "$who: $*"
}

need_root() {
    [ "$(id -u)" = 0 ] || fail "only root can do this: it makes a Debian in a directory, and goes there by chroot"
    unshare --mount --net --pid --fork true 2>/dev/null \
        || fail "there is no leave to make namespaces here; in a container, it would have to be a privileged one"
}

# make_debian DIRECTORY: the smallest Debian of this machine's release, from the mirrors of this
# machine's apt, without package lists. It is made once, and not changed by who copies it.
make_debian() {
    local codename mirror sources
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    sources=$(debian_sources)
    if [ -z "$sources" ]; then
        apt-get update -qq
        sources=$(debian_sources)
    fi
    mirror=$(awk -v codename="$codename" '$3 == codename && $4 == "main" { print $2; exit }' <<<"$sources")
    [ -n "$mirror" ] || fail "this machine's apt has no mirror of Debian $codename"
    if [ "$(cat "$1.made-of" 2>/dev/null)" = "$sources" ]; then
        return
    fi
    say "making a Debian $codename (half a minute)"
    rm -rf "$1" "$1.made-of"
    debootstrap --variant=minbase "$codename" "$1" "$mirror" >"$1.log" 2>&1 \
        || fail "debootstrap failed: see $1.log"
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
    echo "$sources" >"$1/etc/apt/sources.list"
    # How this machine reaches its mirrors.
    apt-config dump | grep -E '^Acquire::(Check|Retries|http|https)' >"$1/etc/apt/apt.conf.d/90machine" || true
    echo "$sources" >"$1.made-of"
}

# As lines of a sources.list.
debian_sources() {
    # shellcheck disable=SC2016 # the variables are apt's
    apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u
}

# in_namespaces OPTION... COMMAND...: with mounts and processes that end with this script, however
# that ends (unshare ignores weaker signals). With --net, there is no network but a loopback.
in_namespaces() {
    unshare --mount --pid --fork --kill-child "$@" &
    # shellcheck disable=SC2064 # this child, whatever comes after
    trap "kill -KILL $! 2>/dev/null" EXIT
    wait $!
    trap - EXIT
}

# begin_identity TESTBED DIRECTORY: the small identity service on port 5000, until the namespaces
# go; a token, in $token; and one whose signature was altered, in $forged.
begin_identity() {
    mkdir -p "$2"
    "$1" identity --pki "$2" --port 5000 >"$2/identity.log" 2>&1 &
    wait_for "the identity service" grep -q '^http' "$2/identity.log"
    token=$("$1" mint --pki "$2")
    forged=${token:0:-24}AAAA${token: -20}
}

# wait_for WHAT COMMAND...: tries it for ten seconds.
wait_for() {
    local what=$1
    shift
    for _ in {1..100}; do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    fail "timed out waiting for $what"
}

# status URL [TOKEN]: what the answer's status is.
status() {
    curl -s -o /dev/null -m 10 -w '%{http_code}\n' ${2:+-H "X-Auth-Token: $2"} "$1" || true
}

# expect STATUS WHAT URL [TOKEN]
expect() {
    local got
    got=$(status "$3" "${4-}")
    [ "$got" = "$1" ] || fail "$2 got $got, not $1"
    say "$2 got $got"
}
