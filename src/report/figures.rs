//! The statistics of a report. The field names are the names of the metrics.

use serde::{Deserialize, Serialize};

use crate::measurement::{Anomaly, Failure};
use crate::tally::{self, Distribution};

/// The statistics of a phase or of a complete run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// The time from the first due instant to the end of the request that ended last.
    pub seconds: f64,
    pub arrivals: u64,
    pub dropped: u64,
    pub sent: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// The number of requests that llmload sent once more, because their connection ended before
    /// the server could work on them.
    pub connection_retries: u64,
    /// `succeeded` / (`succeeded` + `failed`).
    pub success_rate: Option<f64>,
    /// Timeouts / (`succeeded` + `failed`).
    pub timeout_rate: Option<f64>,
    /// QPS: `succeeded` / `seconds`.
    pub queries_per_second: Option<f64>,
    /// The mean number of requests in flight: the sum of the durations of all finished requests /
    /// `seconds`.
    pub requests_in_flight: Option<f64>,
    /// Input tokens of successes, as counted by the endpoint. `None`, like the next three counts,
    /// if the endpoint reported this count for no success.
    pub input_tokens: Option<u64>,
    /// Output tokens of successes, as counted by the endpoint, including hidden reasoning.
    pub output_tokens: Option<u64>,
    /// The part of `input_tokens` that was found in a prefix cache.
    pub cached_input_tokens: Option<u64>,
    /// The part of `output_tokens` that was spent on reasoning.
    pub reasoning_tokens: Option<u64>,
    /// The number of successes for which the endpoint reported no valid count of output tokens.
    /// The counts and rates of output tokens exclude these successes.
    pub uncounted: u64,
    /// The number of events with text. One event can contain several tokens.
    pub output_chunks: u64,
    /// The throughput of the endpoint: `output_tokens` / `seconds`.
    pub output_tokens_per_second_total: Option<f64>,
    /// `output_tokens` / the sum of the durations of successes with a count of output tokens. Other
    /// tools call
    /// this value tokens per second.
    pub output_tokens_per_request_second: Option<f64>,
    /// TTFT, from sending.
    pub time_to_first_token_seconds: Summary,
    /// TTFT, from the due instant.
    pub time_to_first_token_from_schedule_seconds: Summary,
    /// TPOT: (last token − first token) / (tokens − 1).
    pub time_per_output_token_seconds: Summary,
    /// The time between two successive network reads that contain text.
    pub inter_chunk_latency_seconds: Summary,
    /// The duration of successes, from sending.
    pub request_duration_seconds: Summary,
    /// The duration of successes, from the due instant.
    pub request_duration_from_schedule_seconds: Summary,
    /// Tokens per second of each success: (tokens − 1) / (last token − first token). It has no
    /// mean, because the mean of such ratios says nothing about the time that the tokens took.
    pub output_tokens_per_second: Summary,
    /// The time from the due instant to sending.
    pub dispatch_lag_seconds: Summary,
    /// The number of successes with a protocol anomaly, by kind.
    pub response_anomalies: std::collections::BTreeMap<String, u64>,
}

/// The summary of a distribution. A quantile is `None` if there are too few values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub count: u64,
    pub mean: Option<f64>,
    pub min: Option<f64>,
    /// The median. `None` below 2 values.
    pub p50: Option<f64>,
    /// `None` below 10 values.
    pub p90: Option<f64>,
    /// `None` below 20 values.
    pub p95: Option<f64>,
    /// `None` below 100 values.
    pub p99: Option<f64>,
    /// `None` below 1,000 values.
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

impl Summary {
    fn new(values: &Distribution) -> Summary {
        let extremes = values.extremes();
        Summary {
            count: values.count(),
            mean: values.mean(),
            min: extremes.map(|extremes| extremes.0),
            p50: values.quantile(0.5),
            p90: values.quantile(0.9),
            p95: values.quantile(0.95),
            p99: values.quantile(0.99),
            p999: values.quantile(0.999),
            max: extremes.map(|extremes| extremes.1),
        }
    }
}

impl Statistics {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(tally: &tally::RawStatistics) -> Statistics {
        let (seconds, failed) = (tally.seconds(), tally.failed());
        let finished = tally.succeeded + failed;
        let timeouts = Failure::ALL
            .into_iter()
            .zip(tally.failures)
            .filter(|(failure, _)| failure.is_timeout());
        let timeouts: u64 = timeouts.map(|(_, count)| count).sum();
        let ratio = |amount: f64, total: f64| (total > 0.0).then(|| amount / total);
        let counted_seconds = tally.counted_duration.as_secs_f64();
        let output_tokens = tally.tokens.output.map(|tokens| tokens as f64);
        let anomalies =
            Anomaly::ALL.into_iter().zip(tally.anomalies).filter(|(_, count)| *count > 0);
        Statistics {
            seconds,
            arrivals: tally.arrivals(),
            dropped: tally.dropped.iter().sum(),
            sent: tally.sent,
            succeeded: tally.succeeded,
            failed,
            connection_retries: tally.connection_retries,
            success_rate: ratio(tally.succeeded as f64, finished as f64),
            timeout_rate: ratio(timeouts as f64, finished as f64),
            queries_per_second: ratio(tally.succeeded as f64, seconds),
            requests_in_flight: ratio(tally.total_duration.as_secs_f64(), seconds),
            input_tokens: tally.tokens.input,
            output_tokens: tally.tokens.output,
            cached_input_tokens: tally.tokens.cached_input,
            reasoning_tokens: tally.tokens.reasoning,
            uncounted: tally.succeeded - tally.counted,
            output_chunks: tally.chunks,
            output_tokens_per_second_total: output_tokens.and_then(|tokens| ratio(tokens, seconds)),
            output_tokens_per_request_second: output_tokens
                .and_then(|tokens| ratio(tokens, counted_seconds)),
            time_to_first_token_seconds: Summary::new(&tally.time_to_first_token),
            time_to_first_token_from_schedule_seconds: Summary::new(
                &tally.time_to_first_token_from_schedule,
            ),
            time_per_output_token_seconds: Summary::new(&tally.time_per_output_token),
            inter_chunk_latency_seconds: Summary::new(&tally.inter_chunk_latency),
            request_duration_seconds: Summary::new(&tally.request_duration),
            request_duration_from_schedule_seconds: Summary::new(
                &tally.request_duration_from_schedule,
            ),
            output_tokens_per_second: Summary {
                mean: None,
                ..Summary::new(&tally.output_tokens_per_second)
            },
            dispatch_lag_seconds: Summary::new(&tally.dispatch_lag),
            response_anomalies: anomalies
                .map(|(kind, count)| (kind.as_str().to_owned(), count))
                .collect(),
        }
    }
}
