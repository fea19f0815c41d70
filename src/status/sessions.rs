//! The sessions of a route, for the JSON document of the status.

use serde::Serialize;

use crate::launch::RouteState;
use crate::ledger::SessionCounts;

#[derive(Debug, Serialize)]
pub(super) struct SessionStatus {
    started: u64,
    completed: u64,
    in_progress: u64,
    /// Reasons that did not occur are absent.
    ended_early: Vec<EndCount>,
    history_bytes: u64,
}

#[derive(Debug, Serialize)]
struct EndCount {
    reason: &'static str,
    count: u64,
}

impl SessionStatus {
    /// `None` if the prompts have no turns.
    pub(super) fn of(route: &RouteState) -> Option<SessionStatus> {
        let state = route.has_sessions().then_some(&route.session_state)?;
        let counts = state.ledger.counts();
        let ended = counts.ended_early().filter(|(_, count)| *count > 0);
        let ended_early =
            ended.map(|(reason, count)| EndCount { reason: reason.as_str(), count }).collect();
        let SessionCounts { started, completed, in_progress, .. } = counts;
        let history_bytes = state.history_bytes();
        Some(SessionStatus { started, completed, in_progress, ended_early, history_bytes })
    }
}
