#!/bin/sh
# KEYSTONE_LOG says how requests are logged: as "text" or as "json". Each form has a configuration of
# its own, made with the image: nginx.conf cannot ask for it, and the root may be read-only.
set -eu

case ${KEYSTONE_LOG:=text} in
    text) configuration=/etc/nginx/nginx.conf ;;
    json) configuration=/etc/nginx/nginx-json.conf ;;
    *)
        echo "KEYSTONE_LOG must be \"text\" or \"json\", not \"$KEYSTONE_LOG\"" >&2
        exit 1
        ;;
esac
if [ "${1-}" = nginx ]; then
    shift
    set -- nginx -c "$configuration" "$@"
fi
exec "$@"
