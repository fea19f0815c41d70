//! The series of one route (one scenario on one target) that events update.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Counter, Gauge, Histogram, IntCounter};

use super::limits::{LimitFamilies, Limits};
use super::objectives::{ObjectiveFamilies, Objectives};
use super::series::{Registrar, SeriesSet, SeriesVec, metric_structs};
use super::sessions::{TurnFamilies, TurnMetrics};
use super::table::STATUS_CODES;
use super::{Labels, RouteSettings, table};
use crate::event::{Arrival, DropReason, Event, Observe};
use crate::generator::GeneratorMonitor;
use crate::measurement::{Measurement, Usage};
use crate::plan::Prices;

metric_structs! {
    CommonFamilies,
    /// The series that every route has from the start.
    CommonMetrics {
        http_responses: Vec<IntCounter> = HTTP_RESPONSES;
        response_anomalies: Vec<IntCounter> = RESPONSE_ANOMALIES;
        connection_retries: IntCounter = CONNECTION_RETRIES;
        dispatch_lag: Histogram = DISPATCH_LAG;
        dns_duration: Histogram = DNS_DURATION;
        connect_duration: Histogram = CONNECT_DURATION;
        time_to_first_token: Histogram = TIME_TO_FIRST_TOKEN;
        time_to_first_token_from_schedule: Histogram = TIME_TO_FIRST_TOKEN_FROM_SCHEDULE;
        time_to_first_answer_token: Histogram = TIME_TO_FIRST_ANSWER_TOKEN;
        inter_chunk_latency: Histogram = INTER_CHUNK_LATENCY;
        time_per_output_token: Histogram = TIME_PER_OUTPUT_TOKEN;
        output_tokens_per_second: Histogram = OUTPUT_TOKENS_PER_SECOND;
        request_duration: Histogram = REQUEST_DURATION;
        request_duration_from_schedule: Histogram = REQUEST_DURATION_FROM_SCHEDULE;
        request_failure_duration: Vec<Histogram> = REQUEST_FAILURE_DURATION;
        queries_per_second: Histogram = QUERIES_PER_SECOND_OBSERVED;
        input_tokens: IntCounter = INPUT_TOKENS;
        output_tokens: IntCounter = OUTPUT_TOKENS;
        cached_input_tokens: IntCounter = CACHED_INPUT_TOKENS;
        reasoning_tokens: IntCounter = REASONING_TOKENS;
        output_chunks: IntCounter = OUTPUT_CHUNKS;
        request_input_tokens: Histogram = REQUEST_INPUT_TOKENS;
        request_output_tokens: Histogram = REQUEST_OUTPUT_TOKENS;
        request_reasoning_tokens: Histogram = REQUEST_REASONING_TOKENS;
        warmup_requests: IntCounter = WARMUP_REQUESTS;
    }
}

/// All families with one series per route that events update. The [`collector`](super::collector)
/// computes the others at scrape time.
#[derive(Debug)]
pub(super) struct RouteFamilies {
    common: CommonFamilies,
    limits: LimitFamilies,
    objectives: ObjectiveFamilies,
    turns: TurnFamilies,
    cost: SeriesVec<Counter>,
    replay_lag: SeriesVec<Histogram>,
    scenario_info: SeriesVec<Gauge>,
}

impl RouteFamilies {
    pub(super) fn register(registrar: &Registrar<'_>) -> prometheus::Result<RouteFamilies> {
        Ok(RouteFamilies {
            common: CommonFamilies::register(registrar)?,
            limits: LimitFamilies::register(registrar)?,
            objectives: ObjectiveFamilies::register(registrar)?,
            turns: TurnFamilies::register(registrar)?,
            cost: registrar.register(&table::COST)?,
            replay_lag: registrar.register(&table::REPLAY_LAG)?,
            scenario_info: registrar.register(&table::SCENARIO_INFO)?,
        })
    }

    /// Creates the series of a route with the value 0. An existing series keeps its value.
    pub(super) fn bind(
        &self,
        labels: &Labels,
        settings: &RouteSettings,
        series: &mut SeriesSet,
        generator: Arc<GeneratorMonitor>,
        target_ready: Option<Gauge>,
    ) -> RouteMetrics {
        let [target, model, scenario] = labels.values();
        let [arrivals, simulated] = settings.info_values();
        let info = [target, model, scenario, arrivals, simulated];
        series.add(&self.scenario_info, &info).set(1.0);
        let bind = |slo| self.objectives.bind(labels, slo, settings.searches.clone(), series);
        let objectives = settings.slo.clone().map(bind);
        let cost = settings.prices.clone().map(|prices| Cost {
            total: series.add(&self.cost, &[target, model, scenario, &prices.currency]),
            prices,
        });
        RouteMetrics {
            generator,
            target_ready,
            common: self.common.bind(&labels.values(), series),
            limits: self.limits.bind_limits(&labels.values(), series),
            objectives,
            turns: settings
                .sessions
                .is_some()
                .then(|| self.turns.bind_turns(&labels.values(), series)),
            cost,
            replay_lag: settings
                .replays
                .then(|| series.add(&self.replay_lag, &[target, model, scenario])),
        }
    }
}

