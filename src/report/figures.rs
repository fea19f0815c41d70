//! The figures of a report, each named as its metric is.

use serde::{Deserialize, Serialize};

use crate::measurement::{Anomaly, Failure};
use crate::tally::{self, Distribution};

/// What a number of arrivals amounted to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// From the first due instant to the last end.
    pub seconds: f64,
    /// Arrivals that were due.
    pub arrivals: u64,
    /// Those that were not sent.
    pub dropped: u64,
    /// Those that were sent.
    pub sent: u64,
    /// Those of them that succeeded.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
    /// Succeeded / (succeeded + failed).
    pub success_rate: Option<f64>,
    /// Those that failed by a timeout / (succeeded + failed).
    pub timeout_rate: Option<f64>,
    /// QPS: successes / seconds.
    pub queries_per_second: Option<f64>,
    /// Requests in flight on the average: the durations of all that finished / seconds.
    pub requests_in_flight: Option<f64>,
    /// As the endpoint counted them.
    pub input_tokens: u64,
    /// Likewise, hidden reasoning included.
    pub output_tokens: u64,
    /// The part of the input that came from a prefix cache.
    pub cached_input_tokens: u64,
    /// The part of the output spent on reasoning.
    pub reasoning_tokens: u64,
    /// Successes whose tokens the endpoint did not count; they are in no figure of tokens.
    pub uncounted: u64,
    /// Events that brought text: where nothing was counted, the best guess at output tokens.
    pub output_chunks: u64,
    /// Output tokens / seconds: what the endpoint delivered.
    pub output_tokens_per_second_total: Option<f64>,
    /// Output tokens / durations of the successes that they are counted of: what classic tools call tokens per second.
    pub output_tokens_per_request_second: Option<f64>,
    /// TTFT, from sending.
    pub time_to_first_token_seconds: Summary,
    /// TTFT, from the due instant.
    pub time_to_first_token_from_schedule_seconds: Summary,
    /// TPOT: (last token − first token) / (tokens − 1).
    pub time_per_output_token_seconds: Summary,
    /// Between reads that brought text.
    pub inter_chunk_latency_seconds: Summary,
    /// Of each success, from sending.
    pub request_duration_seconds: Summary,
    /// Of each success, from the due instant.
    pub request_duration_from_schedule_seconds: Summary,
    /// TPS of each success: (tokens − 1) / (last token − first token).
    pub output_tokens_per_second: Summary,
    /// From the due instant to sending.
    pub dispatch_lag_seconds: Summary,
    /// Successes that bent the protocol, by kind.
    pub response_anomalies: std::collections::BTreeMap<String, u64>,
}

/// A distribution in some numbers. What too few values stand for is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// Their mean.
    pub mean: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// From 10 values on.
    pub p90: Option<f64>,
    /// From 20 values on.
    pub p95: Option<f64>,
    /// From 100 values on.
    pub p99: Option<f64>,
    /// From 1,000 values on.
    pub p999: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

impl Summary {
    fn of(values: &Distribution) -> Summary {
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

impl Figures {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn of(tally: &tally::Figures) -> Figures {
        let (seconds, failed) = (tally.seconds(), tally.failed());
        let finished = tally.succeeded + failed;
        let timeouts = Failure::ALL
            .into_iter()
            .zip(tally.failures)
            .filter(|(failure, _)| failure.is_timeout());
        let timeouts: u64 = timeouts.map(|(_, count)| count).sum();
        let over = |amount: f64, whole: f64| (whole > 0.0).then(|| amount / whole);
        let answering = tally.answering.as_secs_f64();
        let counted = (tally.counted > 0).then_some(tally.tokens.output as f64);
        let anomalies =
            Anomaly::ALL.into_iter().zip(tally.anomalies).filter(|(_, count)| *count > 0);
        Figures {
            seconds,
            arrivals: tally.arrivals(),
            dropped: tally.dropped.iter().sum(),
            sent: tally.sent,
            succeeded: tally.succeeded,
            failed,
            success_rate: over(tally.succeeded as f64, finished as f64),
            timeout_rate: over(timeouts as f64, finished as f64),
            queries_per_second: over(tally.succeeded as f64, seconds),
            requests_in_flight: over(tally.busy.as_secs_f64(), seconds),
            input_tokens: tally.tokens.input,
            output_tokens: tally.tokens.output,
            cached_input_tokens: tally.tokens.cached_input,
            reasoning_tokens: tally.tokens.reasoning,
            uncounted: tally.succeeded - tally.counted,
            output_chunks: tally.chunks,
            output_tokens_per_second_total: counted.and_then(|tokens| over(tokens, seconds)),
            output_tokens_per_request_second: counted.and_then(|tokens| over(tokens, answering)),
            time_to_first_token_seconds: Summary::of(&tally.time_to_first_token),
            time_to_first_token_from_schedule_seconds: Summary::of(
                &tally.time_to_first_token_from_schedule,
            ),
            time_per_output_token_seconds: Summary::of(&tally.time_per_output_token),
            inter_chunk_latency_seconds: Summary::of(&tally.inter_chunk_latency),
            request_duration_seconds: Summary::of(&tally.request_duration),
            request_duration_from_schedule_seconds: Summary::of(
                &tally.request_duration_from_schedule,
            ),
            output_tokens_per_second: Summary::of(&tally.output_tokens_per_second),
            dispatch_lag_seconds: Summary::of(&tally.dispatch_lag),
            response_anomalies: anomalies
                .map(|(kind, count)| (kind.as_str().to_owned(), count))
                .collect(),
        }
    }
}
