//! llmload: scheduled open-loop load for LLM endpoints, and what their clients experience.

#![allow(missing_docs, dead_code)]
pub mod course;
pub mod endpoint;
pub mod event;
pub mod guard;
pub mod ledger;
pub mod measurement;
pub mod metrics;
pub mod pacer;
pub mod plan;
pub mod prompts;
pub mod protocol;
pub mod schedule;
pub mod simulator;
