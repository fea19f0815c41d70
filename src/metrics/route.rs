//! The handles of one stream of load: what an event does to them.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, Registry,
};

use super::limits::{self, Limits};
use super::objectives::{self, Objectives};
use super::table::CODES;
use super::{Labels, amounts, counter, histogram, table};
use crate::buckets::Buckets;
use crate::event::{Arrival, DropReason, Event, Observe};
use crate::generator::Generator;
use crate::measurement::{Anomaly, Blame, Measurement};
use crate::plan::Prices;
use crate::slo::Slo;

/// The families that streams of load have handles in.
#[derive(Debug)]
pub(super) struct Families {
    http_responses: IntCounterVec,
    response_anomalies: IntCounterVec,
    dispatch_lag: HistogramVec,
    dns_duration: HistogramVec,
    connect_duration: HistogramVec,
    limits: limits::Families,
    objectives: objectives::Families,
    time_to_first_token: HistogramVec,
    time_to_first_token_from_schedule: HistogramVec,
    inter_chunk_latency: HistogramVec,
    time_per_output_token: HistogramVec,
    output_tokens_per_second: HistogramVec,
    request_duration: HistogramVec,
    request_duration_from_schedule: HistogramVec,
    request_failure_duration: HistogramVec,
    queries_per_second: HistogramVec,
    input_tokens: IntCounterVec,
    output_tokens: IntCounterVec,
    cached_input_tokens: IntCounterVec,
    reasoning_tokens: IntCounterVec,
    cost: CounterVec,
    output_chunks: IntCounterVec,
    request_input_tokens: HistogramVec,
    request_output_tokens: HistogramVec,
    warmup_requests: IntCounterVec,
}

impl Families {
    pub(super) fn new(registry: &Registry, buckets: &Buckets) -> prometheus::Result<Families> {
        Ok(Families {
            http_responses: counter(registry, &table::HTTP_RESPONSES)?,
            response_anomalies: counter(registry, &table::RESPONSE_ANOMALIES)?,
            dispatch_lag: histogram(registry, &table::DISPATCH_LAG, buckets)?,
            dns_duration: histogram(registry, &table::DNS_DURATION, buckets)?,
            connect_duration: histogram(registry, &table::CONNECT_DURATION, buckets)?,
            limits: limits::Families::new(registry)?,
            objectives: objectives::Families::new(registry)?,
            time_to_first_token: histogram(registry, &table::TIME_TO_FIRST_TOKEN, buckets)?,
            time_to_first_token_from_schedule: histogram(
                registry,
                &table::TIME_TO_FIRST_TOKEN_FROM_SCHEDULE,
                buckets,
            )?,
            inter_chunk_latency: histogram(registry, &table::INTER_CHUNK_LATENCY, buckets)?,
            time_per_output_token: histogram(registry, &table::TIME_PER_OUTPUT_TOKEN, buckets)?,
            output_tokens_per_second: histogram(
                registry,
                &table::OUTPUT_TOKENS_PER_SECOND,
                buckets,
            )?,
            request_duration: histogram(registry, &table::REQUEST_DURATION, buckets)?,
            request_duration_from_schedule: histogram(
                registry,
                &table::REQUEST_DURATION_FROM_SCHEDULE,
                buckets,
            )?,
            request_failure_duration: histogram(
                registry,
                &table::REQUEST_FAILURE_DURATION,
                buckets,
            )?,
            queries_per_second: histogram(registry, &table::QUERIES_PER_SECOND_OBSERVED, buckets)?,
            input_tokens: counter(registry, &table::INPUT_TOKENS)?,
            output_tokens: counter(registry, &table::OUTPUT_TOKENS)?,
            cached_input_tokens: counter(registry, &table::CACHED_INPUT_TOKENS)?,
            reasoning_tokens: counter(registry, &table::REASONING_TOKENS)?,
            cost: amounts(registry, &table::COST)?,
            output_chunks: counter(registry, &table::OUTPUT_CHUNKS)?,
            request_input_tokens: histogram(registry, &table::REQUEST_INPUT_TOKENS, buckets)?,
            request_output_tokens: histogram(registry, &table::REQUEST_OUTPUT_TOKENS, buckets)?,
            warmup_requests: counter(registry, &table::WARMUP_REQUESTS)?,
        })
    }

