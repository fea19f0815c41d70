//! How a run went over time: so many intervals, which grow longer as it does.

use std::time::Duration;

use tokio::time::Instant;

use super::Distribution;
use crate::event::{Arrival, Event};

/// How long an interval is at first.
const FIRST_WIDTH: Duration = Duration::from_secs(1);
/// How many there may be; one more, and each takes in the next.
const INTERVALS: usize = 240;

/// A run by intervals of one length.
#[derive(Clone, Debug)]
pub struct Timeline {
    origin: Option<Instant>,
    width: Duration,
    intervals: Vec<Interval>,
}

/// What happened in one interval.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Arrivals that were due.
    pub arrivals: u64,
    /// Those of them that were not sent.
    pub dropped: u64,
    /// Requests that succeeded.
    pub succeeded: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Times to the first token, of those that came.
    pub time_to_first_token: Option<Distribution>,
}

impl Interval {
    fn add(&mut self, other: Interval) {
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
    /// How long each interval is.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// From the first that something was due in.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    pub(super) fn enter(&mut self, arrival: &Arrival, event: Event<'_>) {
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
                    .enter(since_sent.as_secs_f64());
            }
            Event::Succeeded(measurement) => self.at(measurement.end).succeeded += 1,
            Event::Failed { since_due, .. } => self.at(arrival.due + since_due).failed += 1,
            _ => {}
        }
    }

    fn at(&mut self, instant: Instant) -> &mut Interval {
        let origin = *self.origin.get_or_insert(instant);
        let after = instant.saturating_duration_since(origin);
        while after.as_nanos() / self.width.as_nanos() >= INTERVALS as u128 {
            self.fold();
        }
        let index =
            usize::try_from(after.as_nanos() / self.width.as_nanos()).unwrap_or(INTERVALS - 1);
        if self.intervals.len() <= index {
            self.intervals.resize_with(index + 1, Interval::default);
        }
        &mut self.intervals[index]
    }

    fn fold(&mut self) {
        self.width *= 2;
        let mut halves = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = halves.next() {
            if let Some(second) = halves.next() {
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
    fn a_run_of_any_length_keeps_its_sums_in_so_many_intervals() {
        let (origin, mut timeline) = (Instant::now(), Timeline::default());
        for second in 0..100_000 {
            let due = origin + Duration::from_secs(second);
            let arrival = Arrival { k: second, due, phase: Some(0), lengths: None };
            timeline.enter(&arrival, Event::Sent { lag: Duration::ZERO });
            let since = Duration::from_millis(100);
            timeline.enter(&arrival, Event::FirstToken { since_sent: since, since_due: since });
        }
        assert_eq!(timeline.width(), Duration::from_secs(512));
        assert!(timeline.intervals().len() <= INTERVALS);
        assert_eq!(
            timeline.intervals().iter().map(|interval| interval.arrivals).sum::<u64>(),
            100_000
        );
        assert_eq!(timeline.intervals()[0].arrivals, 512);
        let times = timeline.intervals()[0].time_to_first_token.as_ref().unwrap();
        assert_eq!((times.count(), times.quantile(0.5)), (512, Some(0.1)));
    }
}
