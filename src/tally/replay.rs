//! The schedule fidelity of a replay: how far behind the recorded instants llmload sent its rows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Distribution;
use crate::event::{Arrival, Event};

/// llmload sends a row on time if it sends the row at most this long after the recorded instant.
pub const ON_TIME: Duration = Duration::from_millis(100);

/// The rows of all replays of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayCounts {
    pub dropped: u64,
    /// The number of rows that llmload sent on time.
    pub on_time: u64,
    /// The time from the recorded instant to the sending.
    pub lag: Distribution,
}

impl Default for ReplayCounts {
    fn default() -> ReplayCounts {
        ReplayCounts { dropped: 0, on_time: 0, lag: Distribution::for_times() }
    }
}

impl ReplayCounts {
    /// Ignores the arrivals of other phases.
    pub(super) fn record(counts: &mut Option<ReplayCounts>, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { lag, .. } => {
                let Some(lag) = arrival.replay_lag(lag) else { return };
                let counts = counts.get_or_insert_default();
                counts.lag.record(lag.as_secs_f64());
                counts.on_time += u64::from(lag <= ON_TIME);
            }
            Event::Dropped(_) if arrival.lengths.is_some() => {
                counts.get_or_insert_default().dropped += 1;
            }
            _ => {}
        }
    }

    pub(super) fn add(&mut self, other: &ReplayCounts) {
        self.dropped += other.dropped;
        self.on_time += other.on_time;
        self.lag.add(&other.lag);
    }
}