    /// Makes all series of a stream, at 0.
    pub(super) fn bind(
        &self,
        labels: &Labels,
        target_ready: Gauge,
        (prices, slo): (Option<Prices>, Option<Arc<Slo>>),
        generator: Arc<Generator>,
    ) -> RouteMetrics {
        let [target, model, scenario] = labels.values();
        let plain = [target, model, scenario];
        let with = |last| [target, model, scenario, last];
        self.queries_per_second.with_label_values(&plain);
        self.warmup_requests.with_label_values(&plain);
        RouteMetrics {
            generator,
            target_ready,
            codes: CODES.map(|code| {
                let code = code.to_string();
                self.http_responses.with_label_values(&[target, model, scenario, &code])
            }),
            other_code: self.http_responses.with_label_values(&with("other")),
            anomalies: Anomaly::ALL
                .map(|kind| self.response_anomalies.with_label_values(&with(kind.as_str()))),
            dispatch_lag: self.dispatch_lag.with_label_values(&plain),
            dns_duration: self.dns_duration.with_label_values(&plain),
            connect_duration: self.connect_duration.with_label_values(&plain),
            limits: self.limits.bind(labels),
            objectives: slo.map(|slo| self.objectives.bind(labels, slo)),
            time_to_first_token: self.time_to_first_token.with_label_values(&plain),
            time_to_first_token_from_schedule: self
                .time_to_first_token_from_schedule
                .with_label_values(&plain),
            inter_chunk_latency: self.inter_chunk_latency.with_label_values(&plain),
            time_per_output_token: self.time_per_output_token.with_label_values(&plain),
            output_tokens_per_second: self.output_tokens_per_second.with_label_values(&plain),
            request_duration: self.request_duration.with_label_values(&plain),
            request_duration_from_schedule: self
                .request_duration_from_schedule
                .with_label_values(&plain),
            request_failure_duration: Blame::ALL.map(|blame| {
                self.request_failure_duration.with_label_values(&with(blame.as_str()))
            }),
            input_tokens: self.input_tokens.with_label_values(&plain),
            output_tokens: self.output_tokens.with_label_values(&plain),
            cached_input_tokens: self.cached_input_tokens.with_label_values(&plain),
            reasoning_tokens: self.reasoning_tokens.with_label_values(&plain),
            spending: prices.map(|prices| Spending {
                total: self.cost.with_label_values(&[target, model, scenario, &prices.currency]),
                prices,
            }),
            output_chunks: self.output_chunks.with_label_values(&plain),
            request_input_tokens: self.request_input_tokens.with_label_values(&plain),
            request_output_tokens: self.request_output_tokens.with_label_values(&plain),
        }
    }

    /// Ends all series of a stream.
    pub(super) fn unbind(&self, labels: &Labels) {
        let plain = labels.values();
        let [target, model, scenario] = plain;
        let with = |last| [target, model, scenario, last];
        let histograms = [
            &self.dispatch_lag,
            &self.dns_duration,
            &self.connect_duration,
            &self.time_to_first_token,
            &self.time_to_first_token_from_schedule,
            &self.inter_chunk_latency,
            &self.time_per_output_token,
            &self.output_tokens_per_second,
            &self.request_duration,
            &self.request_duration_from_schedule,
            &self.queries_per_second,
            &self.request_input_tokens,
            &self.request_output_tokens,
        ];
        let counters = [
            &self.input_tokens,
            &self.output_tokens,
            &self.cached_input_tokens,
            &self.reasoning_tokens,
            &self.output_chunks,
            &self.warmup_requests,
        ];
        self.limits.unbind(labels);
        // Whatever is not there need not go.
        for family in histograms {
            let _gone = family.remove_label_values(&plain);
        }
        for family in counters {
            let _gone = family.remove_label_values(&plain);
        }
        for code in CODES.iter().map(ToString::to_string).chain(["other".to_owned()]) {
            let _gone = self.http_responses.remove_label_values(&[target, model, scenario, &code]);
        }
        for kind in Anomaly::ALL {
            let _gone = self.response_anomalies.remove_label_values(&with(kind.as_str()));
        }
        for blame in Blame::ALL {
            let _gone = self.request_failure_duration.remove_label_values(&with(blame.as_str()));
        }
    }

    /// Ends the series of objectives, but for those that stay.
    pub(super) fn unobject(&self, labels: &Labels, slo: Option<&Slo>, stay: Option<&Slo>) {
        self.objectives.unbind(labels, slo, stay);
    }

    /// Ends the series of what was spent at these prices.
    pub(super) fn unprice(&self, labels: &Labels, prices: Option<&Prices>) {
        if let Some(prices) = prices {
            let [target, model, scenario] = labels.values();
            let _gone = self.cost.remove_label_values(&[target, model, scenario, &prices.currency]);
        }
    }

