//! The statistics of the requests that arrived in one phase.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Distribution;
use crate::event::{DropReason, Event};
use crate::measurement::{Anomaly, Failure, Measurement, Usage};
use crate::slo::{ObjectiveCounts, Slo};

/// Counts and distributions, before they are summarised for a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawStatistics {
    /// The number of dropped arrivals, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    pub sent: u64,
    pub succeeded: u64,
    /// The number of failed requests, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// The number of requests that llmload sent once more.
    pub connection_retries: u64,
    /// The number of responses whose head arrived.
    pub response_heads: u64,
    /// The time to open each new connection, with the DNS lookup.
    pub connect: Distribution,
    /// The number of successes with a protocol anomaly, in the order of [`Anomaly::ALL`].
    pub anomalies: [u64; Anomaly::ALL.len()],
    /// The time from the due instant to sending.
    pub dispatch_lag: Distribution,
    /// The time from sending to the first token.
    pub time_to_first_token: Distribution,
    /// The time from the due instant to the first token.
    pub time_to_first_token_from_schedule: Distribution,
    /// The time from sending to the first text after the reasoning.
    pub time_to_first_answer_token: Distribution,
    pub time_per_output_token: Distribution,
    /// The time between two successive network reads that contain text.
    pub inter_chunk_latency: Distribution,
    /// The time from sending to the end, for each success.
    pub request_duration: Distribution,
    /// The time from the due instant to the end, for each success.
    pub request_duration_from_schedule: Distribution,
    /// Tokens per second of each success.
    pub output_tokens_per_second: Distribution,
    /// The number of successes with a count of output tokens from the endpoint.
    pub counted: u64,
    /// The number of events with text in these successes.
    pub counted_chunks: u64,
    /// The number of events with text in all successes.
    pub succeeded_chunks: u64,
    /// Input tokens of each success.
    pub input_tokens: Distribution,
    /// Output tokens of each success.
    pub output_tokens: Distribution,
    /// Reasoning tokens of each success.
    pub reasoning_tokens: Distribution,
    /// The sum of the token counts from the endpoint. `None` if no response had this count.
    pub tokens: Usage,
    /// The number of events with text.
    pub chunks: u64,
    /// The sum of the durations of all finished requests.
    pub total_duration: Duration,
    /// The sum of the durations of all successes.
    pub succeeded_duration: Duration,
    /// The sum of the durations of successes with a count of output tokens.
    pub counted_duration: Duration,
    /// One entry per objective of the scenario, in the same order.
    pub objectives: Vec<ObjectiveCounts>,
}

impl RawStatistics {
    pub(super) fn new(objectives: usize) -> RawStatistics {
        RawStatistics {
            dropped: [0; DropReason::ALL.len()],
            sent: 0,
            succeeded: 0,
            failures: [0; Failure::ALL.len()],
            connection_retries: 0,
            response_heads: 0,
            connect: Distribution::for_times(),
            anomalies: [0; Anomaly::ALL.len()],
            dispatch_lag: Distribution::for_times(),
            time_to_first_token: Distribution::for_times(),
            time_to_first_token_from_schedule: Distribution::for_times(),
            time_to_first_answer_token: Distribution::for_times(),
            time_per_output_token: Distribution::for_times(),
            inter_chunk_latency: Distribution::for_times(),
            request_duration: Distribution::for_times(),
            request_duration_from_schedule: Distribution::for_times(),
            output_tokens_per_second: Distribution::for_rates(),
            counted: 0,
            counted_chunks: 0,
            succeeded_chunks: 0,
            input_tokens: Distribution::for_counts(),
            output_tokens: Distribution::for_counts(),
            reasoning_tokens: Distribution::for_counts(),
            tokens: Usage::default(),
            chunks: 0,
            total_duration: Duration::ZERO,
            succeeded_duration: Duration::ZERO,
            counted_duration: Duration::ZERO,
            objectives: vec![ObjectiveCounts::default(); objectives],
        }
    }

    /// The number of failed requests.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// The number of arrivals.
    pub fn arrivals(&self) -> u64 {
        self.sent + self.dropped.iter().sum::<u64>()
    }

