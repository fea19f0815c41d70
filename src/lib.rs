//! llmload puts a scheduled, open-loop load on LLM endpoints and measures what their clients
//! experience.
//!
//! Values flow one way and imports point down:
//!
//! `YAML → config → plan → schedule (arrivals) → launch → exchange (protocol ↔ endpoint) →
//! measurement → event → { ledger, metrics → web, incidents → status, tally → report }`
//!
//! | layer | modules |
//! |---|---|
//! | beside it all, and knows nothing of it | [`simulator`] |
//! | arithmetic and wire, pure | [`random`], [`buckets`], [`schedule`], [`calendar`], [`measurement`], [`slo`], [`protocol`], [`prompts`] |
//! | facts | [`event`], [`ledger`], [`schedule_state`], [`pairing`] |
//! | intent | [`plan`], [`config`] |
//! | decisions, synchronous | [`pacer`], [`timetable`], [`guard`] |
//! | one request, and many | [`endpoint`], [`exchange`], [`launch`] |
//! | what is shown, and asked | [`remedy`], [`generator`], [`metrics`], [`check`], [`probe`], [`incidents`], [`recent`], [`tally`], [`status`], [`control`], [`web`], [`report`] |
//! | composition | [`scenario`], [`daemon`], [`cli`] |
//!
//! A module imports from the rows above its own and, within the row, from those before it. This and
//! the rest of who may know what is checked in `tests/it/architecture.rs`.

pub mod buckets;
pub mod calendar;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod endpoint;
pub mod event;
pub mod exchange;
pub mod generator;
pub mod guard;
pub mod incidents;
pub mod launch;
pub mod ledger;
pub mod measurement;
pub mod metrics;
pub mod pacer;
pub mod pairing;
pub mod plan;
pub mod probe;
pub mod prompts;
pub mod protocol;
pub mod random;
pub mod recent;
pub mod remedy;
pub mod schedule_state;

pub mod report;
pub mod scenario;
pub mod schedule;
pub mod simulator;
pub mod slo;
pub mod status;
pub mod tally;
pub mod timetable;
pub mod web;