    pub(super) fn warmed_up(&self, labels: &Labels) {
        self.warmup_requests.with_label_values(&labels.values()).inc();
    }

    /// The successes of the last ten seconds / 10.
    pub(super) fn observe_rate(&self, labels: &Labels, queries_per_second: f64) {
        self.queries_per_second.with_label_values(&labels.values()).observe(queries_per_second);
    }
}

/// The handles of one stream of load.
#[derive(Debug)]
pub struct RouteMetrics {
    generator: Arc<Generator>,
    target_ready: Gauge,
    codes: [IntCounter; CODES.len()],
    other_code: IntCounter,
    anomalies: [IntCounter; Anomaly::ALL.len()],
    dispatch_lag: Histogram,
    dns_duration: Histogram,
    connect_duration: Histogram,
    limits: Limits,
    objectives: Option<Objectives>,
    time_to_first_token: Histogram,
    time_to_first_token_from_schedule: Histogram,
    inter_chunk_latency: Histogram,
    time_per_output_token: Histogram,
    output_tokens_per_second: Histogram,
    request_duration: Histogram,
    request_duration_from_schedule: Histogram,
    request_failure_duration: [Histogram; Blame::ALL.len()],
    input_tokens: IntCounter,
    output_tokens: IntCounter,
    cached_input_tokens: IntCounter,
    reasoning_tokens: IntCounter,
    spending: Option<Spending>,
    output_chunks: IntCounter,
    request_input_tokens: Histogram,
    request_output_tokens: Histogram,
}

/// What is spent, and by which prices.
#[derive(Debug)]
struct Spending {
    prices: Prices,
    total: Counter,
}

impl Observe for RouteMetrics {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Dropped(DropReason::Late) => self.generator.record_late_drop(),
            // The ledger counts them.
            Event::Dropped(_) => {}
            Event::Sent { lag } => {
                self.generator.record_sent(lag);
                seconds(&self.dispatch_lag, lag);
            }
            Event::Answered { status } => {
                let listed = CODES.iter().position(|code| *code == status);
                listed.map_or(&self.other_code, |i| &self.codes[i]).inc();
                self.target_ready.set(if status < 500 { 1.0 } else { 0.0 });
            }
            Event::Connected { dns, connect } => {
                if let Some(dns) = dns {
                    seconds(&self.dns_duration, dns);
                }
                seconds(&self.connect_duration, connect);
            }
            Event::Limits(limits) => self.limits.set(limits),
            Event::FirstToken { since_sent, since_due } => {
                seconds(&self.time_to_first_token, since_sent);
                seconds(&self.time_to_first_token_from_schedule, since_due);
            }
            Event::Chunks { count, gap } => {
                self.output_chunks.inc_by(u64::from(count));
                if let Some(gap) = gap {
                    seconds(&self.inter_chunk_latency, gap);
                }
                // The others came in the same read.
                for _ in 1..count {
                    self.inter_chunk_latency.observe(0.0);
                }
            }
            Event::Succeeded(measurement) => self.succeeded(measurement),
            Event::Failed { detail, duration, .. } => {
                if detail.failure.is_connecting() {
                    self.target_ready.set(0.0);
                }
                if let Some(objectives) = &self.objectives {
                    objectives.finished(None);
                }
                seconds(&self.request_failure_duration[detail.failure.blame() as usize], duration);
            }
        }
    }
}

impl RouteMetrics {
    #[allow(clippy::cast_precision_loss)]
    fn succeeded(&self, measurement: &Measurement) {
        if let Some(objectives) = &self.objectives {
            objectives.finished(Some(measurement));
        }
        seconds(&self.request_duration, measurement.duration());
        seconds(&self.request_duration_from_schedule, measurement.duration_from_schedule());
        if let Some(time) = measurement.time_per_output_token() {
            seconds(&self.time_per_output_token, time);
        }
        if let Some(speed) = measurement.tokens_per_second() {
            self.output_tokens_per_second.observe(speed);
        }
        if let Some(usage) = measurement.usage {
            self.input_tokens.inc_by(usage.input);
            self.output_tokens.inc_by(usage.output);
            self.cached_input_tokens.inc_by(usage.cached_input);
            self.reasoning_tokens.inc_by(usage.reasoning);
            if let Some(Spending { prices, total }) = &self.spending {
                total.inc_by(prices.cost(usage.input as f64, usage.output as f64));
            }
            self.request_input_tokens.observe(usage.input as f64);
            self.request_output_tokens.observe(usage.output as f64);
        }
        for anomaly in measurement.anomalies.iter() {
            self.anomalies[anomaly as usize].inc();
        }
    }
}

fn seconds(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}
