#!/usr/bin/env bash
# Builds the Dockerfile and runs the image.
#
# usage: image.sh BUILD TESTBED
#   BUILD    a directory for all that is made
#   TESTBED  keystone-testbed
#
# There is no engine and no registry of images: buildah builds by chroot, on a Debian that debootstrap
# has made, with this machine's Rust in the first stage; what it has built is run by chroot, too.
# Mounts, processes and the network of a running image are those of namespaces that go when the
# script ends, however it ends.
set -euo pipefail
who=image.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

image=localhost/nginx-keystone
url=http://127.0.0.1:8080

prepare() {
    need_root
    make_debian "$(own_release)" "$build/debian"
    rm -rf --one-file-system "$work"
    mkdir -p "$work"
    # For the build, which has no network but for apt.
    cargo fetch --locked --manifest-path "$here/../Cargo.toml"
}

build_image() {
    base
    say "building the Dockerfile (some minutes)"
    if ! buildah build --format docker --layers=false --tag "$image" \
        --build-arg BUILDER_IMAGE=localhost/rust --build-arg RUNTIME_IMAGE=localhost/debian \
        --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
        --volume "${CARGO_HOME:-$HOME/.cargo}:/usr/local/cargo" \
        "$here/.." >"$work/build.log" 2>&1; then
        tail -n 30 "$work/build.log" >&2
        fail "the build failed: see $work/build.log"
    fi
    report
}

# The images that the two stages begin with.
base() {
    local container
    say "making the images to begin with"
    container=$(buildah from scratch)
    cp -a "$build/debian/." "$(buildah mount "$container")"
    # As Debian's images have it: nothing is started when it is installed.
    buildah run "$container" sh -c 'cd /usr/sbin && printf "#!/bin/sh\nexit 101\n" > policy-rc.d && chmod +x policy-rc.d'
    buildah commit --format docker --quiet "$container" localhost/debian >/dev/null
    buildah config --env CARGO_HOME=/usr/local/cargo --env CARGO_NET_OFFLINE=true \
        --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah commit --format docker --quiet --rm "$container" localhost/rust >/dev/null
}

report() {
    container=$(buildah from "$image")
    say "the image has $(mebibytes "$(buildah mount "$container")") MiB," \
        "of which $(mebibytes "$build/debian") are those of the Debian it began with"
}

mebibytes() {
    du -smx "$1" | cut -f 1
}

play() {
    mount -t proc proc /proc
    ip link set lo up
    container=$1
    root=$(buildah mount "$container")
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    begin_identity "$testbed" "$work/pki"

    user=$(inspect .OCIv1.Config.User)
    [ "$user" = 33:33 ] || fail "the image's user is not www-data but $user"
    for tool in gcc cargo curl; do
        ! chroot "$root" sh -c "command -v $tool" || fail "the image has $tool"
    done
    [ -z "$(ls "$root/var/lib/apt/lists")" ] || fail "the image has package lists"

    begin_container
    expect 200 "the default's /healthz" "$url/healthz"
    is_healthy || fail "the health check fails"
    expect 404 "another path" "$url/"
    end_container
    ! is_healthy || fail "the health check succeeds without nginx"

    configure
    begin_container
    expect 200 "/healthz" "$url/healthz"
    expect 401 "no token" "$url/hello.txt"
    expect 401 "a forged token" "$url/hello.txt" "$forged"
    expect 200 "a PKI token" "$url/hello.txt" "$token"
    [ "$(chroot "$root" stat -c '%a %U' /var/lib/nginx/keystone)" = "700 www-data" ] \
        || fail "/var/lib/nginx/keystone is not www-data's own"
    ! pgrep -u root -x nginx || fail "nginx runs as root"
    wait_for "the access log" grep -q 'user_id1 .* 200 .*result=ok' "$work/stdout"
    wait_for "the error log" grep -q 'refused: bad_signature' "$work/stderr"
    end_container
    say "built, and run as www-data"
}

# What an operator would mount.
configure() {
    cat >"$root/etc/nginx/conf.d/files.conf" <<END
keystone_auth_uri      http://127.0.0.1:5000;
keystone_username      gateway;
keystone_password      file:/run/keystone.password;
keystone_project_name  service;
server {
    listen 8080;
    server_name 127.0.0.1;
    root /srv/files;
    keystone_auth on;
    location = /healthz {
        keystone_auth off;
        return 200;
    }
}
END
    echo testbed-password >"$root/run/keystone.password"
    mkdir -p "$root/srv/files"
    echo protected >"$root/srv/files/hello.txt"
}

# As the image says: its user and its command.
begin_container() {
    touch "$work/stdout" "$work/stderr"
    # A container engine gives these to the user.
    chmod 666 "$work/stdout" "$work/stderr"
    local command
    mapfile -t command < <(inspect '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
    in_container "${command[@]}" >"$work/stdout" 2>"$work/stderr" &
    wait_for "nginx in the container" curl -s "$url"
}

end_container() {
    local pid_file=$root/var/lib/nginx/nginx.pid
    kill -QUIT "$(cat "$pid_file")"
    wait_for "nginx to end" test ! -e "$pid_file"
}

is_healthy() {
    local check
    mapfile -t check < <(inspect '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed -e 1d -e '/^$/d')
    in_container "${check[@]}" 2>/dev/null
}

# As the image's user, in its root.
in_container() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot --userspec="$user" "$root" "$@"
}

# inspect TEMPLATE
inspect() {
    local template=$1
    [[ $template == *'{{'* ]] || template="{{$template}}"
    buildah inspect --format "$template" "$container"
}

# buildah COMMAND: what races with itself is tried once more, and any other failure stays one.
buildah() {
    local errors=$work/buildah.errors code=0
    try_buildah "$@" 2>"$errors" || code=$?
    cat "$errors" >&2
    if [ "$code" != 0 ] && grep -q "$RACE" "$errors"; then
        say "\"buildah $1\" raced with itself: trying once more" >&2
        code=0
        try_buildah "$@" || code=$?
    fi
    return "$code"
}

try_buildah() {
    STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot command buildah \
        --root "$work/storage" --runroot "$work/run" "$@"
}

# What buildah says when its own processes disturb each other as it starts.
RACE='sealing memfd copy: Device or resource busy'

[ $# -ge 2 ] || fail "usage: image.sh BUILD TESTBED"
build=$1
testbed=$2
work=$build/image-test
case ${3-} in
    '')
        prepare
        in_namespaces "$0" "$build" "$testbed" inside
        rm -rf --one-file-system "$work"
        ;;
    inside)
        mount -t proc proc /proc
        build_image
        in_namespaces --net "$0" "$build" "$testbed" running "$container"
        ;;
    running) play "$4" ;;
esac
