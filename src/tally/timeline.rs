//! Counts over time, in a bounded number of intervals. If the run needs more intervals, their
//! length doubles.

use std::time::Duration;

use tokio::time::Instant;

use super::Distribution;
use crate::event::{Arrival, Event};

/// The initial length of an interval.
const INITIAL_WIDTH: Duration = Duration::from_secs(1);
/// The most intervals of a timeline. If the run needs more, neighbouring intervals are merged in
/// pairs.
const MAX_INTERVALS: usize = 240;

/// The intervals of a run. All intervals have the same length.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The due instant of the first arrival, where the first interval begins.
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
    /// TTFT of the requests whose first token arrived in the interval.
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
        Timeline { origin: None, width: INITIAL_WIDTH, intervals: Vec::new() }
    }
}

impl Timeline {
    /// The start of the first interval; `None` without an arrival.
    pub fn origin(&self) -> Option<Instant> {
        self.origin
    }

    /// The length of one interval.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// The intervals in the order of time. The first interval begins with the first arrival.
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
                    .get_or_insert_with(Distribution::for_coarse_times)
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
        while after.as_nanos() / self.width.as_nanos() >= MAX_INTERVALS as u128 {
            self.merge_pairs();
        }
        let index =
            usize::try_from(after.as_nanos() / self.width.as_nanos()).unwrap_or(MAX_INTERVALS - 1);
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
    fn a_long_run_has_a_bounded_number_of_intervals_with_exact_sums() {
        let (origin, mut timeline) = (Instant::now(), Timeline::default());
        for second in 0..100_000 {
            let due = origin + Duration::from_secs(second);
            let arrival = Arrival { k: second, due, phase: Some(0), lengths: None };
            timeline.record(&arrival, Event::Sent { lag: Duration::ZERO, waited: Duration::ZERO });
            let since = Duration::from_millis(100);
            timeline.record(&arrival, Event::FirstToken { since_sent: since, since_due: since });
        }
        assert_eq!(timeline.width(), Duration::from_secs(512));
        assert!(timeline.intervals().len() <= MAX_INTERVALS);
        assert_eq!(
            timeline.intervals().iter().map(|interval| interval.arrivals).sum::<u64>(),
            100_000
        );
        assert_eq!(timeline.intervals()[0].arrivals, 512);
        let times = timeline.intervals()[0].time_to_first_token.as_ref().unwrap();
        assert_eq!((times.count(), times.quantile(0.5)), (512, Some(0.1)));
    }
}
