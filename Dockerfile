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
# The version has to be the one of the nginx-src crate in Cargo.lock, where the source comes from: the official
# image has none. NGINX refuses a module of another version, and the last stage tries.
ARG NGINX_VERSION=1.28.3

FROM rust:1-slim-bookworm AS rust

# The module is compiled in the image it is meant for, so that libc, OpenSSL and PCRE are the same ones, and
# scripts/build finds with which arguments this NGINX was configured.
FROM nginx:${NGINX_VERSION} AS build
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
WORKDIR /build
COPY . .
RUN cargo vendor --locked --quiet /vendor >/dev/null
RUN module=$(scripts/build --source /vendor/nginx-src/nginx) && cp "$module" /
# In a container, clients come from outside, over a bridge: listen on all addresses, and show the accounts to
# private networks.
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
# The image's entry point runs what is in this folder before it starts the server: here, the origin of the
# demonstration.
RUN printf '#!/bin/sh\nexec nginx -p /demo/ -c demo-origin.conf\n' >/docker-entrypoint.d/90-demo-origin.sh \
    && chmod 755 /docker-entrypoint.d/90-demo-origin.sh \
    && nginx -t -p /demo/ -c demo.conf
EXPOSE 8080 8443
CMD ["nginx", "-p", "/demo/", "-c", "demo.conf", "-g", "daemon off;"]
