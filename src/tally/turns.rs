//! The turns of the sessions of a run, by their number in the session.

use serde::{Deserialize, Serialize};

use super::Distribution;
use crate::event::{Arrival, Event, TurnGroup};
use crate::measurement::Usage;

/// The requests of one [`TurnGroup`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnStatistics {
    pub sent: u64,
    pub succeeded: u64,
    /// The time from sending to the first token.
    pub time_to_first_token: Distribution,
    /// Input tokens of successes whose cached tokens the endpoint counted.
    pub input_tokens: u64,
    /// The part of `input_tokens` that was found in a prefix cache.
    pub cached_input_tokens: u64,
    /// The number of these successes.
    pub counted: u64,
}

impl Default for TurnStatistics {
    fn default() -> TurnStatistics {
        TurnStatistics {
            sent: 0,
            succeeded: 0,
            time_to_first_token: Distribution::for_times(),
            input_tokens: 0,
            cached_input_tokens: 0,
            counted: 0,
        }
    }
}

impl TurnStatistics {
    pub(super) fn add(&mut self, other: &TurnStatistics) {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.time_to_first_token.add(&other.time_to_first_token);
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.counted += other.counted;
    }

    fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Sent { .. } => self.sent += 1,
            Event::FirstToken { since_sent, .. } => {
                self.time_to_first_token.record(since_sent.as_secs_f64());
            }
            Event::Succeeded(measurement) => {
                self.succeeded += 1;
                let Usage { input, cached_input, .. } = measurement.usage;
                if let (Some(input), Some(cached)) = (input, cached_input) {
                    self.counted += 1;
                    self.input_tokens += input;
                    self.cached_input_tokens += cached;
                }
            }
            _ => {}
        }
    }
}

/// The statistics of each group of turns, in the order of [`TurnGroup::ALL`].
pub type TurnGroups = [TurnStatistics; TurnGroup::ALL.len()];

pub(super) fn record(groups: &mut TurnGroups, arrival: &Arrival, event: Event<'_>) {
    groups[TurnGroup::of(arrival.turn) as usize].record(event);
}
