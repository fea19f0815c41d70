//! The series of the turns of sessions. Only scenarios with sessions have them.

use prometheus::{Histogram, IntCounter};

use super::series::{Registrar, SeriesSet, metric_structs};
use crate::event::{Arrival, Event, TurnGroup};
use crate::measurement::Usage;

metric_structs! {
    PerTurnFamilies,
    /// One series for each [`TurnGroup`].
    PerTurnMetrics {
        time_to_first_token: Vec<Histogram> = SESSION_TURN_TIME_TO_FIRST_TOKEN;
        input_tokens: Vec<IntCounter> = SESSION_TURN_INPUT_TOKENS;
        cached_input_tokens: Vec<IntCounter> = SESSION_TURN_CACHED_INPUT_TOKENS;
    }
}

#[derive(Debug)]
pub(super) struct TurnFamilies(PerTurnFamilies);

impl TurnFamilies {
    pub(super) fn register(registrar: &Registrar<'_>) -> prometheus::Result<TurnFamilies> {
        PerTurnFamilies::register(registrar).map(TurnFamilies)
    }

    pub(super) fn bind_turns(&self, labels: &[&str], series: &mut SeriesSet) -> TurnMetrics {
        TurnMetrics(self.0.bind(labels, series))
    }
}

#[derive(Debug)]
pub(super) struct TurnMetrics(PerTurnMetrics);

impl TurnMetrics {
    pub(super) fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        let TurnMetrics(metrics) = self;
        let group = TurnGroup::of(arrival.turn) as usize;
        match event {
            Event::FirstToken { since_sent, .. } => {
                metrics.time_to_first_token[group].observe(since_sent.as_secs_f64());
            }
            Event::Succeeded(measurement) => {
                let Usage { input, cached_input, .. } = measurement.usage;
                // The quotient of the two counters needs both counts.
                if let (Some(input), Some(cached)) = (input, cached_input) {
                    metrics.input_tokens[group].inc_by(input);
                    metrics.cached_input_tokens[group].inc_by(cached);
                }
            }
            _ => {}
        }
    }
}
