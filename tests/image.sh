#!/usr/bin/env bash
# Builds the images of the Dockerfile and runs them.
#
# usage: image.sh BUILD TESTBED TARGET
#   BUILD    a directory for all that is made
#   TESTBED  keystone-testbed
#   TARGET   cargo's target directory for the release of the image, which is kept between builds
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
identity_image=localhost/nginx-keystone-demo-identity
tools=localhost/tools
url=http://127.0.0.1:8080

prepare() {
    need_root
    make_debian "$release" "$debian"
    rm -rf --one-file-system "$work"
    mkdir -p "$work" "$target"
    # For the build, which has no network but for apt.
    cargo fetch --locked --manifest-path "$here/../Cargo.toml"
}

build_images() {
    base
    build "the tools" --target tools --tag "$tools"
    # They begin with the tools as well, so what the first stage would install is there already.
    build "the gateway" --tag "$image" --build-arg BUILDER_IMAGE="$tools"
    build "the identity service of compose.yaml" --target demo-identity --tag "$identity_image" --build-arg BUILDER_IMAGE="$tools"
    report
}

# build WHAT OPTION...
build() {
    local log=$work/build.log
    say "building $1"
    shift
    if ! buildah build --format docker --layers=false \
        --build-arg BUILDER_IMAGE=localhost/rust --build-arg RUNTIME_IMAGE=localhost/debian \
        --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
        --volume "${CARGO_HOME:-$HOME/.cargo}:/usr/local/cargo" \
        --volume "$target:/src/target" \
        "$@" "$here/.." >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "the build failed: see $log"
    fi
}

# The images that the stages begin with.
base() {
    local container
    say "making the images to begin with"
    container=$(buildah from scratch)
    cp -a "$debian/." "$(buildah mount "$container")"
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
        "of which $(mebibytes "$debian") are those of the Debian it began with"
}

mebibytes() {
    du -smx "$1" | cut -f 1
}

# The gateway's image, by itself.
play() {
    mount -t proc proc /proc
    ip link set lo up
    begin_identity "$testbed" "$work/pki"
    container=$1
    image_root=$(buildah mount "$container")

    [ "$(inspect .OCIv1.Config.User)" = 33:33 ] || fail "the image's user is not www-data but $(inspect .OCIv1.Config.User)"
    for tool in gcc cargo curl; do
        ! chroot "$image_root" sh -c "command -v $tool" || fail "the image has $tool"
    done
    [ -z "$(ls "$image_root/var/lib/apt/lists")" ] || fail "the image has package lists"

    as_it_is
    mkdir -p "$image_root/srv/files"
    echo protected >"$image_root/srv/files/hello.txt"
    echo testbed-password >"$image_root/srv/keystone.password"
    gateway_of_files >"$image_root/etc/nginx/conf.d/files.conf"
    as_configured
    as_another_user
    ends_gracefully
    as_in_kubernetes
    say "built, and run as www-data and as others"
}

# As the engine starts it when nothing is mounted.
as_it_is() {
    open_root plain
    begin_container
    expect 200 "the default's /healthz" "$url/healthz"
    is_healthy || fail "the health check fails"
    expect 404 "another path" "$url/"
    end_container
    ! is_healthy || fail "the health check succeeds without nginx"
    ! in_container KEYSTONE_LOG=xml "${entrypoint[@]}" true 2>"$work/stderr" || fail "KEYSTONE_LOG=xml is accepted"
    grep -q 'must be "text" or "json", not "xml"' "$work/stderr" || fail "KEYSTONE_LOG=xml: $(<"$work/stderr")"
}

# What an operator would mount.
gateway_of_files() {
    cat <<END
keystone_auth_uri      http://127.0.0.1:5000;
keystone_username      gateway;
keystone_password      file:/srv/keystone.password;
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
    location /slow/ {
        alias /srv/files/;
        limit_rate 200k;
    }
    location /upload/ {
        # Larger ones, whose bodies nginx writes to its directory.
        client_body_in_file_only clean;
        proxy_pass http://127.0.0.1:8080/healthz;
    }
}
END
}

as_configured() {
    open_root configured
    begin_container
    expect 200 "/healthz" "$url/healthz"
    ask_for_files
    [ "$(chroot "$root" stat -c '%a %U' /var/lib/nginx/keystone)" = "700 www-data" ] \
        || fail "/var/lib/nginx/keystone is not www-data's own"
    ! pgrep -u root -x nginx || fail "nginx runs as root"
    wait_for "the access log" grep -q 'user_id1 .* 200 .*result=ok' "$work/stdout"
    wait_for "the error log" grep -q 'refused: bad_signature' "$work/stderr"
    end_container
    find "$root/var/lib/nginx" -mindepth 1 -delete
}

