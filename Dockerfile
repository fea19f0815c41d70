# The llmload image: one binary with its libraries and the public CA certificates, without a shell.
# It runs without root on a read-only root file system.
#   docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag llmload:0.1.0 .
# The symbols are in a separate stage:
#   docker build --target symbols --output . .
# Not musl: its allocator is slow with many threads, which would distort the measurement.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
# This layer has all dependencies. It changes only with the manifests, so most builds reuse it.
COPY Cargo.toml Cargo.lock ./
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    mkdir src benches \
    && touch src/lib.rs benches/wire.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --locked --profile dist --bin llmload
COPY . .
ARG REVISION
# Cargo compares times, and the files of the checkout can be older than the layer above.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    touch build.rs src/lib.rs src/main.rs \
    && LLMLOAD_REVISION=$REVISION cargo build --locked --profile dist --bin llmload
RUN mkdir -p /symbols /image/usr/local/bin /image/etc/ssl/certs /image/etc/llmload \
    && objcopy --only-keep-debug target/dist/llmload /symbols/llmload.debug \
    && objcopy --strip-all --add-gnu-debuglink=/symbols/llmload.debug target/dist/llmload \
       /image/usr/local/bin/llmload \
    # The loader and the libraries that the binary names: libc, libm and libgcc_s.
    && ldd target/dist/llmload | grep -o '/[^ ]*' | xargs cp --dereference --parents -t /image \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs \
    # Without this file, libc would ask DNS for the names in /etc/hosts.
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
    && echo 'nonroot:x:65532:65532:nonroot:/:/nonexistent' > /image/etc/passwd

FROM scratch AS symbols
COPY --from=build /symbols /

FROM scratch
ARG REVISION
ARG VERSION=0.1.0
ARG SOURCE
LABEL org.opencontainers.image.title="llmload" \
      org.opencontainers.image.description="A load daemon for LLM endpoints" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY --from=build /image /
# The user `nonroot` by number: Kubernetes cannot tell whether a name is root.
USER 65532:65532
# The folder of llmload.yml and its prompt files.
WORKDIR /etc/llmload
EXPOSE 9899
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/llmload", "health"]
ENTRYPOINT ["/usr/local/bin/llmload"]
