//! A manual rate override: its arrivals, and the log lines at its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::pacer::{Pacer, Segment};
use crate::schedule::{ArrivalSpec, Load, Phase, Rate, Schedule};

/// Returns the pacer of an override that begins at `start`.
pub(super) fn pacer(rate: Rate, length: Duration, arrivals: &ArrivalSpec, start: Instant) -> Pacer {
    let load = Load::Constant(rate);
    let schedule = Schedule::new(vec![Phase { name: load.to_string(), load, length }]);
    let segment = Segment::full_cycle(&schedule, 0, start);
    // The scenario name is a part of the seed. The suffix makes the random arrivals of the override
    // differ from those of the schedule. It must stay the same, because another suffix would change
    // the arrivals of every override.
    let scenario = format!("{} by hand", arrivals.scenario);
    let arrivals = ArrivalSpec { scenario, ..arrivals.clone() };
    Pacer::new(Arc::new(schedule), &arrivals, segment)
}

/// Logs that the time of an override is over.
pub(super) fn log_end(scenario: &str) {
    tracing::info!(scenario, "the time of the manual rate is over; the schedule continues");
}

/// Logs that a reload with another schedule ended an override.
pub(super) fn log_end_by_reload(scenario: &str) {
    tracing::info!(scenario, "the reload changed the schedule and ended the manual rate");
}