ask_for_files() {
    expect 401 "no token" "$url/hello.txt"
    expect 401 "a forged token" "$url/hello.txt" "$forged"
    expect 200 "a PKI token" "$url/hello.txt" "$token"
    [ "$(curl -s -o /dev/null -w '%{http_code}' -H "X-Auth-Token: $token" -d body "$url/upload/")" = 200 ] \
        || fail "a body cannot be written: $(tail -n 3 "$work/stderr")"
}

# As OpenShift does: a number that nobody has, of group 0. With the log as JSON.
as_another_user() {
    open_root another
    user=1000650000:0
    begin_container KEYSTONE_LOG=json
    ask_for_files
    [ "$(stat -c '%a %u' "$root/var/lib/nginx/keystone")" = "700 1000650000" ] || fail "the signing directory is not the user's own"
    wait_for "the access log" grep -q '"result":"ok"' "$work/stdout"
    perl -MJSON::PP -ne 'my $line = decode_json($_); $line->{result} ne "ok" or $line->{status} == 200
        && $line->{user_id} eq "user_id1" && $line->{bytes} >= 0 && $line->{seconds} >= 0 or die $_' "$work/stdout" \
        || fail "the access log is not of JSON"
    end_container
    find "$root/var/lib/nginx" -mindepth 1 -delete
    say "run as another user, with JSON in the log"
}

# SIGQUIT, which is what the image asks its engine for, cuts nothing off.
ends_gracefully() {
    open_root graceful
    [ "$(inspect .Docker.Config.StopSignal)" = SIGQUIT ] || fail "the image asks for another signal"
    head -c 1500000 /dev/zero >"$image_root/srv/files/large"
    begin_container
    curl -s -m 30 -o "$work/large" -H "X-Auth-Token: $token" "$url/slow/large" &
    local client=$!
    wait_for "the download to begin" test -s "$work/large"
    kill -QUIT "$nginx"
    ! wait_for_end 1 || fail "nginx ended before the download"
    ! curl -s -o /dev/null "$url/healthz" || fail "nginx takes new requests"
    wait "$client" || fail "SIGQUIT cuts a download off"
    cmp -s "$work/large" "$image_root/srv/files/large" || fail "the download is not whole"
    wait "$nginx" || fail "nginx ends with $?"
    find "$root/var/lib/nginx" -mindepth 1 -delete
    say "SIGQUIT let a download end"
}

# contrib/kubernetes: what its ConfigMap has, a root that cannot be written to, an emptyDir.
as_in_kubernetes() {
    rm "$image_root/etc/nginx/conf.d/files.conf"
    mkdir -p "$image_root/run/secrets/keystone"
    install -g 33 -m 0440 "$image_root/srv/keystone.password" "$image_root/run/secrets/keystone/password"
    "$venv/bin/python" -B "$here/manifests/check.py" configuration \
        | sed -e 's#https://identity.example.com:5000#http://127.0.0.1:5000#' -e 's#http://files:8000#http://127.0.0.1:8080/healthz#' \
            >"$image_root/etc/nginx/conf.d/gateway.conf"
    open_root kubernetes
    mount -t tmpfs -o mode=0777 none "$root/var/lib/nginx"
    seal_root
    begin_container KEYSTONE_LOG=json
    local name=(-H 'Host: files.example.com')
    [ "$(curl -s -o /dev/null -w '%{http_code}' "${name[@]}" "$url/")" = 401 ] || fail "no token passes in Kubernetes"
    [ "$(curl -s -o /dev/null -w '%{http_code}' "${name[@]}" -H "X-Auth-Token: $token" "$url/")" = 200 ] || fail "a PKI token does not pass in Kubernetes"
    expect 200 "the probes' /healthz" "$url/healthz"
    curl -s -H 'Accept: text/plain' http://127.0.0.1:8081/keystone_status | grep -q '^keystone_' || fail "Prometheus gets no metrics"
    end_container
    say "run with a read-only root, as Kubernetes does"
}

