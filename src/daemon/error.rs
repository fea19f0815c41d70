//! The reasons why a daemon cannot start, or ends early. A message that contains its cause has no
//! `source`, because the log would show the cause twice.

use super::GRACE;
use crate::budget_state::StateError;
use crate::endpoint::BuildError;
use crate::metrics;
use crate::plan::OTHER_FILES;
use crate::scenario::ScenarioError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Client(#[from] BuildError),
    #[error("target {target}: the simulator could not be started: {cause}")]
    Simulator { target: String, cause: std::io::Error },
    #[error(
        "the web server cannot start: {0}; raise the limit of processes (`ulimit -u`) or of open \
         files (`ulimit -n`)"
    )]
    Web(std::io::Error),
    #[error("a thread could not be started; raise the limit of processes (`ulimit -u`)")]
    Thread,
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] metrics::Defect),
    #[error(transparent)]
    BudgetState(#[from] StateError),
    #[error(
        "`state_dir` would change, but the budgets are saved in {0}; restore the old `state_dir`, \
         or restart llmload"
    )]
    StateDir(String),
    #[error(
        "the buckets of {0} would change, but the counts in the old buckets cannot be converted; \
         restore the old buckets, or restart llmload"
    )]
    Buckets(String),
    #[error(
        "this process can open only {limit} files, but the plan can need {needed} files: up to \
         max_concurrency for each target, a quarter more if the target has a URL, and \
         {OTHER_FILES} for everything else; raise `ulimit -n` or lower max_concurrency"
    )]
    Files { limit: u64, needed: u64 },
    #[error(
        "this process can open only {limit} files, but the plan can need {needed} files, and \
         requests of the previous configuration still use {draining} files; reload again when these \
         requests have ended, which takes up to {} s, or raise `ulimit -n`",
        GRACE.as_secs()
    )]
    DrainingFiles { limit: u64, needed: u64, draining: u64 },
}
