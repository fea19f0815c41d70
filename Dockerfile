# The llmload image: one binary on distroless. It runs without root on a read-only root file system.
#   docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag llmload:0.1.0 .
# Both stages are Debian 12, so the binary finds the libc that it was linked with. Not musl: its
# allocator is slow with many threads, which would distort the measurement.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
ARG REVISION
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    LLMLOAD_REVISION=$REVISION cargo build --locked --profile dist --bin llmload

# `cc`, not `static`: the binary needs libc and libgcc. The image includes the public CA
# certificates.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/dist/llmload /usr/local/bin/llmload
# The user `nonroot` by number: Kubernetes cannot tell whether a name is root.
USER 65532:65532
# The folder of llmload.yml and its prompt files.
WORKDIR /etc/llmload
EXPOSE 9899
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/llmload", "health"]
ENTRYPOINT ["/usr/local/bin/llmload"]
