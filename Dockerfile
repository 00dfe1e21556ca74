# The module, built in one stage, in Debian's own nginx in the next.
#
#   docker build -t nginx-keystone .
#   docker run -p 80:80 -v ./nginx.conf:/etc/nginx/nginx.conf:ro nginx-keystone
#
# Both images have to be of the same Debian release: nginx takes a module only
# if it was built for its very version.
ARG BUILDER_IMAGE=docker.io/library/rust:1.88-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BUILDER_IMAGE} AS build

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libclang-dev make nginx nginx-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .
RUN make build

FROM ${RUNTIME_IMAGE}

# ca-certificates: the default of keystone_ssl_trusted_certificate.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates nginx \
    && rm -rf /var/lib/apt/lists/*

COPY --from=build /src/target/release/libngx_http_keystone_module.so \
    /usr/lib/nginx/modules/ngx_http_keystone_module.so
COPY nginx-conf/ /usr/share/nginx/keystone-examples/

# Debian's nginx.conf loads what is linked in modules-enabled. A configuration
# of one's own either includes that directory or has a load_module line.
RUN mkdir -p /usr/share/nginx/modules-available \
    && echo 'load_module modules/ngx_http_keystone_module.so;' \
        > /usr/share/nginx/modules-available/mod-http-keystone.conf \
    && ln -s /usr/share/nginx/modules-available/mod-http-keystone.conf \
        /etc/nginx/modules-enabled/50-mod-http-keystone.conf \
    && install -d -o www-data -g www-data -m 0700 /var/lib/nginx/keystone \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log

# Fails here, not at the start, if the module does not fit this nginx.
RUN echo 'include /etc/nginx/modules-enabled/*.conf; events {}' > /tmp/nginx.conf \
    && nginx -t -c /tmp/nginx.conf \
    && rm /tmp/nginx.conf

EXPOSE 80 443
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
