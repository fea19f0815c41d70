//! Counts over time in a bounded number of intervals. Their length doubles as the run gets longer.

use std::time::Duration;

use tokio::time::Instant;

use super::Distribution;
use crate::event::{Arrival, Event};

/// The initial length of an interval.
const FIRST_WIDTH: Duration = Duration::from_secs(1);
/// The most intervals. Before there is one more, neighbours are merged in pairs.
const MOST_INTERVALS: usize = 240;

/// The intervals of a run, all of the same length.
#[derive(Clone, Debug)]
pub struct Timeline {
    origin: Option<Instant>,
    width: Duration,
    intervals: Vec<TimelineInterval>,
}

#[derive(Clone, Debug, Default)]
pub struct TimelineInterval {
    pub arrivals: u64,
    pub dropped: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// TTFT of the first tokens that arrived in the interval.
    pub time_to_first_token: Option<Distribution>,
}

impl TimelineInterval {
    fn add(&mut self, other: TimelineInterval) {
        self.arrivals += other.arrivals;
        self.dropped += other.dropped;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        match (&mut self.time_to_first_token, other.time_to_first_token) {
            (Some(times), Some(others)) => times.add(&others),
            (none @ None, others) => *none = others,
            (Some(_), None) => {}
        }
    }
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { origin: None, width: FIRST_WIDTH, intervals: Vec::new() }
    }
}

impl Timeline {
    /// The length of one interval.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// From the first arrival on.
    pub fn intervals(&self) -> &[TimelineInterval] {
        &self.intervals
    }

    pub(super) fn record(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { .. } => self.at(arrival.due).arrivals += 1,
            Event::Dropped(_) => {
                let interval = self.at(arrival.due);
                interval.arrivals += 1;
                interval.dropped += 1;
            }
            Event::FirstToken { since_sent, since_due } => {
                let times = &mut self.at(arrival.due + since_due).time_to_first_token;
                times
                    .get_or_insert_with(Distribution::of_rough_times)
                    .record(since_sent.as_secs_f64());
            }
            Event::Succeeded(measurement) => self.at(measurement.end).succeeded += 1,
            Event::Failed { since_due, .. } => self.at(arrival.due + since_due).failed += 1,
            _ => {}
        }
    }

    fn at(&mut self, instant: Instant) -> &mut TimelineInterval {
        let origin = *self.origin.get_or_insert(instant);
        let after = instant.saturating_duration_since(origin);
        while after.as_nanos() / self.width.as_nanos() >= MOST_INTERVALS as u128 {
            self.merge_pairs();
        }
        let index =
            usize::try_from(after.as_nanos() / self.width.as_nanos()).unwrap_or(MOST_INTERVALS - 1);
        if self.intervals.len() <= index {
            self.intervals.resize_with(index + 1, TimelineInterval::default);
        }
        &mut self.intervals[index]
    }

    fn merge_pairs(&mut self) {
        self.width *= 2;
        let mut intervals = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = intervals.next() {
            if let Some(second) = intervals.next() {
                first.add(second);
            }
            self.intervals.push(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_any_length_keeps_its_sums_in_a_bounded_number_of_intervals() {
        let (origin, mut timeline) = (Instant::now(), Timeline::default());
        for second in 0..100_000 {
            let due = origin + Duration::from_secs(second);
            let arrival = Arrival { k: second, due, phase: Some(0), lengths: None };
            timeline.record(&arrival, Event::Sent { lag: Duration::ZERO });
            let since = Duration::from_millis(100);
            timeline.record(&arrival, Event::FirstToken { since_sent: since, since_due: since });
        }
        assert_eq!(timeline.width(), Duration::from_secs(512));
        assert!(timeline.intervals().len() <= MOST_INTERVALS);
        assert_eq!(
            timeline.intervals().iter().map(|interval| interval.arrivals).sum::<u64>(),
            100_000
        );
        assert_eq!(timeline.intervals()[0].arrivals, 512);
        let times = timeline.intervals()[0].time_to_first_token.as_ref().unwrap();
        assert_eq!((times.count(), times.quantile(0.5)), (512, Some(0.1)));
    }
}
