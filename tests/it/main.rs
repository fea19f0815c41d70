//! Tests of llmload from outside, with real sockets, a real Prometheus and the real binary. The
//! open loop and the closed loop are also tested on a paused clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    clippy::cast_precision_loss
)]

mod admin;
mod architecture;
mod archive;
mod arrivals;
mod binary;
mod browser;
mod budgets;
mod canary;
mod capacity;
mod chaos;
mod check;
mod clock_steps;
mod closed_loop;
mod compare;
mod connections;
mod dashboards;
mod deploy;
mod distortion;
mod documents;
mod exchange;
mod export;
mod exposition;
mod failures;
mod faults;
mod findings;
mod guards;
mod health;
mod hostile_files;
mod http1;
mod http2;
mod leaks;
mod lifecycle;
mod lookups;
mod machine;
mod merge;
mod misbehaving_targets;
mod observe;
mod open_loop;
mod orders;
mod pipelines;
mod probe;
mod process;
mod prometheus;
mod prompts;
mod reload;
mod replay;
mod report_page;
mod resend;
mod resources;
mod run;
mod run_failures;
mod run_forms;
mod run_terminal;
mod secrets;
mod sequence;
mod session_daemon;
mod sessions;
mod set_clock;
mod several;
mod shards;
mod sidecar;
mod signals;
mod status;
mod stuck_output;
mod timetable;
mod tokens;
mod truth;
mod unix_sockets;
mod upstream;
mod web;
mod web_security;
