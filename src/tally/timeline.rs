//! Counts over time, in a bounded number of intervals. If the run needs more intervals, their
//! length doubles.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Distribution;
use crate::event::{Arrival, Event};
use crate::measurement::Failure;

/// The initial length of an interval.
const INITIAL_WIDTH: Duration = Duration::from_secs(1);
/// The most intervals of a timeline. If the run needs more, neighbouring intervals are merged in
/// pairs.
const MAX_INTERVALS: usize = 240;

/// The intervals of a run. All intervals have the same length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The start of the first interval: the due instant of the first arrival, or the start of the
    /// schedule.
    #[serde(skip)]
    origin: Option<Instant>,
    width: Duration,
    intervals: Vec<TimelineInterval>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimelineInterval {
    pub arrivals: u64,
    pub dropped: u64,
    pub succeeded: u64,
    /// The number of failures of each class, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// The number of events with text that arrived.
    pub chunks: u64,
    /// The output tokens of the successes that ended, as counted by the endpoint.
    pub output_tokens: Option<u64>,
    in_flight: InFlightChange,
    /// TTFT of the requests whose first token arrived in the interval.
    pub time_to_first_token: Option<Distribution>,
}

/// The change of the number of requests in flight in an interval. The changes of all intervals
/// determine the mean number in each interval, in whatever order the events were recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InFlightChange {
    /// The number of requests that began, minus the number that ended.
    change: i64,
    /// The time from each beginning to the end of the interval, minus the same for each end.
    nanos: i128,
}

impl TimelineInterval {
    /// The number of failures, of any class.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Adds the next interval. Both have the length `width`.
    fn append(&mut self, other: &TimelineInterval, width: Duration) {
        self.in_flight.extend(width);
        self.add(other);
    }

    /// Adds the same interval of another shard.
    fn add(&mut self, other: &TimelineInterval) {
        self.arrivals += other.arrivals;
        self.dropped += other.dropped;
        self.succeeded += other.succeeded;
        for (count, more) in self.failures.iter_mut().zip(other.failures) {
            *count += more;
        }
        self.chunks += other.chunks;
        self.output_tokens = match (self.output_tokens, other.output_tokens) {
            (None, None) => None,
            (one, next) => Some(one.unwrap_or_default().saturating_add(next.unwrap_or_default())),
        };
        self.in_flight.change += other.in_flight.change;
        self.in_flight.nanos += other.in_flight.nanos;
        match (&mut self.time_to_first_token, &other.time_to_first_token) {
            (Some(times), Some(others)) => times.add(others),
            (none @ None, others) => none.clone_from(others),
            (Some(_), None) => {}
        }
    }
}

impl InFlightChange {
    fn record(&mut self, change: i64, until_end: Duration) {
        self.change += change;
        self.nanos += i128::from(change) * signed(until_end);
    }

    /// Makes the interval longer.
    fn extend(&mut self, by: Duration) {
        self.nanos += i128::from(self.change) * signed(by);
    }
}

