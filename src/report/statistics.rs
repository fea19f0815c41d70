//! The statistics of a report. The field names are the names of the metrics.
//!
//! Counts and latencies belong to the requests that arrived in the phase. Rates belong to the time
//! in which the phase was on, whatever the phase in which a request arrived.

use serde::{Deserialize, Serialize};

use crate::measurement::{Anomaly, Blame, Failure};
use crate::plan::Prices;
use crate::tally::{Distribution, RawStatistics, WindowCounts};

/// The statistics of a phase or of a complete run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    /// The length of the phase: the time in which it was on. For a complete run: the sum over all
    /// phases.
    pub seconds: f64,
    pub arrivals: u64,
    /// The offered rate: `arrivals` / `seconds`.
    pub offered_per_second: Option<f64>,
    pub dropped: u64,
    pub sent: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// The number of requests that failed in llmload or its machine. `failed` contains them.
    pub failed_in_client: u64,
    /// The number of requests that llmload sent once more, because their connection ended before
    /// the server could work on them.
    pub connection_retries: u64,
    /// `succeeded` / (`succeeded` + `failed`).
    pub success_rate: Option<f64>,
    /// Timeouts / (`succeeded` + `failed`).
    pub timeout_rate: Option<f64>,
    /// QPS: `window.succeeded` / `seconds`.
    pub queries_per_second: Option<f64>,
    /// The successes that ended in `seconds` and met all objectives, per second. `None` without
    /// objectives.
    pub goodput_per_second: Option<f64>,
    /// The mean number of requests in flight: `window.request_seconds` / `seconds`.
    pub requests_in_flight: Option<f64>,
    pub peak_requests_in_flight: u64,
    /// The sum of the durations of all finished requests.
    pub request_seconds: f64,
    /// The events in `seconds`.
    pub window: WindowReport,
    /// Input tokens of successes, as counted by the endpoint. `None`, like the next three counts,
    /// if the endpoint reported this count for no success.
    pub input_tokens: Option<u64>,
    /// Output tokens of successes, as counted by the endpoint, including hidden reasoning.
    pub output_tokens: Option<u64>,
    /// The part of `input_tokens` that was found in a prefix cache.
    pub cached_input_tokens: Option<u64>,
    /// The part of `output_tokens` that was spent on reasoning.
    pub reasoning_tokens: Option<u64>,
    /// `reasoning_tokens` / `output_tokens`.
    pub reasoning_token_ratio: Option<f64>,
    /// The number of successes for which the endpoint reported no valid count of output tokens.
    /// The counts and rates of output tokens exclude these successes.
    pub uncounted: u64,
    /// The number of events with text. One event can contain several tokens.
    pub output_chunks: u64,
    /// True if the endpoint counted no output tokens. The rates of output tokens then count one
    /// token for each event with text, which is an estimate.
    pub is_token_estimate: bool,
    /// The throughput of the endpoint: `window.output_tokens` / `seconds`.
    pub output_tokens_per_second_total: Option<f64>,
    /// (`window.input_tokens` + `window.output_tokens`) / `seconds`.
    pub tokens_per_second_total: Option<f64>,
    /// `output_tokens` / the sum of the durations of successes with a count of output tokens. Other
    /// tools call this value tokens per second.
    pub output_tokens_per_request_second: Option<f64>,
    /// The price of `input_tokens` and `output_tokens`. `None` if the configuration has no prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Input tokens of each success.
    pub input_tokens_per_request: Summary,
    /// Output tokens of each success.
    pub output_tokens_per_request: Summary,
    /// Reasoning tokens of each success.
    pub reasoning_tokens_per_request: Summary,
    /// TTFT, from sending.
    pub time_to_first_token_seconds: Summary,
    /// TTFT, from the due instant.
    pub time_to_first_token_from_schedule_seconds: Summary,
    /// TTFO: from sending to the first text that is not reasoning, if reasoning came before it.
    pub time_to_first_answer_token_seconds: Summary,
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

/// The events in a part of a run. A request that arrived in one phase can end in the next phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowReport {
    /// The successes that ended.
    pub succeeded: u64,
    /// The failures that ended.
    pub failed: u64,
    /// Input tokens of the successes that ended.
    pub input_tokens: Option<u64>,
    /// The output tokens that arrived: the events with text that arrived, multiplied by the mean
    /// number of tokens of such an event. Without streaming: the output tokens of the successes
    /// that ended.
    pub output_tokens: Option<f64>,
    /// The integral of the number of requests in flight over the time, in seconds.
    pub request_seconds: f64,
}

/// A price.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub amount: f64,
    /// The currency code of ISO 4217.
    pub currency: String,
}

/// The number of output tokens of one event with text.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokensPerChunk {
    value: f64,
    is_estimate: bool,
    is_streamed: bool,
}

impl TokensPerChunk {
    /// Calculates the mean over all successes with a count of output tokens. `run` has the
    /// statistics of the complete run.
    #[allow(clippy::cast_precision_loss)]
    pub fn new(run: &RawStatistics) -> TokensPerChunk {
        let counted = run.tokens.output.filter(|_| run.counted_chunks > 0);
        TokensPerChunk {
            value: counted.map_or(1.0, |tokens| tokens as f64 / run.counted_chunks as f64),
            is_estimate: run.counted == 0 && run.chunks > 0,
            is_streamed: run.chunks > 0,
        }
    }

    /// Returns the number of output tokens that arrived. `counted` are the tokens of the successes
    /// that ended, which count if there was no stream.
    #[allow(clippy::cast_precision_loss)]
    pub fn arrived(self, chunks: u64, counted: Option<u64>) -> Option<f64> {
        if self.is_streamed {
            return Some(self.tokens(chunks));
        }
        counted.map(|tokens| tokens as f64)
    }

