# The official NGINX image with the module, running the demonstration's configuration:
#
#     docker build -t request-cpu .
#     docker run --rm -p 8080:8080 -p 8443:8443 request-cpu
#     curl -so /dev/null --compressed -H 'Host: api.example' http://127.0.0.1:8080/catalogue.json
#     curl http://127.0.0.1:8080/cpu
#
# For a configuration of your own, take the module out of it:
#
#     COPY --from=request-cpu /usr/lib/nginx/modules/ngx_http_request_cpu_module.so /usr/lib/nginx/modules/
#
# The version must be that of the nginx-src crate in Cargo.lock. The source comes from this crate, because the
# official image has no source. NGINX refuses a module that was built for another version; the last stage checks this.
ARG NGINX_VERSION=1.28.3

FROM rust:1-slim-bookworm AS rust

# The module is compiled in the image in which it will run. So libc, OpenSSL and PCRE are the same, and scripts/build
# can read the configure arguments of this NGINX.
FROM nginx:${NGINX_VERSION} AS build
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
WORKDIR /build
COPY . .
RUN cargo vendor --locked --quiet /vendor >/dev/null
RUN module=$(scripts/build --source /vendor/nginx-src/nginx) && cp "$module" /
# Clients of a container come from outside, through a bridge. So NGINX listens on all addresses, and the status page
# is open to private networks.
RUN scripts/demo --prepare /demo \
    && sed -i -e 's/listen 127\.0\.0\.1:/listen /' \
              -e 's,allow 127\.0\.0\.1;,& allow 10.0.0.0/8; allow 172.16.0.0/12; allow 192.168.0.0/16;,' /demo/demo.conf \
    && ln -s /usr/lib/nginx/modules/ngx_http_request_cpu_module.so /demo/modules/ \
    && ln -s /dev/stdout /demo/logs/access.log \
    && ln -s /dev/stderr /demo/logs/error.log

FROM nginx:${NGINX_VERSION}
COPY --from=build /ngx_http_request_cpu_module.so /usr/lib/nginx/modules/
COPY --from=build /demo /demo
COPY nginx-conf/request_cpu.conf /etc/nginx/
# The entry point of the image runs all scripts of this folder before it starts the server. This script starts the
# origin server of the demonstration.
RUN printf '#!/bin/sh\nexec nginx -p /demo/ -c demo-origin.conf\n' >/docker-entrypoint.d/90-demo-origin.sh \
    && chmod 755 /docker-entrypoint.d/90-demo-origin.sh \
    && nginx -t -p /demo/ -c demo.conf
EXPOSE 8080 8443
CMD ["nginx", "-p", "/demo/", "-c", "demo.conf", "-g", "daemon off;"]
