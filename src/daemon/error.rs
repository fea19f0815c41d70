//! The reasons why a daemon cannot start, or ends early.

use super::GRACE;
use crate::endpoint::BuildError;
use crate::metrics;
use crate::plan::OTHER_FILES;
use crate::scenario::ScenarioError;

/// Why a daemon could not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario ended before its schedule.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The client of a target could not be built.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The built-in simulator could not be started.
    #[error("target {target}: the simulator could not be started: {source}")]
    Simulator {
        /// The target.
        target: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The socket of the web server cannot be used.
    #[error("the web server's socket cannot be used: {0}")]
    Socket(#[source] std::io::Error),
    /// A thread could not start, or it panicked.
    #[error("a thread could not be started; raise the limit of processes (`ulimit -u`)")]
    Thread,
    /// Two metric families have the same name.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] metrics::Defect),
    /// A reload would change the buckets of existing histograms.
    #[error(
        "the buckets of {0} would change, but the counts in the old buckets cannot be converted; \
         restore the old buckets, or restart llmload"
    )]
    Buckets(String),
    /// The plan can need more open files than the process is allowed to open.
    #[error(
        "this process can open only {limit} files, but the plan can need {needed} files: up to \
         max_concurrency for each target, a quarter more if the target has a URL, and \
         {OTHER_FILES} for everything else; raise `ulimit -n` or lower max_concurrency"
    )]
    Files {
        /// The number of files that the process is allowed to open.
        limit: u64,
        /// The number of files that the plan can need.
        needed: u64,
    },
    /// The plan and the requests of the previous plan together can need more open files than the
    /// process is allowed to open.
    #[error(
        "this process can open only {limit} files, but the plan can need {needed} files, and \
         requests of the previous configuration still use {draining} files; reload again when these \
         requests have ended, which takes up to {} s, or raise `ulimit -n`",
        GRACE.as_secs()
    )]
    DrainingFiles {
        /// The number of files that the process is allowed to open.
        limit: u64,
        /// The number of files that the plan can need.
        needed: u64,
        /// The number of files that requests of removed routes still use.
        draining: u64,
    },
}
