//! The requests of one step of a search for the capacity of a target.
//!
//! A request belongs to a step if it was due in the measured time of the step, however long it
//! takes. The throughput of a step is another question: it counts the requests that ended in the
//! measured time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Distribution;
use crate::capacity::{Batch, Batches, Limit, MeasureSteps, Quantiles, StepResult, StepWindow};
use crate::event::{Arrival, DropReason, Event, Observe};
use crate::generator::{GeneratorMonitor, Snapshot};
use crate::measurement::{Blame, Measurement};
use crate::slo::{Criterion, LatencyMetric, ObjectiveCounts, Share};

/// An arrival is late if llmload sends it later than this.
const LATE: Duration = Duration::from_millis(100);
/// With more late arrivals than this, the step is distorted.
const MOST_LATE: Share = Share::PERCENT;
/// The generator monitor compares with a reading of this age, so an effect of an earlier time is
/// over.
const MONITOR_WINDOW: Duration = Duration::from_secs(30);

/// Counts the requests of the current step. Without a step, an event costs one atomic read.
#[derive(Debug, Default)]
pub struct StepMeter {
    is_active: AtomicBool,
    is_hopeless: AtomicBool,
    step: Mutex<Option<StepCounts>>,
}

#[derive(Debug)]
struct StepCounts {
    window: StepWindow,
    /// The end of the measured time. `None` while the step sends requests.
    until: Option<Instant>,
    requests: u64,
    succeeded: u64,
    failed: u64,
    failed_in_client: u64,
    dropped: u64,
    all_dropped: u64,
    late: u64,
    is_paused: bool,
    /// True if a budget refused an arrival.
    is_used_up: bool,
    /// Arrivals that llmload dropped because of `rate_limits`.
    rate_limited: u64,
    judged: Vec<Batches>,
    /// The highest number of misses of an objective at which the counts were judged.
    judged_misses: u64,
    time_to_first_token: Distribution,
    time_per_output_token: Distribution,
    request_duration: Distribution,
    /// The durations of the successes in all parts of the step.
    all_durations: Distribution,
    /// The requests that ended in the measured time, successful or not, whenever they were due.
    ended: u64,
    /// The successes in the measured time, each counted by [`StepCounts::part`].
    served: f64,
    /// The output tokens of these successes that the endpoint counted.
    tokens: f64,
    /// The events with text of those of them that have no count of tokens.
    chunks: f64,
}

impl StepMeter {
    fn lock(&self) -> MutexGuard<'_, Option<StepCounts>> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for StepMeter {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        if !self.is_active.load(Relaxed) {
            return;
        }
        let mut step = self.lock();
        let Some(step) = step.as_mut().filter(|step| arrival.phase == Some(step.window.phase))
        else {
            return;
        };
        step.record_end(arrival, event);
        if step.includes(arrival.due) {
            step.record(arrival, event);
        }
        if step.is_hopeless() {
            self.is_hopeless.store(true, Relaxed);
        }
    }
}

/// The meter of a running search. The generator monitor tells if llmload itself was the limit.
#[derive(Debug)]
pub struct SearchMeter {
    steps: Arc<StepMeter>,
    generator: Arc<GeneratorMonitor>,
    /// The state of llmload at the start of the current step.
    start: Mutex<Snapshot>,
}

impl MeasureSteps for SearchMeter {
    fn begin(&self, window: StepWindow) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = self.generator.snapshot();
        self.steps.is_hopeless.store(false, Relaxed);
        *self.steps.lock() = Some(StepCounts::new(window));
        self.steps.is_active.store(true, Relaxed);
    }

    fn is_hopeless(&self) -> bool {
        self.steps.is_hopeless.load(Relaxed)
    }

    fn close(&self, until: Instant) {
        if let Some(step) = self.steps.lock().as_mut() {
            step.until = Some(until);
        }
    }

    fn cancel(&self) {
        self.steps.is_active.store(false, Relaxed);
        *self.steps.lock() = None;
        self.steps.is_hopeless.store(false, Relaxed);
    }

    fn end(&self, now: Instant) -> StepResult {
        self.steps.is_active.store(false, Relaxed);
        let Some(step) = self.steps.lock().take() else { return StepResult::default() };
        let distortion = step.distortion().or_else(|| self.distortion(&step));
        step.into_result(now, self.is_hopeless(), distortion)
    }
}

impl SearchMeter {
    pub fn new(steps: Arc<StepMeter>, generator: Arc<GeneratorMonitor>) -> SearchMeter {
        let start = Mutex::new(generator.snapshot());
        SearchMeter { steps, generator, start }
    }