fn signed(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
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

    /// Starts the first interval at this instant, if no arrival has started it yet. The timelines
    /// of the shards of a run can only be added up if they start at the same instant.
    pub(super) fn start_at(&mut self, origin: Option<Instant>) {
        self.origin = self.origin.or(origin);
    }

    /// Adds the timeline of another shard. Both start at the same instant.
    pub(super) fn add(&mut self, other: &Timeline) {
        let mut other = other.clone();
        while self.width < other.width {
            self.merge_pairs();
        }
        while other.width < self.width {
            other.merge_pairs();
        }
        if self.intervals.len() < other.intervals.len() {
            self.intervals.resize_with(other.intervals.len(), TimelineInterval::default);
        }
        for (interval, others) in self.intervals.iter_mut().zip(&other.intervals) {
            interval.add(others);
        }
    }

    /// False if llmload cannot have recorded this timeline, so a file has been damaged.
    pub(super) fn is_plausible(&self) -> bool {
        // A year and the grace period of a drain need less than this.
        const LONGEST: u64 = 1 << 20;
        let seconds = self.width.as_secs();
        self.width.subsec_nanos() == 0
            && seconds.is_power_of_two()
            && seconds <= LONGEST
            && self.intervals.len() <= MAX_INTERVALS
    }

    /// The mean number of requests in flight in each interval.
    #[allow(clippy::cast_precision_loss)]
    pub fn requests_in_flight(&self) -> Vec<f64> {
        let width = signed(self.width);
        let mut at_start = 0_i64;
        let mean = |interval: &TimelineInterval| {
            let nanos = i128::from(at_start) * width + interval.in_flight.nanos;
            at_start += interval.in_flight.change;
            nanos.max(0) as f64 / width as f64
        };
        self.intervals.iter().map(mean).collect()
    }

    pub(super) fn record(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { lag, .. } => {
                self.at(arrival.due).arrivals += 1;
                self.change_in_flight(arrival.due + lag, 1);
            }
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
            Event::Chunks { count, at, .. } => self.at(at).chunks += u64::from(count),
            Event::Succeeded(measurement) => {
                let interval = self.at(measurement.end);
                interval.succeeded += 1;
                if let Some(tokens) = measurement.usage.output {
                    let sum = interval.output_tokens.unwrap_or_default().saturating_add(tokens);
                    interval.output_tokens = Some(sum);
                }
                self.change_in_flight(measurement.end, -1);
            }
            Event::Failed { detail, since_due, .. } => {
                let end = arrival.due + since_due;
                let class = Failure::ALL.iter().position(|class| *class == detail.failure);
                let failures = &mut self.at(end).failures;
                if let Some(count) = class.and_then(|class| failures.get_mut(class)) {
                    *count += 1;
                }
                self.change_in_flight(end, -1);
            }
            _ => {}
        }
    }

    fn change_in_flight(&mut self, at: Instant, change: i64) {
        self.at(at);
        let after = self.origin.map(|origin| at.saturating_duration_since(origin));
        let nanos = after.unwrap_or_default().as_nanos() % self.width.as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or_default();
        let until_end = self.width.saturating_sub(Duration::from_nanos(nanos));
        self.at(at).in_flight.record(change, until_end);
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
        let width = self.width;
        self.width *= 2;
        let mut intervals = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut first) = intervals.next() {
            match intervals.next() {
                Some(second) => first.append(&second, width),
                None => first.in_flight.extend(width),
            }
            self.intervals.push(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Evidence, RequestIds};
    use crate::measurement::FailureDetail;

    #[test]
    fn requests_in_flight_follow_from_events_in_any_order_and_survive_longer_intervals() {
        let (origin, zero) = (Instant::now(), Duration::ZERO);
        let (detail, ids) = (&FailureDetail::new(Failure::Reset, ""), &RequestIds::default());
        let evidence = &Evidence::default();
        let event = |is_end: bool, length: u64| {
            let since = Duration::from_millis(length);
            if is_end {
                return Event::Failed { detail, duration: since, since_due: since, ids, evidence };
            }
            Event::Sent { lag: zero, waited: zero }
        };
        // Pairs of the due time and the length in milliseconds.
        let requests = [(0, 10), (500, 1_000), (750, 4_250), (1_000, 500)];
        let mut timeline = Timeline::default();
        for (index, (due, length)) in requests.into_iter().enumerate() {
            let due = origin + Duration::from_millis(due);
            let arrival = Arrival { k: 0, due, phase: Some(0), lengths: None, turn: 0 };
            for is_end in if index == 2 { [true, false] } else { [false, true] } {
                timeline.record(&arrival, event(is_end, length));
            }
        }
        let close = |expected: &[f64], found: Vec<f64>| {
            let is_close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
            let all = expected.iter().zip(&found).all(is_close);
            assert!(all && found.len() >= expected.len(), "{found:?} instead of {expected:?}");
        };
        close(&[0.01 + 0.5 + 0.25, 2.0, 1.0, 1.0, 1.0, 0.0], timeline.requests_in_flight());
        // Intervals of two seconds.
        timeline.at(origin + Duration::from_mins(4));
        close(&[1.38, 1.0, 0.5, 0.0], timeline.requests_in_flight());
        let ended: Vec<u64> =
            timeline.intervals()[..3].iter().map(TimelineInterval::failed).collect();
        assert_eq!(ended, [3, 0, 1]);
    }

    #[test]
    fn a_long_run_has_a_bounded_number_of_intervals_with_exact_sums() {
        let (origin, mut timeline) = (Instant::now(), Timeline::default());
        for second in 0..100_000 {
            let due = origin + Duration::from_secs(second);
            let arrival = Arrival { k: second, due, phase: Some(0), lengths: None, turn: 0 };
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
