#!/usr/bin/env bash
# Makes the module fit an nginx that is installed.
#
# usage: for-nginx.sh configure NGINX SOURCE DIRECTORY
#        for-nginx.sh load NGINX MODULE
#   NGINX      the program
#   SOURCE     the sources of that nginx, of its very version; they are not changed
#   DIRECTORY  becomes what the module is built with: source and objs
#   MODULE     what was built: NGINX has to accept it
set -euo pipefail
# What is read here, and compared, is English.
export LC_ALL=C

fail() {
    printf 'for-nginx.sh: %s\n' "$@" >&2
    exit 1
}

# read_binary NGINX: what it says of itself, in $version ("nginx/1.26.3"), and its $arguments.
read_binary() {
    local said line
    [ -n "$(type -P "$1")" ] || fail "there is no program $1: NGINX has to be that of the nginx to load the module, such as /usr/sbin/nginx."
    said=$("$1" -V 2>&1) || true
    version=$(sed -n '1s/^[A-Za-z]* version: \([^ ]*\).*/\1/p' <<<"$said")
    line=$(sed -n 's/^configure arguments: \{0,1\}//p' <<<"$said")
    if [ -z "$version" ] || ! grep -q '^configure arguments:' <<<"$said"; then
        fail "$1 is not an nginx: it does not answer -V with a version and configure arguments."
    fi
    # They are quoted as for a shell, which is more than they are to be trusted with.
    line=$(xargs -r printf '%s\n' <<<"$line") || fail "$1 answers -V with configure arguments that cannot be read: $line"
    mapfile -t arguments <<<"$line"
}

# check_source NGINX SOURCE
check_source() {
    local of
    if [ ! -e "$2/src/core/nginx.h" ]; then
        fail "$2 does not have the sources of nginx (no src/core/nginx.h): unpack those of $version, and set NGINX_SOURCE to their directory."
    fi
    of=$(printf '#include "%s/src/core/nginx.h"\nNGINX_VER\n' "$(realpath "$2")" \
        | "${CC:-cc}" -E -P - 2>/dev/null | tail -n 1 | tr -d '" ') || true
    if [ "$of" != "$version" ]; then
        fail "$1 is $version, and the sources in $2 are of ${of:-another program}." \
            "nginx loads only a module that was built for its very version. Get the sources of $version$(where_from)."
    fi
    # What the two change of nginx's structures is part of no signature, so nginx would load a module
    # that reads the wrong fields.
    if is_distributions "$1" && [ ! -e "$2/debian" ]; then
        fail "$1 comes from a package of Debian or Ubuntu, which change nginx's structures, and the sources in $2 have no directory \"debian\"." \
            'Build with theirs: those of "apt-get source nginx", or /usr/share/nginx/src of the package nginx-dev.'
    fi
}

where_from() {
    case $version in
        nginx/*) echo " (https://nginx.org/download/nginx-${version#nginx/}.tar.gz, or the source package of your distribution)" ;;
        *) echo " (from where the program comes from)" ;;
    esac
}

is_distributions() {
    local package
    command -v dpkg-query >/dev/null || return 1
    package=$(dpkg-query --search "$(realpath "$(type -P "$1")")" 2>/dev/null | sed -n '1s/[:,].*//p')
    [ -n "$package" ] \
        && dpkg-query --show --showformat '${Maintainer}\n' "$package" | grep -qiE 'debian|ubuntu'
}

# What of $arguments matters to a module, in $options: what decides about the structures.
choose_options() {
    local argument
    options=()
    for argument in "${arguments[@]}"; do
        case $argument in
            # There were none at all.
            '') ;;
            # Our own directory; and the compiler, which may have another name here.
            --builddir=* | --with-cc=* | --with-cpp=*) ;;
            --with-cc-opt=*) options+=("--with-cc-opt=$(words_like '-[DIU]*' '-m*' "${argument#*=}")") ;;
            --with-ld-opt=*) options+=("--with-ld-opt=$(words_like '-L*' '-m*' "${argument#*=}")") ;;
            # Others' modules, which a module does not see.
            --add-dynamic-module=*) ;;
            --add-module=*) [ ! -e "${argument#*=}/config" ] || options+=("$argument") ;;
            # They need libraries, and change no structure.
            --with-http_geoip_module* | --with-http_image_filter_module* | --with-http_perl_module* | \
                --with-http_xslt_module* | --with-stream_geoip_module* | --with-google_perftools_module | \
                --with-perl=* | --with-perl_modules_path=*) ;;
            --with-openssl=*)
                fail "this nginx has an OpenSSL of its own in it ($argument), and the module would bring a second one." \
                    "The module needs an nginx that uses the OpenSSL of the system." ;;
            # The libraries' own sources, which are not here. Their headers say the same.
            --with-pcre=*) options+=(--with-pcre) ;;
            --with-libatomic=*) options+=(--with-libatomic) ;;
            --with-zlib=* | --with-*-opt=*) ;;
            *) options+=("$argument") ;;
        esac
    done
}

