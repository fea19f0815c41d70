//! llmload puts a scheduled, open-loop load on LLM endpoints and measures what their clients
//! experience.
//!
//! Values flow one way and imports point down:
//!
//! `YAML → config → plan → schedule (arrivals) → launch → exchange (protocol ↔ endpoint) →
//! measurement → event → { ledger, metrics → web, incidents → status }`
//!
//! | layer | modules |
//! |---|---|
//! | arithmetic and wire, pure | [`schedule`], [`measurement`], [`protocol`], [`prompts`] |
//! | facts | [`event`], [`ledger`], [`course`] |
//! | intent | [`plan`], [`config`], [`check`] |
//! | decisions, synchronous | [`pacer`], [`guard`] |
//! | one request, one scenario | [`endpoint`], [`exchange`], [`launch`], [`scenario`] |
//! | what is shown | [`metrics`], [`incidents`], [`status`], [`web`] |
//! | composition | [`daemon`], [`cli`] |
//! | beside it all | [`simulator`] |

pub mod check;
pub mod cli;
pub mod config;
pub mod course;
pub mod daemon;
pub mod endpoint;
pub mod event;
pub mod exchange;
pub mod guard;
pub mod incidents;
pub mod launch;
pub mod ledger;
pub mod measurement;
pub mod metrics;
pub mod pacer;
pub mod plan;
pub mod prompts;
pub mod protocol;
pub mod scenario;
pub mod schedule;
pub mod simulator;
pub mod status;
pub mod web;
