# The daily commands. `just` alone lists them.

_list:
    @just --list

# Run all checks of CI but the network ones
check: fmt lint doc test

# Format the code
fmt:
    cargo fmt

# Lint, with warnings as errors
lint:
    cargo clippy --locked --all-targets -- -D warnings

# Build the documentation, with warnings as errors
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# Run all tests
test:
    cargo test --locked

# Run the daemon on the built-in simulator
demo:
    cargo run --release --locked -- demo

# Regenerate the JSON Schema of the configuration
schema:
    cargo run --quiet --locked -- schema > config/llmload.schema.json

# Validate the Kubernetes manifests (needs python3, and kubectl or npm)
manifests:
    deploy/validate

# Regenerate the dashboards and docs/metrics.md
dashboards:
    UPDATE_EXPECTED=1 cargo test --quiet --locked --test grafana

# Regenerate the catalogues of messages and docs/configuration.md; read the diff as prose
messages:
    UPDATE_EXPECTED=1 cargo test --quiet --locked --test config
    UPDATE_EXPECTED=1 cargo test --quiet --locked --test messages

# Check licences, advisories and sources of the dependencies (needs cargo-deny or python3)
deny:
    .ci/deny

# Write a software bill of materials, in the format CycloneDX
sbom FILE="sbom.cdx.json":
    .ci/sbom {{FILE}}

# Test llmload for ten minutes with faults that a seed chooses
chaos seconds="600" seed="0":
    LLMLOAD_TEST_CHAOS={{seconds}} LLMLOAD_TEST_CHAOS_SEED={{seed}} cargo test --locked --test it chaos -- --nocapture

# Run a daemon for an hour and check that its memory, files, threads and series do not grow
soak minutes="60":
    cargo build --release --locked
    benches/soak.py --minutes {{minutes}}

# Build the files of a release for this machine into target/release-files
release:
    .ci/release
