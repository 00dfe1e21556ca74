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

# The release of this machine, by its code name.
own_release() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "$VERSION_CODENAME")
}

# make_debian RELEASE DIRECTORY: the smallest Debian of a release ("bookworm", "trixie", "sid"), from
# the mirrors of this machine's apt, without package lists. It is made once, and not changed by who
# copies it.
make_debian() {
    local release=$1 directory=$2 mirror sources
    sources=$(debian_sources "$release")
    if [ -z "$sources" ]; then
        apt-get update -qq
        sources=$(debian_sources "$release")
    fi
    mirror=$(awk -v release="$release" '$3 == release && $4 == "main" { print $2; exit }' <<<"$sources")
    [ -n "$mirror" ] || fail "this machine's apt has no mirror of Debian $(own_release)"
    if [ "$(cat "$directory.made-of" 2>/dev/null)" = "$sources" ]; then
        return
    fi
    say "making a Debian $release (half a minute)"
    rm -rf "$directory" "$directory.made-of"
    mkdir -p "$(dirname "$directory")"
    debootstrap --variant=minbase "$release" "$directory" "$mirror" >"$directory.log" 2>&1 \
        || fail "debootstrap failed: see $directory.log"
    rm -rf "$directory"/var/cache/apt/archives/*.deb "$directory"/var/lib/apt/lists/*
    echo "$sources" >"$directory/etc/apt/sources.list"
    # How this machine reaches its mirrors.
    apt-config dump | grep -E '^Acquire::(Check|Retries|http|https)' >"$directory/etc/apt/apt.conf.d/90machine" || true
    echo "$sources" >"$directory.made-of"
}

# debian_sources RELEASE: lines of a sources.list. A mirror of this machine's release has the others
# too, with their updates and security, but for sid, which has neither.
debian_sources() {
    # shellcheck disable=SC2016 # the variables are apt's
    apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' \
        | awk -v own="$(own_release)" -v release="$1" '{ suite = substr($3, length(own) + 1) }
            index($3, own) == 1 && (release != "sid" || suite == "") { $3 = release suite; print }' \
        | sort -u
}

# in_namespaces OPTION... COMMAND...: with mounts and processes that end with this script, however
# that ends (unshare ignores weaker signals). With --net, there is no network but a loopback.
in_namespaces() {
    unshare --mount --pid --fork --kill-child "$@" &
    # shellcheck disable=SC2064 # this child, whatever comes after
    trap "kill -KILL $! 2>/dev/null" EXIT
    local status=0
    wait $! || status=$?
    trap - EXIT
    return "$status"
}

# in_root COMMAND...: in the Debian that is the directory $root.
in_root() {
    # shellcheck disable=SC2154 # set by those who source this
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot "$root" "$@"
}

# begin_identity TESTBED DIRECTORY: the small identity service on port 5000, until the namespaces
# go; a token, in $token; and one whose signature was altered, in $forged.
begin_identity() {
    mkdir -p "$2"
    "$1" identity --pki "$2" --port 5000 >"$2/identity.log" 2>&1 &
    wait_for "the identity service" grep -q '^http' "$2/identity.log"
    token=$("$1" mint --pki "$2")
    # shellcheck disable=SC2034 # for those who source this
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

# The program with the tests over HTTP, which was built for this machine.
http_program() {
    cargo test --locked --release -p ngx_http_keystone_module --test http --no-run --message-format=json 2>/dev/null \
        | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