    /// Returns the effect of the first distortion in this step: over the complete step, or over a
    /// part of 30 s.
    fn distortion(&self, step: &StepCounts) -> Option<String> {
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = self.generator.distortions_since(&start).into_iter();
        // A distortion of the step before is a part of the comparisons for some time.
        let since = step.window.began + MONITOR_WINDOW;
        let active = self.generator.active_distortions().into_iter();
        let of_a_part = active.filter(|distortion| distortion.last >= since);
        complete.chain(of_a_part).map(|found| found.message).next()
    }
}

impl StepCounts {
    fn new(window: StepWindow) -> StepCounts {
        let judged = vec![Batches::new(); window.spec.slo.objectives.len()];
        StepCounts {
            window,
            until: None,
            requests: 0,
            succeeded: 0,
            failed: 0,
            failed_in_client: 0,
            dropped: 0,
            all_dropped: 0,
            late: 0,
            is_paused: false,
            is_used_up: false,
            rate_limited: 0,
            judged,
            judged_misses: 0,
            time_to_first_token: Distribution::for_times(),
            time_per_output_token: Distribution::for_times(),
            request_duration: Distribution::for_times(),
            all_durations: Distribution::for_times(),
            ended: 0,
            served: 0.0,
            tokens: 0.0,
            chunks: 0.0,
        }
    }

    /// Returns true if an arrival with this due time belongs to the step.
    fn includes(&self, due: Instant) -> bool {
        due >= self.window.from && self.until.is_none_or(|until| due < until)
    }

