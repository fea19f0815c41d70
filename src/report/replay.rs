//! The schedule fidelity of a replay.

use serde::{Deserialize, Serialize};

use super::Summary;
use super::tables::shown;
use crate::check::numbers::{duration, integer, percent};
use crate::tally::ReplayCounts;

/// The rows of traces that a run replayed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// The number of rows that were due, sent or not.
    pub rows: u64,
    pub dropped: u64,
    /// The part of `rows` that llmload sent within 100 ms of the recorded instant, from 0 to 1.
    pub on_time: f64,
    /// The time from the recorded instant to the sending, for each row that llmload sent.
    pub lag_seconds: Summary,
}

impl ReplayReport {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(counts: &ReplayCounts) -> ReplayReport {
        let rows = counts.lag.count() + counts.dropped;
        ReplayReport {
            rows,
            dropped: counts.dropped,
            on_time: counts.on_time as f64 / rows.max(1) as f64,
            lag_seconds: Summary::new(&counts.lag),
        }
    }

    /// The fidelity as one sentence.
    pub(super) fn text(&self) -> String {
        let ReplayReport { rows, dropped, on_time, lag_seconds: lag } = self;
        let mut text = format!(
            "replay: {} of {} rows sent within 100 ms of the trace",
            percent(*on_time),
            integer(*rows)
        );
        if *dropped > 0 {
            text = format!("{text}, {} dropped", integer(*dropped));
        }
        if lag.count > 0 {
            text = format!(
                "{text}; lag P50 {}, P99 {}, max {}",
                shown(lag.p50, duration),
                shown(lag.p99, duration),
                shown(lag.max, duration)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Distribution;

    #[test]
    fn the_sentence_has_the_fraction_on_time_the_drops_and_the_lag() {
        let mut lag = Distribution::for_times();
        (0..198).for_each(|_| lag.record(0.002));
        lag.record(1.5);
        let counts = ReplayCounts { dropped: 1, on_time: 198, lag };
        assert_eq!(
            ReplayReport::new(&counts).text(),
            "replay: 99 % of 200 rows sent within 100 ms of the trace, 1 dropped; lag P50 2 ms, \
             P99 2 ms, max 1.5 s"
        );
        let none = ReplayCounts { dropped: 3, ..ReplayCounts::default() };
        assert_eq!(
            ReplayReport::new(&none).text(),
            "replay: 0 % of 3 rows sent within 100 ms of the trace, 3 dropped"
        );
    }
}