    /// Records an event. Returns true for a success that met all objectives.
    pub(super) fn record(&mut self, event: Event<'_>, slo: Option<&Slo>) -> bool {
        let seconds = |duration: Duration| duration.as_secs_f64();
        match event {
            Event::Dropped(reason) => self.dropped[reason as usize] += 1,
            Event::Sent { lag, .. } => {
                self.sent += 1;
                self.dispatch_lag.record(seconds(lag));
            }
            Event::ConnectionRetried => self.connection_retries += 1,
            Event::ResponseHead { .. } => self.response_heads += 1,
            Event::Connected { dns, connect } => {
                self.connect.record(seconds(dns.unwrap_or_default() + connect));
            }
            Event::FirstToken { since_sent, since_due } => {
                self.time_to_first_token.record(seconds(since_sent));
                self.time_to_first_token_from_schedule.record(seconds(since_due));
            }
            Event::FirstAnswerToken { since_sent } => {
                self.time_to_first_answer_token.record(seconds(since_sent));
            }
            Event::Chunks { count, gap, .. } => {
                self.chunks += u64::from(count);
                if let Some(gap) = gap {
                    self.inter_chunk_latency.record(seconds(gap));
                }
            }
            Event::Succeeded(measurement) => {
                self.succeeded(measurement);
                return self.judge(slo, Some(measurement));
            }
            Event::Failed { detail, duration, .. } => {
                self.failures[detail.failure as usize] += 1;
                self.total_duration += duration;
                self.judge(slo, None);
            }
            Event::RateLimits(_) | Event::BreakerChanged(_) => {}
        }
        false
    }

    /// Returns true if the request met all objectives.
    fn judge(&mut self, slo: Option<&Slo>, finished: Option<&Measurement>) -> bool {
        let judged = slo.into_iter().flat_map(|slo| slo.judge(finished));
        let mut is_good = true;
        for (counts, met) in self.objectives.iter_mut().zip(judged) {
            if let Some(met) = met {
                counts.record(met);
                is_good &= met;
            }
        }
        is_good
    }

    fn succeeded(&mut self, measurement: &Measurement) {
        self.succeeded += 1;
        self.total_duration += measurement.duration();
        self.request_duration.record(measurement.duration().as_secs_f64());
        self.request_duration_from_schedule
            .record(measurement.duration_from_schedule().as_secs_f64());
        if let Some(time) = measurement.time_per_output_token() {
            self.time_per_output_token.record(time.as_secs_f64());
        }
        if let Some(speed) = measurement.tokens_per_second() {
            self.output_tokens_per_second.record(speed);
        }
        self.tokens.add(measurement.usage);
        let chunks = u64::from(measurement.token_events);
        self.succeeded_chunks += chunks;
        self.succeeded_duration += measurement.duration();
        if let Some(input) = measurement.usage.input {
            self.input_tokens.record(as_f64(input));
        }
        if let Some(output) = measurement.usage.output {
            self.output_tokens.record(as_f64(output));
            self.counted += 1;
            self.counted_chunks += chunks;
            self.counted_duration += measurement.duration();
        }
        if let Some(reasoning) = measurement.usage.reasoning {
            self.reasoning_tokens.record(as_f64(reasoning));
        }
        for anomaly in measurement.anomalies.iter() {
            self.anomalies[anomaly as usize] += 1;
        }
    }

    pub(super) fn add(&mut self, other: &RawStatistics) {
        let sum = |all: &mut [u64], others: &[u64]| {
            all.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        };
        sum(&mut self.dropped, &other.dropped);
        sum(&mut self.failures, &other.failures);
        sum(&mut self.anomalies, &other.anomalies);
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.connection_retries += other.connection_retries;
        self.response_heads += other.response_heads;
        self.connect.add(&other.connect);
        self.counted_chunks += other.counted_chunks;
        self.succeeded_chunks += other.succeeded_chunks;
        self.input_tokens.add(&other.input_tokens);
        self.output_tokens.add(&other.output_tokens);
        self.reasoning_tokens.add(&other.reasoning_tokens);
        self.succeeded_duration += other.succeeded_duration;
        self.dispatch_lag.add(&other.dispatch_lag);
        self.time_to_first_token.add(&other.time_to_first_token);
        self.time_to_first_token_from_schedule.add(&other.time_to_first_token_from_schedule);
        self.time_to_first_answer_token.add(&other.time_to_first_answer_token);
        self.time_per_output_token.add(&other.time_per_output_token);
        self.inter_chunk_latency.add(&other.inter_chunk_latency);
        self.request_duration.add(&other.request_duration);
        self.request_duration_from_schedule.add(&other.request_duration_from_schedule);
        self.output_tokens_per_second.add(&other.output_tokens_per_second);
        self.counted += other.counted;
        self.tokens.add(other.tokens);
        self.chunks += other.chunks;
        self.total_duration += other.total_duration;
        self.counted_duration += other.counted_duration;
        for (counts, other) in self.objectives.iter_mut().zip(&other.objectives) {
            counts.add(*other);
        }
    }
}

/// No request, and no objective.
impl Default for RawStatistics {
    fn default() -> RawStatistics {
        RawStatistics::new(0)
    }
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}