    /// Records the end of a request in any part of the step.
    fn record_end(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Succeeded(measurement) => {
                self.ended += u64::from(self.is_measured(measurement.end));
                self.all_durations.record(measurement.duration().as_secs_f64());
                let part = self.part(measurement);
                self.served += part;
                match measurement.usage.output {
                    Some(tokens) => self.tokens += part * real(tokens),
                    None => self.chunks += part * f64::from(measurement.token_events),
                }
            }
            Event::Failed { detail, since_due, .. } => {
                self.ended += u64::from(self.is_measured(arrival.due + since_due));
                self.failed_in_client += u64::from(detail.failure.blame() == Blame::Client);
            }
            _ => {}
        }
    }

    /// Returns true if the measured time contains this instant.
    fn is_measured(&self, at: Instant) -> bool {
        at >= self.window.from && self.until.is_none_or(|until| at <= until)
    }

    /// Returns the part of a success that counts for the throughput. At a rate, a success counts if
    /// it ended in the measured time. In a closed loop, requests start together and end together,
    /// so the number of ends depends on the ends of the measured time. There, a success counts by
    /// the part of its duration that is in the measured time.
    fn part(&self, measurement: &Measurement) -> f64 {
        let &Measurement { sent, end, .. } = measurement;
        if self.window.planned.is_some() || end <= sent {
            return f64::from(u8::from(self.is_measured(end)));
        }
        let last = self.until.map_or(end, |until| until.min(end));
        let inside = last.saturating_duration_since(sent.max(self.window.from));
        inside.as_secs_f64() / (end - sent).as_secs_f64()
    }

    fn record(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { lag, .. } => {
                self.requests += 1;
                self.late += u64::from(lag > LATE);
            }
            Event::Dropped(reason) => {
                self.requests += 1;
                self.all_dropped += 1;
                match reason {
                    DropReason::MaxConcurrency | DropReason::MaxSessions => {
                        self.dropped += 1;
                        self.judge(arrival.due, None);
                    }
                    DropReason::Late => self.late += 1,
                    // A breaker does not apply to a search.
                    DropReason::Paused | DropReason::Draining | DropReason::Breaker => {
                        self.is_paused = true;
                    }
                    DropReason::Budget => self.is_used_up = true,
                    DropReason::RateLimit => self.rate_limited += 1,
                }
            }
            Event::Succeeded(measurement) => {
                self.succeeded += 1;
                self.request_duration.record(measurement.duration().as_secs_f64());
                if let Some(time) = measurement.time_to_first_token() {
                    self.time_to_first_token.record(time.as_secs_f64());
                }
                if let Some(time) = measurement.time_per_output_token() {
                    self.time_per_output_token.record(time.as_secs_f64());
                }
                self.judge(arrival.due, Some(measurement));
            }
            Event::Failed { .. } => {
                self.failed += 1;
                self.judge(arrival.due, None);
            }
            _ => {}
        }
    }

    fn judge(&mut self, due: Instant, finished: Option<&Measurement>) {
        let since = due.saturating_duration_since(self.window.from);
        let batch = since.as_nanos() / self.window.plan.batch().as_nanos();
        let batch = batch.min(self.window.plan.last_batch());
        let batch = usize::try_from(batch).unwrap_or_default();
        let spec = Arc::clone(&self.window.spec);
        let judged = self.judged.iter_mut().zip(&spec.slo.objectives);
        for (batches, objective) in judged {
            let Some(met) = objective.is_met(finished) else { continue };
            if batches.len() <= batch {
                batches.resize(batch + 1, Batch::default());
            }
            let latency = finished.and_then(|finished| objective.latency(finished));
            batches[batch].record(met, latency.map(|latency| latency.as_secs_f64()));
        }
    }

    /// Returns true if the step cannot meet its objectives any more. Judges the counts only if the
    /// number of misses has grown by a twentieth, because this takes microseconds.
    fn is_hopeless(&mut self) -> bool {
        let Some(planned) = self.window.planned.filter(|_| self.until.is_none()) else {
            return false;
        };
        let missed = |batches: &Batches| {
            let ObjectiveCounts { judged, met } = crate::capacity::total(batches);
            judged - met
        };
        let misses = self.judged.iter().map(missed).max().unwrap_or(0);
        if misses <= self.judged_misses + self.judged_misses / 20 {
            return false;
        }
        self.judged_misses = misses;
        let objectives = &self.window.spec.slo.objectives;
        self.window.plan.is_hopeless(objectives, &self.judged, planned)
    }

    /// Returns the way in which llmload distorted the step, as far as its own requests show this.
    fn distortion(&self) -> Option<String> {
        if self.is_paused {
            return Some("the load was paused; resume it".to_owned());
        }
        if self.rate_limited > 0 {
            return Some(format!(
                "llmload dropped {} arrivals because of `rate_limits`; raise `rate_limits` of the \
                 target",
                self.rate_limited
            ));
        }
        if self.is_used_up {
            return Some("a budget was used up; raise `budgets` of the scenario".to_owned());
        }
        if self.failed_in_client > 0 {
            return Some(format!(
                "{} requests failed in llmload or its machine; raise the limits of its machine",
                self.failed_in_client
            ));
        }
        MOST_LATE.is_exceeded(self.late, self.requests).then(|| {
            format!(
                "llmload sent or dropped {} of {} arrivals more than 100 ms late; give llmload more \
                 CPU",
                self.late, self.requests
            )
        })
    }

    /// Returns the limit that would also drop arrivals of a repeated step.
    fn limit(&self) -> Option<Limit> {
        match (self.is_paused, self.rate_limited, self.is_used_up) {
            (true, ..) | (false, 0, false) => None,
            (false, 0, true) => Some(Limit::Budget),
            (false, ..) => Some(Limit::Rate),
        }
    }

    fn into_result(
        self,
        now: Instant,
        is_cut_short: bool,
        distortion: Option<String>,
    ) -> StepResult {
        let StepWindow { plan, spec, began, from, planned, .. } = &self.window;
        let measured = self.until.unwrap_or(now).saturating_duration_since(*from);
        let per_second = |count: f64| count / measured.as_secs_f64().max(1e-9);
        let objectives = spec.slo.objectives.iter().zip(&self.judged);
        let observed = objectives.map(|(objective, batches)| match objective.criterion {
            // A request that failed or was dropped counts as a latency without an end.
            Criterion::Latency(metric, _) => {
                let judged = crate::capacity::total(batches).judged;
                self.latencies(metric).at_rank(objective.share.needed(judged))
            }
            Criterion::Success => {
                let all = self.succeeded + self.failed + self.dropped;
                (all > 0).then(|| real(self.succeeded) / real(all))
            }
        });
        let observed = observed.collect();
        let (planned, judged) = (planned.filter(|_| is_cut_short), &self.judged);
        let judged = match planned {
            Some(planned) => judged.iter().map(|counts| plan.filled(counts, planned)).collect(),
            None => judged.clone(),
        };
        StepResult {
            elapsed: now.saturating_duration_since(*began),
            measured,
            requests: self.requests,
            succeeded: self.succeeded,
            failed: self.failed,
            dropped: self.dropped,
            all_dropped: self.all_dropped,
            judged,
            observed,
            is_cut_short,
            distortion,
            limit: self.limit(),
            failed_in_client: self.failed_in_client,
            latency: self.latency(),
            ended_per_second: per_second(real(self.ended)),
            requests_per_second: per_second(self.served),
            tokens_per_second: per_second(self.tokens + self.chunks),
            tokens_are_estimated: self.chunks > 0.0,
            time_to_first_token: quantiles(&self.time_to_first_token),
            time_per_output_token: quantiles(&self.time_per_output_token),
            request_duration: quantiles(&self.request_duration),
        }
    }

    fn latency(&self) -> Option<f64> {
        let longest = || self.all_durations.extremes().map(|extremes| extremes.1);
        self.all_durations.quantile(0.9).or_else(longest)
    }

    fn latencies(&self, metric: LatencyMetric) -> &Distribution {
        match metric {
            LatencyMetric::Ttft => &self.time_to_first_token,
            LatencyMetric::Tpot => &self.time_per_output_token,
            LatencyMetric::E2eLatency => &self.request_duration,
        }
    }
}

fn quantiles(values: &Distribution) -> Quantiles {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| values.quantile(q));
    Quantiles { p50, p90, p99 }
}

#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
