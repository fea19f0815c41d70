//! The counts, the load and the TTFT of a route over time. The charts of the page show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::statistics::TokensPerChunk;
use crate::measurement::Failure;
use crate::tally::{Timeline, TimelineInterval};

/// Values over time. The lists have one value per interval. All intervals have the same length,
/// and the first interval begins with the first arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimelineReport {
    /// The length of one interval.
    pub interval_seconds: f64,
    /// The start of the first interval, in seconds from the start of the schedule.
    pub start_seconds: f64,
    pub arrivals: Vec<u64>,
    pub dropped: Vec<u64>,
    pub succeeded: Vec<u64>,
    pub failed: Vec<u64>,
    /// The parts of `failed`, by class of failure. Only classes that occurred.
    pub failures: BTreeMap<String, Vec<u64>>,
    /// The output tokens that arrived, per second, estimated as in
    /// [`WindowReport::output_tokens`](super::WindowReport::output_tokens).
    pub output_tokens_per_second: Vec<Option<f64>>,
    /// The mean number of requests in flight.
    pub requests_in_flight: Vec<f64>,
    /// The median TTFT of the requests whose first token arrived in the interval, with one
    /// significant digit.
    pub time_to_first_token_p50_seconds: Vec<Option<f64>>,
    /// The p99 of the same requests, with one significant digit. Below 100 requests, this is the
    /// highest TTFT.
    pub time_to_first_token_p99_seconds: Vec<Option<f64>>,
    /// The highest TTFT of the same requests.
    pub time_to_first_token_max_seconds: Vec<Option<f64>>,
    /// The quantile of the objective of TTFT, from 0 to 1. `None` without such an objective, and if
    /// its quantile is the median or the p99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token_quantile: Option<f64>,
    /// This quantile of the same requests. If there are too few requests, this is the highest TTFT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub time_to_first_token_quantile_seconds: Vec<Option<f64>>,
}

impl TimelineReport {
    /// `origin` is the start of the schedule. `objective` is the quantile of the objective of TTFT.
    pub(super) fn new(
        timeline: &Timeline,
        origin: Option<Instant>,
        per_chunk: TokensPerChunk,
        objective: Option<f64>,
    ) -> TimelineReport {
        fn each<T>(
            intervals: &[TimelineInterval],
            value: impl Fn(&TimelineInterval) -> T,
        ) -> Vec<T> {
            intervals.iter().map(value).collect()
        }
        let intervals = timeline.intervals();
        let seconds = timeline.width().as_secs_f64();
        let start = timeline.origin().zip(origin);
        let failures = Failure::ALL.into_iter().enumerate().filter_map(|(index, class)| {
            let counts = each(intervals, |interval| interval.failures.get(index).copied());
            let counts: Vec<u64> = counts.into_iter().flatten().collect();
            let occurred = counts.iter().any(|count| *count > 0);
            occurred.then(|| (class.as_str().to_owned(), counts))
        });
        let times = |interval: &TimelineInterval| interval.time_to_first_token.clone();
        let high = |interval: &TimelineInterval, quantile| {
            let times = times(interval)?;
            times.quantile(quantile).or(times.extremes().map(|extremes| extremes.1))
        };
        let objective = objective.filter(|quantile| ![0.5, 0.99].contains(quantile));
        let is_counted = intervals.iter().any(|interval| interval.output_tokens.is_some());
        TimelineReport {
            interval_seconds: seconds,
            start_seconds: start.map_or(0.0, |(start, origin)| {
                start.saturating_duration_since(origin).as_secs_f64()
            }),
            arrivals: each(intervals, |interval| interval.arrivals),
            dropped: each(intervals, |interval| interval.dropped),
            succeeded: each(intervals, |interval| interval.succeeded),
            failed: each(intervals, TimelineInterval::failed),
            failures: failures.collect(),
            output_tokens_per_second: each(intervals, |interval| {
                let counted = interval.output_tokens.or(is_counted.then_some(0));
                Some(per_chunk.arrived(interval.chunks, counted)? / seconds)
            }),
            requests_in_flight: timeline.requests_in_flight(),
            time_to_first_token_p50_seconds: each(intervals, |interval| {
                let times = times(interval)?;
                times.quantile(0.5).or(times.mean())
            }),
            time_to_first_token_p99_seconds: each(intervals, |interval| high(interval, 0.99)),
            time_to_first_token_max_seconds: each(intervals, |interval| {
                Some(times(interval)?.extremes()?.1)
            }),
            time_to_first_token_quantile: objective,
            time_to_first_token_quantile_seconds: objective
                .map(|quantile| each(intervals, |interval| high(interval, quantile)))
                .unwrap_or_default(),
        }
    }
}
