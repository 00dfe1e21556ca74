# The Debian package of the module, built in one stage, installed beside Debian's
# own nginx in the next.
#
#   docker build -t nginx-keystone .
#   docker run -p 8080:8080 -v ./conf.d:/etc/nginx/conf.d:ro nginx-keystone
#
# buildah and podman do it as well. docker/nginx.conf says what conf.d can hold.
# Both images have to be of the same Debian release: nginx takes a module only if
# it was built for its very version.
ARG BUILDER_IMAGE=docker.io/library/rust:1.88-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BUILDER_IMAGE} AS build

RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
# First what changes seldom: the packages that a build needs.
COPY Makefile .
RUN make packages package-packages
COPY . .
RUN make package

FROM ${RUNTIME_IMAGE}

# ca-certificates: the default of keystone_ssl_trusted_certificate.
RUN --mount=type=bind,from=build,source=/src/build/package,target=/mnt \
    apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates nginx /mnt/libnginx-mod-http-keystone_*.deb \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log

COPY docker/nginx.conf /etc/nginx/nginx.conf

# Fails here, not at the start, if the module does not fit this nginx. In
# configurations made for files, the logs are the container's too.
RUN nginx -t \
    && rm -f /var/lib/nginx/nginx.pid \
    && chown -R www-data:www-data /var/lib/nginx \
    && ln -sf /dev/stdout /var/log/nginx/access.log \
    && ln -sf /dev/stderr /var/log/nginx/error.log

# www-data, as a number: Kubernetes sees that it is not root.
USER 33:33
EXPOSE 8080
STOPSIGNAL SIGQUIT
# There is no curl, and bash can do it.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
CMD ["nginx", "-g", "daemon off;"]