# compose.yaml: its three services, here with one network for all.
play_compose() {
    mount -t proc proc /proc
    ip link set lo up
    container=$1
    image_root=$(buildah mount "$container")
    echo '127.0.0.1 localhost upstream' >"$image_root/etc/hosts"
    touch "$image_root/etc/nginx/conf.d/gateway.conf"

    open_root upstream
    mount --bind "$here/../docker/demo/upstream.conf" "$root/etc/nginx/nginx.conf"
    mount -t tmpfs -o mode=1777 none "$root/var/lib/nginx"
    seal_root
    url=http://127.0.0.1:8000 begin_container

    open_root gateway
    mount --bind "$here/../docker/demo/gateway.conf" "$root/etc/nginx/conf.d/gateway.conf"
    mount -t tmpfs -o mode=1777 none "$root/var/lib/nginx"
    seal_root
    begin_container KEYSTONE_LOG=json

    container=$(buildah from "$identity_image")
    image_root=$(buildah mount "$container")
    open_root identity
    mount -t tmpfs -o mode=1777 none "$root/tmp"
    seal_root
    url=http://127.0.0.1:5000 begin_container

    token=$(in_container keystone-testbed mint --pki /tmp/pki)
    expect 401 "no token in the demo" "$url/"
    [ "$(curl -s -H "X-Auth-Token: $token" "$url/")" = "Hello user_name1 of project tenant_name1, with the roles role1,role2." ] \
        || fail "the demo says $(curl -s -i -H "X-Auth-Token: $token" "$url/")"
    expect 200 "the demo's identity service" "$url/identity/v3"
    curl -s -d "{\"token\": \"$token\"}" "$url/identity/testbed/revoke" >/dev/null
    wait_for "the revoked token to be refused" refuses "$token"
    say "the services of compose.yaml do what it says"
}

refuses() {
    sleep 1
    [ "$(status "$url/" "$1")" = 401 ]
}

# open_root NAME: the image's root for one container, $root, with what an engine mounts there. It
# runs with the image's user and command.
open_root() {
    root=$work/$1
    mkdir -p "$root"
    mount --bind "$image_root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    user=$(inspect .OCIv1.Config.User)
    mapfile -t entrypoint < <(inspect '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' | sed '/^$/d')
    mapfile -t command < <(inspect '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
}

# From now on, only what is mounted in it can be written to.
seal_root() {
    mount -o remount,ro,bind "$root"
    ! touch "$root/etc/written" 2>/dev/null || fail "the root is not read-only"
}

# begin_container [NAME=VALUE...]: with these in its environment.
begin_container() {
    : >"$work/stdout"
    : >"$work/stderr"
    # A container engine gives these to the user.
    chmod 666 "$work/stdout" "$work/stderr"
    enter "$@" "${entrypoint[@]}" "${command[@]}" >>"$work/stdout" 2>>"$work/stderr" &
    nginx=$!
    wait_for "the container to answer" curl -s "$url"
}

end_container() {
    kill -QUIT "$nginx"
    wait "$nginx" || fail "the container ends with $?"
    [ ! -e "$root/var/lib/nginx/nginx.pid" ] || fail "nginx leaves its pid"
}

# wait_for_end SECONDS: whether nginx ends in that time.
wait_for_end() {
    for ((i = 0; i < $1 * 10; i++)); do
        kill -0 "$nginx" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

is_healthy() {
    local check
    mapfile -t check < <(inspect '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' | sed -e 1d -e '/^$/d')
    in_container "${check[@]}" 2>/dev/null
}

# As the container's user, in its root.
in_container() (
    enter "$@"
)

# enter [NAME=VALUE...] COMMAND...: takes the place of this shell.
enter() {
    exec env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot --userspec="$user" --groups="${user#*:}" "$root" env "$@"
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

[ $# -ge 3 ] || fail "usage: image.sh BUILD TESTBED TARGET"
build=$1
testbed=$2
target=$3
venv=$build/manifests-venv
# What the Dockerfile begins with.
release=$(sed -n 's/^ARG RUNTIME_IMAGE=.*:\(.*\)-slim$/\1/p' "$here/../Dockerfile")
debian=$build/debian-$release
work=$build/image-test
case ${4-} in
    '')
        prepare
        in_namespaces "$0" "$build" "$testbed" "$target" inside
        rm -rf --one-file-system "$work"
        ;;
    inside)
        mount -t proc proc /proc
        build_images
        in_namespaces --net "$0" "$build" "$testbed" "$target" running "$container"
        in_namespaces --net "$0" "$build" "$testbed" "$target" compose "$container"
        ;;
    running) play "$5" ;;
    compose) play_compose "$5" ;;
esac
