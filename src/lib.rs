//! llmload puts a scheduled, open-loop load on LLM endpoints. It measures latency, throughput and
//! failures from the viewpoint of a client.
//!
//! Values flow in one direction:
//!
//! `YAML → config → plan → schedule (arrivals) → launch → exchange (protocol ↔ endpoint) →
//! measurement → event → { ledger, metrics → web, incidents → status, tally → report }`
//!
//! | layer | modules |
//! |---|---|
//! | a separate program in the same binary | [`simulator`] |
//! | arithmetic and wire formats, without side effects | [`random`], [`buckets`], [`measurement`], [`slo`], [`schedule`], [`capacity`], [`calendar`], [`protocol`], [`prompts`] |
//! | records | [`event`], [`ledger`], [`schedule_state`], [`pairing`] |
//! | the plan | [`plan`], [`config`] |
//! | synchronous decisions | [`pacer`], [`timetable`], [`guard`] |
//! | sending requests | [`deadline`], [`endpoint`], [`exchange`], [`launch`] |
//! | results, displays and commands | [`stderr`], [`remedy`], [`generator`], [`machine`], [`archive`], [`budget_state`], [`metrics`], [`check`], [`probe`], [`failures`], [`incidents`], [`recent`], [`tally`], [`observe`], [`status`], [`control`], [`web`], [`report`] |
//! | composition | [`scenario`], [`daemon`], [`cli`] |
//!
//! A module can import only from rows above, and from earlier modules in its row.
//! `tests/it/architecture.rs` checks this.

pub mod archive;
pub mod buckets;
pub mod budget_state;
pub mod calendar;
pub mod capacity;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod deadline;
pub mod endpoint;
pub mod event;
pub mod exchange;
pub mod failures;
pub mod generator;
pub mod guard;
pub mod incidents;
pub mod launch;
pub mod ledger;
pub mod machine;
pub mod measurement;
pub mod metrics;
pub mod observe;
pub mod pacer;
pub mod pairing;
pub mod plan;
pub mod probe;
pub mod prompts;
pub mod protocol;
pub mod random;
pub mod recent;
pub mod remedy;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod schedule_state;
pub mod simulator;
pub mod slo;
pub mod status;
pub mod stderr;
pub mod tally;
pub mod timetable;
pub mod web;
