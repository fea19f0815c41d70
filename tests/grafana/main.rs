//! What lies in `grafana/` and `docs/metrics.md`: made here from the table of metrics that the daemon
//! itself is made of, compared with what is committed, and held to the rules of the trade.
//!
//! `UPDATE_EXPECTED=1 cargo test --test grafana` writes it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::format_push_string)]

mod capacity;
mod comparison;
mod dashboard;
mod documentation;
mod generator;
mod lint;
mod overview;
mod panel;
mod promql;
mod rules;
mod server;
mod shipped;
mod slo;
mod vocabulary;
