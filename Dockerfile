# The Debian package of the module, built in one stage, installed beside Debian's
# own nginx in another.
#
#   docker build -t nginx-keystone .
#   docker run -p 8080:8080 -v ./conf.d:/etc/nginx/conf.d:ro nginx-keystone
#
# buildah and podman do it as well. docs/containers.md says more. Both images have
# to be of the same Debian release: nginx takes a module only if it was built for
# its very version.
ARG BUILDER_IMAGE=docker.io/library/rust:1.88-trixie
ARG RUNTIME_IMAGE=docker.io/library/debian:trixie-slim

FROM ${BUILDER_IMAGE} AS tools

RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
# First what changes seldom: the packages that a build needs.
COPY Makefile .
RUN make packages package-packages

FROM tools AS build

COPY . .
RUN make package

# The identity service of compose.yaml, which is made for tests: not for a cloud.
FROM tools AS build-identity

COPY . .
RUN cargo build --locked --release -p keystone-testbed && install target/release/keystone-testbed /usr/local/bin

FROM ${RUNTIME_IMAGE} AS demo-identity

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libssl3t64 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
COPY --from=build-identity /usr/local/bin/keystone-testbed /usr/local/bin/
USER 33:33
CMD ["keystone-testbed", "identity", "--pki", "/tmp/pki", "--port", "5000"]

FROM ${RUNTIME_IMAGE} AS gateway

# ca-certificates: the default of keystone_ssl_trusted_certificate.
RUN --mount=type=bind,from=build,source=/src/build/package,target=/mnt \
    apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates nginx /mnt/libnginx-mod-http-keystone_*.deb \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log

COPY docker/nginx.conf /etc/nginx/nginx.conf
COPY docker/entrypoint.sh /usr/local/bin/entrypoint

# Fails here, not at the start, if the module does not fit this nginx. The directory
# is left empty, for any user of group 0. In configurations made for files, the logs
# are the container's too.
RUN sed 's#^\( *access_log .*\) keystone;#\1 keystone_json;#' /etc/nginx/nginx.conf > /etc/nginx/nginx-json.conf \
    && nginx -t \
    && nginx -t -c /etc/nginx/nginx-json.conf \
    && find /var/lib/nginx -mindepth 1 -delete \
    && chown www-data:root /var/lib/nginx \
    && chmod 0775 /var/lib/nginx \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log

# www-data, as a number: Kubernetes sees that it is not root. Any other will do.
USER 33:33
EXPOSE 8080
STOPSIGNAL SIGQUIT
# There is no curl, and bash can do it.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["/usr/local/bin/entrypoint"]
CMD ["nginx", "-g", "daemon off;"]