/// The metrics of one route. An update needs no lookup, and has no effect after the series are
/// removed.
#[derive(Debug)]
pub struct RouteMetrics {
    generator: Arc<GeneratorMonitor>,
    /// `None` after a reload has removed the target.
    target_ready: Option<Gauge>,
    common: CommonMetrics,
    limits: Limits,
    objectives: Option<Objectives>,
    /// `None` if the prompts have no turns.
    turns: Option<TurnMetrics>,
    /// `None` for a target without prices.
    cost: Option<Cost>,
    /// `None` if the scenario replays no trace.
    replay_lag: Option<Histogram>,
}

#[derive(Debug)]
struct Cost {
    prices: Prices,
    total: Counter,
}

impl Observe for RouteMetrics {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        if let Some(turns) = &self.turns {
            turns.observe(arrival, event);
        }
        let common = &self.common;
        match event {
            Event::Dropped(DropReason::Late) => self.generator.record_late_drop(),
            // The ledger counts dropped arrivals, and a scrape reads the state of the breaker.
            Event::Dropped(_) | Event::BreakerChanged(_) => {}
            Event::Sent { lag, waited } => {
                self.generator.record_sent(lag, waited);
                observe(&common.dispatch_lag, lag);
                if let (Some(histogram), Some(lag)) = (&self.replay_lag, arrival.replay_lag(lag)) {
                    observe(histogram, lag);
                }
            }
            Event::ConnectionRetried => common.connection_retries.inc(),
            Event::ResponseHead { status } => self.answered(status),
            Event::Connected { dns, connect } => {
                if let Some(dns) = dns {
                    observe(&common.dns_duration, dns);
                }
                observe(&common.connect_duration, connect);
            }
            Event::RateLimits(limits) => self.limits.set(limits),
            Event::FirstToken { since_sent, since_due } => {
                observe(&common.time_to_first_token, since_sent);
                observe(&common.time_to_first_token_from_schedule, since_due);
            }
            Event::FirstAnswerToken { since_sent } => {
                observe(&common.time_to_first_answer_token, since_sent);
            }
            Event::Chunks { count, gap, .. } => self.chunks(count, gap),
            Event::Succeeded(measurement) => self.succeeded(arrival, measurement),
            Event::Failed { detail, duration, .. } => {
                self.generator.record_finished(Some(detail));
                if detail.failure.is_connecting() {
                    self.set_target_ready(false);
                }
                if let Some(objectives) = &self.objectives {
                    objectives.finished(arrival, None);
                }
                let blame = detail.failure.blame() as usize;
                observe(&common.request_failure_duration[blame], duration);
            }
        }
    }
}

impl RouteMetrics {
    /// The histogram for [`Metrics::observe_query_rates`](super::Metrics::observe_query_rates).
    pub(super) fn queries_per_second(&self) -> Histogram {
        self.common.queries_per_second.clone()
    }

    /// The counter for [`Metrics::warmup_request_ended`](super::Metrics::warmup_request_ended).
    pub(super) fn warmup_requests(&self) -> IntCounter {
        self.common.warmup_requests.clone()
    }

    fn answered(&self, status: u16) {
        // The series `other` follows the series of `STATUS_CODES`.
        let listed = STATUS_CODES.iter().position(|code| *code == status);
        self.common.http_responses[listed.unwrap_or(STATUS_CODES.len())].inc();
        self.set_target_ready(status < 500);
    }

    fn set_target_ready(&self, ready: bool) {
        if let Some(gauge) = &self.target_ready {
            gauge.set(f64::from(u8::from(ready)));
        }
    }

    fn chunks(&self, count: u32, gap: Option<Duration>) {
        self.common.output_chunks.inc_by(u64::from(count));
        if let Some(gap) = gap {
            observe(&self.common.inter_chunk_latency, gap);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn succeeded(&self, arrival: &Arrival, measurement: &Measurement) {
        let common = &self.common;
        self.generator.record_finished(None);
        if let Some(objectives) = &self.objectives {
            objectives.finished(arrival, Some(measurement));
        }
        observe(&common.request_duration, measurement.duration());
        observe(&common.request_duration_from_schedule, measurement.duration_from_schedule());
        if let Some(time) = measurement.time_per_output_token() {
            observe(&common.time_per_output_token, time);
        }
        if let Some(speed) = measurement.tokens_per_second() {
            common.output_tokens_per_second.observe(speed);
        }
        // An unknown count changes no counter and no histogram.
        let Usage { input, output, cached_input, reasoning } = measurement.usage;
        for (count, counter) in [
            (input, &common.input_tokens),
            (output, &common.output_tokens),
            (cached_input, &common.cached_input_tokens),
            (reasoning, &common.reasoning_tokens),
        ] {
            counter.inc_by(count.unwrap_or(0));
        }
        if let Some(Cost { prices, total }) = &self.cost {
            total.inc_by(prices.cost(input.unwrap_or(0) as f64, output.unwrap_or(0) as f64));
        }
        for (count, histogram) in [
            (input, &common.request_input_tokens),
            (output, &common.request_output_tokens),
            (reasoning, &common.request_reasoning_tokens),
        ] {
            if let Some(count) = count {
                histogram.observe(count as f64);
            }
        }
        for anomaly in measurement.anomalies.iter() {
            common.response_anomalies[anomaly as usize].inc();
        }
    }
}

fn observe(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}