    /// Returns the number of tokens of a number of events with text.
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens(self, chunks: u64) -> f64 {
        chunks as f64 * self.value
    }
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
    pub(super) fn new(values: &Distribution) -> Summary {
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

impl WindowReport {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(window: &WindowCounts, per_chunk: TokensPerChunk) -> WindowReport {
        WindowReport {
            succeeded: window.succeeded,
            failed: window.failed,
            input_tokens: window.tokens.input,
            output_tokens: per_chunk.arrived(window.chunks, window.tokens.output),
            request_seconds: window.in_flight_nanos as f64 / 1e9,
        }
    }
}

impl Statistics {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn input_tokens_per_second(&self) -> Option<f64> {
        let tokens = self.window.input_tokens.filter(|_| self.seconds > 0.0)?;
        Some(tokens as f64 / self.seconds)
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(
        arrived: &RawStatistics,
        window: &WindowCounts,
        per_chunk: TokensPerChunk,
        prices: Option<&Prices>,
        has_objectives: bool,
    ) -> Statistics {
        let (seconds, failed) = (window.length.as_secs_f64(), arrived.failed());
        let finished = arrived.succeeded + failed;
        let timeouts = Failure::ALL
            .into_iter()
            .zip(arrived.failures)
            .filter(|(failure, _)| failure.is_timeout());
        let timeouts: u64 = timeouts.map(|(_, count)| count).sum();
        let of_client = Failure::ALL
            .into_iter()
            .zip(arrived.failures)
            .filter(|(failure, _)| failure.blame() == Blame::Client);
        let failed_in_client = of_client.map(|(_, count)| count).sum();
        let ratio = |amount: f64, total: f64| (total > 0.0).then(|| amount / total);
        let per_second = |amount: f64| ratio(amount, seconds);
        let report = WindowReport::new(window, per_chunk);
        let tokens = arrived.tokens;
        let (output, output_seconds) = if per_chunk.is_estimate {
            (Some(arrived.succeeded_chunks), arrived.succeeded_duration)
        } else {
            (tokens.output, arrived.counted_duration)
        };
        let anomalies =
            Anomaly::ALL.into_iter().zip(arrived.anomalies).filter(|(_, count)| *count > 0);
        let is_counted = tokens.input.is_some() || tokens.output.is_some();
        Statistics {
            seconds,
            arrivals: arrived.arrivals(),
            offered_per_second: per_second(arrived.arrivals() as f64),
            dropped: arrived.dropped.iter().sum(),
            sent: arrived.sent,
            succeeded: arrived.succeeded,
            failed,
            failed_in_client,
            connection_retries: arrived.connection_retries,
            success_rate: ratio(arrived.succeeded as f64, finished as f64),
            timeout_rate: ratio(timeouts as f64, finished as f64),
            queries_per_second: per_second(window.succeeded as f64),
            goodput_per_second: per_second(window.good as f64).filter(|_| has_objectives),
            requests_in_flight: per_second(report.request_seconds),
            peak_requests_in_flight: window.peak_in_flight,
            request_seconds: arrived.total_duration.as_secs_f64(),
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cached_input_tokens: tokens.cached_input,
            reasoning_tokens: tokens.reasoning,
            reasoning_token_ratio: tokens
                .reasoning
                .zip(tokens.output)
                .and_then(|(reasoning, output)| ratio(reasoning as f64, output as f64)),
            uncounted: arrived.succeeded - arrived.counted,
            output_chunks: arrived.chunks,
            is_token_estimate: per_chunk.is_estimate,
            output_tokens_per_second_total: report.output_tokens.and_then(per_second),
            tokens_per_second_total: report.output_tokens.and_then(|output| {
                per_second(output + report.input_tokens.unwrap_or_default() as f64)
            }),
            output_tokens_per_request_second: output
                .and_then(|output| ratio(output as f64, output_seconds.as_secs_f64())),
            cost: prices.filter(|_| is_counted).map(|prices| {
                let count = |tokens: Option<u64>| tokens.unwrap_or_default() as f64;
                let amount = prices.cost(count(tokens.input), count(tokens.output));
                Cost { amount, currency: prices.currency.clone() }
            }),
            window: report,
            input_tokens_per_request: Summary::new(&arrived.input_tokens),
            output_tokens_per_request: Summary::new(&arrived.output_tokens),
            reasoning_tokens_per_request: Summary::new(&arrived.reasoning_tokens),
            time_to_first_token_seconds: Summary::new(&arrived.time_to_first_token),
            time_to_first_token_from_schedule_seconds: Summary::new(
                &arrived.time_to_first_token_from_schedule,
            ),
            time_to_first_answer_token_seconds: Summary::new(&arrived.time_to_first_answer_token),
            time_per_output_token_seconds: Summary::new(&arrived.time_per_output_token),
            inter_chunk_latency_seconds: Summary::new(&arrived.inter_chunk_latency),
            request_duration_seconds: Summary::new(&arrived.request_duration),
            request_duration_from_schedule_seconds: Summary::new(
                &arrived.request_duration_from_schedule,
            ),
            output_tokens_per_second: Summary {
                mean: None,
                ..Summary::new(&arrived.output_tokens_per_second)
            },
            dispatch_lag_seconds: Summary::new(&arrived.dispatch_lag),
            response_anomalies: anomalies
                .map(|(kind, count)| (kind.as_str().to_owned(), count))
                .collect(),
        }
    }
}
