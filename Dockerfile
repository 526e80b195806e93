# NGINX with the module, for an ordinary user and a read-only root. docs/src/containers.md tells how to use it:
#
#     docker build -t request-cpu .
#     docker run --rm --read-only --tmpfs /tmp -p 8080:8080 --name cpu request-cpu
#     curl http://127.0.0.1:8080/
#     docker exec cpu request-cpu-status 'detail=low'
#
# Other bases and versions:
#
#     docker build --build-arg BASE=debian:12-slim .                    NGINX of Debian
#     docker build --build-arg NGINX_VERSION=1.30.0 --build-arg NGINX_SOURCE=nginx-1.30.0 .
#                                       the official image 1.30.0, with the unpacked source in a folder beside this file
#     docker build --target demo .      the demonstration
#
# BASE is an image of Debian: with NGINX, or one for which apt has NGINX. RUST is an image that has Rust in
# /usr/local/rustup; with any other image, apt installs Debian's compiler. The official image has no source of NGINX.
# So the source of the crate nginx-src in Cargo.lock is used. NGINX_VERSION must be its version, unless NGINX_SOURCE
# names another source.
ARG NGINX_VERSION=1.28.3
ARG BASE=nginx:${NGINX_VERSION}
ARG RUST=rust:1-slim-bookworm

FROM ${RUST} AS rust

# ---- NGINX, without the module ----

FROM ${BASE} AS server
RUN if ! command -v nginx >/dev/null; then \
        apt-get update -q \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nginx \
        && apt-get clean \
        && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log /var/www/html; \
    fi

# ---- the module ----

# It is compiled in the image in which it will run. So libc, OpenSSL and PCRE are the same, and scripts/build can read
# the configure arguments of this NGINX. NGINX refuses a module that was built for another version; the last stage
# checks this.
FROM server AS compiler
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /build
COPY scripts/lib.sh scripts/
# nginx-abi-… is provided by Debian's package only, and nginx-dev is its source
RUN --mount=type=bind,from=rust,target=/rust bash -euc '\
    . scripts/lib.sh; \
    packages=(ca-certificates "${build_packages[@]}"); \
    if [[ -d /rust/usr/local/rustup ]]; then \
        cp -a /rust/usr/local/rustup /rust/usr/local/cargo /usr/local/; \
    else \
        packages+=(rustc-web cargo-web); \
    fi; \
    if dpkg-query --show --showformat "\${Provides}" nginx | grep -q nginx-abi-; then \
        packages+=("${system_packages[@]}"); \
    fi; \
    need_packages "${packages[@]}"'

# Only what the module is made of is copied: after a change of another file, this layer is not built again.
FROM compiler AS build
ARG NGINX_SOURCE=
COPY ${NGINX_SOURCE:-LICENSE} /nginx-source/
COPY .cargo .cargo
COPY build build
COPY page/dist page/dist
COPY accounting accounting
COPY formats formats
COPY report report
COPY tools/open-loop tools/open-loop
COPY scripts/build scripts/
COPY src src
COPY build.rs Cargo.toml Cargo.lock ./
RUN set -eu; \
    if [ -d /usr/share/nginx/src ]; then \
        set -- --system; \
    elif [ "$NGINX_SOURCE" ]; then \
        set -- --source /nginx-source; \
    else \
        cargo fetch --locked; \
        set -- --source "$CARGO_HOME"/registry/src/*/nginx-src-*/nginx; \
    fi; \
    module=$(scripts/build "$@"); \
    strip --strip-debug -o /ngx_http_request_cpu_module.so "$module"

# ---- NGINX with the module ----

# The numeric user lets Kubernetes check runAsNonRoot; 101 is the user nginx of the official image. NGINX writes to two
# folders: /tmp (pid file, temporary files) and /var/lib/request-cpu (state file, traffic log).
FROM server AS runtime
COPY --from=build /ngx_http_request_cpu_module.so /usr/lib/nginx/modules/
COPY nginx-conf/image/nginx.conf nginx-conf/image/request_cpu.conf /etc/nginx/
COPY nginx-conf/image/default.conf /etc/nginx/conf.d/
COPY nginx-conf/image/request-cpu-status /usr/local/bin/
RUN mkdir /var/lib/request-cpu && nginx -t -e stderr && rm -rf /tmp/* /var/lib/request-cpu/* \
    && chown 101:101 /var/lib/request-cpu
USER 101:101
VOLUME /var/lib/request-cpu
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s CMD ["request-cpu-status", "--check"]
STOPSIGNAL SIGQUIT
# NGINX is process 1. The entry point of the official image is not used: it writes to /etc/nginx.
ENTRYPOINT []
CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]

# ---- the demonstration ----

# Clients of a container come from outside, through a bridge. So NGINX listens on all addresses, and the status page
# is open to private networks.
FROM compiler AS demo-files
COPY nginx-conf nginx-conf
COPY scripts scripts
RUN scripts/demo --prepare /demo \
    && sed -i -e 's/listen 127\.0\.0\.1:/listen /' \
              -e 's,allow 127\.0\.0\.1;,& allow 10.0.0.0/8; allow 172.16.0.0/12; allow 192.168.0.0/16;,' /demo/demo.conf \
    && ln -s /usr/lib/nginx/modules/ngx_http_request_cpu_module.so /demo/modules/ \
    && ln -s /dev/stdout /demo/logs/access.log \
    && ln -s /dev/stderr /demo/logs/error.log

# It runs two NGINX servers, and writes below /demo: its root is not read-only. The origin server runs in the
# background; the shell becomes the edge server.
FROM runtime AS demo
COPY --from=demo-files --chown=101:101 /demo /demo
EXPOSE 8443
HEALTHCHECK NONE
CMD ["sh", "-c", "nginx -e stderr -p /demo/ -c demo-origin.conf && \
    exec nginx -e stderr -p /demo/ -c demo.conf -g 'daemon off;'"]

# the image without --target
FROM runtime
