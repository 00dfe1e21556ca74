#!/usr/bin/env bash
# Runs `make install` and `make uninstall` with a directory as root, where there are neighbours.
#
# usage: install.sh BUILD
#   BUILD  a directory for all that is made
set -euo pipefail
who=install.sh
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/debian.sh"

files() {
    (cd "$root" && find . ! -type d | sort)
}

[ $# = 1 ] || fail "usage: install.sh BUILD"
root=$1/install-test
rm -rf "$root"
for neighbour in usr/lib/nginx/modules/ngx_http_echo_module.so usr/share/nginx/modules-available/mod-http-echo.conf \
    etc/nginx/modules-enabled/50-mod-http-echo.conf usr/bin/other usr/share/man/man1/other.1; do
    mkdir -p "$root/$(dirname "$neighbour")"
    echo another >"$root/$neighbour"
done
files >"$root.before"

make -C "$here/.." --no-print-directory install DESTDIR="$root" >"$root.log" 2>&1 || { cat "$root.log" >&2; fail "make install fails"; }
files | diff "$root.before" - >"$root.installed" || true
diff - <(sed -n 's/^> //p' "$root.installed") <<END || fail "these files are not what it should install"
./etc/nginx/modules-enabled/50-mod-http-keystone.conf
./usr/bin/keystone-doctor
./usr/lib/nginx/modules/ngx_http_keystone_module.so
./usr/share/man/man1/keystone-doctor.1
./usr/share/nginx/modules-available/mod-http-keystone.conf
END

module=$root/usr/lib/nginx/modules/ngx_http_keystone_module.so
for file in "$module" "$root/usr/bin/keystone-doctor"; do
    ! readelf --sections --wide "$file" | grep -E '\.(symtab|debug_line)' || fail "$file is not stripped"
done
"$root/usr/bin/keystone-doctor" --version >/dev/null || fail "keystone-doctor does not start"
printf 'load_module %s;\npid %s;\nerror_log stderr;\nevents {}\nhttp { access_log off; }\n' "$module" "$root.pid" >"$root.conf"
"${NGINX_BINARY:-nginx}" -t -q -c "$root.conf" || fail "nginx does not load the module"
say "installed, and nginx loads the stripped module ($(du -k "$module" | cut -f 1) KiB)"

make -C "$here/.." --no-print-directory uninstall DESTDIR="$root" >"$root.log" 2>&1 || { cat "$root.log" >&2; fail "make uninstall fails"; }
files | diff "$root.before" - || fail "that is what make uninstall has left or taken"
rm -rf "$root" "$root".*
say "uninstalled, and nothing else"
