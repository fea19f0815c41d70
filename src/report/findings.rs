//! What a reader of a report should know before the numbers, and might not see in them.

use serde::{Deserialize, Serialize};

use super::Load;
use crate::check::numbers::duration;
use crate::event::DropReason;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A figure means less than it seems to.
    Warning,
    /// Good to know.
    Note,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// In words.
    pub words: String,
}

/// An arrival this late is sent at another time than its neighbours: half of what is dropped by default.
const LATE: f64 = 0.1;
/// From here on, requests wait for the generator or a connection rather than for the server.
const WAITING: f64 = 1.5;

pub(super) fn of(streams: &[Load]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut tell = |severity, words: String| found.push(Finding { severity, words });
    for load in streams {
        let (name, figures) = (load.name(streams), &load.total);
        if load.simulated {
            tell(
                Severity::Note,
                format!("{name}the target is the built-in simulator, not a model"),
            );
        }
        for (reason, count) in &load.ledger.dropped {
            let why = match DropReason::ALL.into_iter().find(|known| known.as_str() == reason) {
                Some(DropReason::MaxConcurrency) => {
                    "so many were in flight as max_concurrency allows: the endpoint did not keep up with the rate"
                }
                Some(DropReason::Late) => {
                    "they came up later than max_lag: the generator was held up"
                }
                Some(DropReason::Paused) => "the load was paused",
                Some(DropReason::Draining) | None => "the run was being stopped",
            };
            tell(
                Severity::Warning,
                format!("{name}{count} arrivals were dropped ({reason}): {why}"),
            );
        }
        for (reason, count) in &load.ledger.aborted {
            let words = format!(
                "{name}{count} requests were cut off by llmload ({reason}) and count for nothing"
            );
            tell(Severity::Warning, words);
        }
        if let Some(lag) = figures.dispatch_lag_seconds.p99.filter(|lag| *lag > LATE) {
            let lag = duration(lag);
            tell(
                Severity::Warning,
                format!("{name}1 % of the requests left more than {lag} after they were due"),
            );
        }
        let (sent, due) = (
            figures.time_to_first_token_seconds.p99,
            figures.time_to_first_token_from_schedule_seconds.p99,
        );
        if let (Some(sent), Some(due)) = (sent, due)
            && due > sent * WAITING
        {
            let words = format!(
                "{name}p99 to the first token is {} from the due instant and {} from sending: users would wait \
                 the former",
                duration(due),
                duration(sent)
            );
            tell(Severity::Warning, words);
        }
        if figures.uncounted > 0 {
            let words = format!(
                "{name}the endpoint counted no tokens of {} of {} successes (no usage): they are in no figure of \
                 tokens; {} chunks came in all, which is a guess at their number",
                figures.uncounted, figures.succeeded, figures.output_chunks
            );
            tell(Severity::Warning, words);
        }
        if figures.cached_input_tokens * 2 > figures.input_tokens {
            let words = format!(
                "{name}{} of {} input tokens came from a prefix cache: first tokens are faster than those of \
                 fresh prompts",
                figures.cached_input_tokens, figures.input_tokens
            );
            tell(Severity::Note, words);
        }
        if figures.time_to_first_token_seconds.count > 0
            && figures.time_to_first_token_seconds.p99.is_none()
        {
            let count = figures.time_to_first_token_seconds.count;
            tell(
                Severity::Note,
                format!("{name}{count} requests are too few for a p99, which takes 100"),
            );
        }
        for failed in &load.failures {
            let words = format!(
                "{name}{} × {} ({}): {}; {}",
                failed.count, failed.reason, failed.blame, failed.last_message, failed.remedy
            );
            tell(Severity::Warning, words);
        }
    }
    found
}