# words_like PATTERN PATTERN WORDS: those that match. The others are for the compiler alone.
words_like() {
    local word kept=()
    for word in $3; do
        # shellcheck disable=SC2053 # patterns
        if [[ ($word == $1 || $word == $2) && $word != -D_FORTIFY_SOURCE* ]]; then
            kept+=("$word")
        fi
    done
    echo "${kept[*]-}"
}

configure() {
    local nginx=$1 source=$2 directory=$3 made_of name
    read_binary "$nginx"
    check_source "$nginx" "$source"
    choose_options

    # Cargo builds again what depends on these files, so they are made again only where that differs.
    source=$(realpath "$source")
    made_of=$( (printf '%s\n' "$source" "${options[@]}" \
        && cd "$source" && find -L . -name '*.h' -o -path './auto/*' -type f -o -name configure \
        | LC_ALL=C sort | xargs sha256sum) | sha256sum)
    if [ "$(cat "$directory/made-of" 2>/dev/null)" = "$made_of" ]; then
        return
    fi

    # nginx's configure writes into the directory where it runs.
    rm -rf "$directory"
    mkdir -p "$directory/source"
    for name in "$source"/*; do
        case ${name##*/} in
            configure) cp "$name" "$directory/source" ;;
            Makefile | objs) ;;
            *) ln -s "$name" "$directory/source" ;;
        esac
    done
    if [ ! -e "$directory/source/configure" ]; then
        # As in a checkout of nginx's repository.
        cp "$source/auto/configure" "$directory/source"
    fi
    if ! (cd "$directory/source" && bash ./configure "${options[@]}" "--builddir=$directory/objs") >"$directory/configure.log" 2>&1; then
        tail -n 20 "$directory/configure.log" >&2
        fail "nginx's configure failed, see above: it lacks a library with its headers, as a rule." \
            "It was called with the options of $nginx: ${options[*]}" \
            "All that it said is in $directory/configure.log."
    fi
    echo "$made_of" >"$directory/made-of"
}

load() {
    local nginx=$1 module=$2 said directory
    read_binary "$nginx"
    directory=$(mktemp -d)
    # shellcheck disable=SC2064 # this directory
    trap "rm -rf '$directory'" EXIT
    write_config "$(realpath "$module")" "$directory" >"$directory/nginx.conf"
    if said=$("$nginx" -t -p "$directory" -c "$directory/nginx.conf" 2>&1); then
        echo "$nginx ($version) loads it: load_module $module;"
        return
    fi
    grep -v 'could not open error log file' <<<"$said" >&2
    case $said in
        *"is not binary compatible"*)
            fail "$nginx has the version of these sources, but other options of configure, or another nginx's structures: it refuses the module." \
                'Compare "nginx -V" with what was configured, and take the sources that it was built from.' ;;
        *" instead of "*)
            fail "$nginx is of another version than the sources that the module was built with: it refuses the module." \
                'Build again with NGINX_SOURCE set to the sources of the version that "nginx -v" names.' ;;
        *dlopen*)
            fail "$nginx cannot link the module: a library or a symbol is missing, see above." ;;
        *) fail "$nginx does not accept a configuration with the module, see above." ;;
    esac
}

# write_config MODULE DIRECTORY: all that nginx writes stays in the directory.
write_config() {
    local name
    [ "$(id -u)" != 0 ] || echo 'user root;'
    cat <<END
load_module $1;
error_log $2/error.log;
pid $2/nginx.pid;
lock_file $2/nginx.lock;
events {}
http {
    access_log off;
    client_body_temp_path $2/client_body;
END
    for name in proxy fastcgi uwsgi scgi; do
        [[ " ${arguments[*]-} " == *" --without-http_${name}_module "* ]] || echo "    ${name}_temp_path $2/$name;"
    done
    cat <<END
    keystone_auth_uri http://127.0.0.1:5000;
    keystone_admin_token unused;
    keystone_signing_dir $2/keystone;
    server { listen unix:$2/socket; keystone_auth on; }
}
END
}

case $#:${1-} in
    4:configure) configure "$2" "$3" "$4" ;;
    3:load) load "$2" "$3" ;;
    *) fail "usage: for-nginx.sh configure NGINX SOURCE DIRECTORY | load NGINX MODULE" ;;
esac
