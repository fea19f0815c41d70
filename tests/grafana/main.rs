//! Generates the dashboards in `grafana/dashboards` and `docs/metrics.md`, compares them with the
//! committed files, and checks the dashboards and the Prometheus rules.
//!
//! `UPDATE_EXPECTED=1 cargo test --test grafana` writes the generated files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::format_push_string)]

mod budgets;
mod capacity;
mod comparison;
mod dashboard;
mod documentation;
mod generator;
mod lint;
mod overview;
mod panel;
mod promql;
mod reasoning;
mod rules;
mod server;
mod sessions;
mod shipped;
mod slo;
mod vocabulary;
