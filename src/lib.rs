//! llmload: scheduled open-loop load for LLM endpoints, and what their clients experience.

#![allow(missing_docs, dead_code)]
pub mod config;
pub mod measurement;
pub mod plan;
pub mod prompts;
pub mod protocol;
pub mod schedule;
pub mod simulator;
