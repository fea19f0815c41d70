# llmload as an image: one binary on distroless, not root, for a read-only root.
#   docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) --tag llmload:0.1.0 .
# Both stages are Debian 12: the binary finds the libc it was linked with. Not musl: its allocator is
# slow with many threads, and would be measured along.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
ARG REVISION
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    LLMLOAD_REVISION=$REVISION cargo build --locked --profile dist --bin llmload

# `cc`, not `static`: libc and libgcc; with them come the certificates of public authorities.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/dist/llmload /usr/local/bin/llmload
# The user `nonroot`, as a number: Kubernetes cannot see that a name is not root.
USER 65532:65532
# Where llmload.yml is looked for, with the prompts beside it.
WORKDIR /etc/llmload
EXPOSE 9899
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/usr/local/bin/llmload", "health"]
ENTRYPOINT ["/usr/local/bin/llmload"]
