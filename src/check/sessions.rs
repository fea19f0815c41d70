//! Forecasts the sessions of a scenario, each of which is a conversation of several turns.

use serde::Serialize;

use super::demand::{mean_turns, round_to_micro};
use crate::plan::Scenario;

/// The sessions of a scenario. Each turn is a request. A turn can be due after the span of the
/// forecast, so the number of requests is an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SessionForecast {
    pub sessions: f64,
    /// The mean number of turns of a session.
    pub turns: f64,
    /// In sessions per second.
    pub peak_rate: f64,
}

impl SessionForecast {
    /// `requests` and `peak_rate` are those of all turns. `None` if each arrival is a single
    /// request.
    pub(super) fn new(scenario: &Scenario, requests: f64, peak_rate: f64) -> Option<Self> {
        let turns = scenario.sessions.as_ref().map(|_| mean_turns(scenario))?;
        let (sessions, peak_rate) = (requests / turns, peak_rate / turns);
        let (sessions, peak_rate) = (round_to_micro(sessions), round_to_micro(peak_rate));
        Some(SessionForecast { sessions, turns, peak_rate })
    }
}
