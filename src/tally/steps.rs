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
use crate::capacity::{Batches, MeasureSteps, Quantiles, StepResult, StepWindow};
use crate::event::{Arrival, DropReason, Event, Observe};
use crate::generator::GeneratorMonitor;
use crate::measurement::{Blame, Measurement};
use crate::slo::{Criterion, LatencyMetric, ObjectiveCounts, Share};

/// An arrival is late if llmload sends it later than this.
const LATE: Duration = Duration::from_millis(100);
/// With more late arrivals than this, the step is distorted.
const MOST_LATE: Share = Share::PERCENT;
/// The generator monitor compares with a reading of this age, so an older effect is over.
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
    late: u64,
    is_paused: bool,
    /// Arrivals that llmload dropped because of `rate_limits`.
    rate_limited: u64,
    judged: Vec<Batches>,
    /// The highest number of misses of an objective at which the counts were judged.
    judged_misses: u64,
    time_to_first_token: Distribution,
    time_per_output_token: Distribution,
    request_duration: Distribution,
    /// The successes that ended in the measured time, whenever they were due.
    ended: u64,
    /// The output tokens of these successes that the endpoint counted.
    ended_tokens: u64,
    /// The events with text of those of them that have no count of tokens.
    ended_chunks: u64,
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
        if let Event::Succeeded(measurement) = event {
            step.record_end(measurement);
        }
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
    pub steps: Arc<StepMeter>,
    pub generator: Arc<GeneratorMonitor>,
}

impl MeasureSteps for SearchMeter {
    fn begin(&self, window: StepWindow) {
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

    fn end(&self, now: Instant) -> StepResult {
        self.steps.is_active.store(false, Relaxed);
        let Some(step) = self.steps.lock().take() else { return StepResult::default() };
        let distortion = step.distortion().or_else(|| self.distortion(&step));
        step.into_result(now, self.is_hopeless(), distortion)
    }
}

impl SearchMeter {
    /// Returns the effect of the first distortion that the generator monitor measured in this step.
    fn distortion(&self, step: &StepCounts) -> Option<String> {
        // A distortion of the step before is a part of the comparisons for some time.
        let since = step.window.began + MONITOR_WINDOW;
        let active = self.generator.active_distortions().into_iter();
        active.filter(|distortion| distortion.last >= since).map(|found| found.message).next()
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
            late: 0,
            is_paused: false,
            rate_limited: 0,
            judged,
            judged_misses: 0,
            time_to_first_token: Distribution::for_times(),
            time_per_output_token: Distribution::for_times(),
            request_duration: Distribution::for_times(),
            ended: 0,
            ended_tokens: 0,
            ended_chunks: 0,
        }
    }

    /// Returns true if an arrival with this due time belongs to the step.
    fn includes(&self, due: Instant) -> bool {
        due >= self.window.from && self.until.is_none_or(|until| due < until)
    }

    fn record_end(&mut self, measurement: &Measurement) {
        let end = measurement.end;
        if end < self.window.from || self.until.is_some_and(|until| end > until) {
            return;
        }
        self.ended += 1;
        match measurement.usage.output {
            Some(tokens) => self.ended_tokens += tokens,
            None => self.ended_chunks += u64::from(measurement.token_events),
        }
    }

    fn record(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { lag, .. } => {
                self.requests += 1;
                self.late += u64::from(lag > LATE);
            }
            Event::Dropped(reason) => {
                self.requests += 1;
                match reason {
                    DropReason::MaxConcurrency => {
                        self.dropped += 1;
                        self.judge(arrival.due, None);
                    }
                    DropReason::Late => self.late += 1,
                    // A breaker does not apply to a search.
                    DropReason::Paused | DropReason::Draining | DropReason::Breaker => {
                        self.is_paused = true;
                    }
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
            Event::Failed { detail, .. } => {
                self.failed += 1;
                if detail.failure.blame() == Blame::Client {
                    self.failed_in_client += 1;
                }
                self.judge(arrival.due, None);
            }
            _ => {}
        }
    }

    fn judge(&mut self, due: Instant, finished: Option<&Measurement>) {
        let since = due.saturating_duration_since(self.window.from);
        let batch = since.as_nanos() / self.window.plan.batch().as_nanos();
        let batch = usize::try_from(batch).unwrap_or(usize::MAX);
        let spec = Arc::clone(&self.window.spec);
        for (batches, met) in self.judged.iter_mut().zip(spec.slo.judge(finished)) {
            let Some(met) = met else { continue };
            if batches.len() <= batch {
                batches.resize(batch + 1, ObjectiveCounts::default());
            }
            batches[batch].record(met);
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
                "llmload dropped {} arrivals because of `rate_limits`; raise the limits of the target",
                self.rate_limited
            ));
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

    fn into_result(
        self,
        now: Instant,
        is_cut_short: bool,
        distortion: Option<String>,
    ) -> StepResult {
        let StepWindow { plan, spec, began, from, planned, .. } = &self.window;
        let measured = self.until.unwrap_or(now).saturating_duration_since(*from);
        let per_second = |count: u64| real(count) / measured.as_secs_f64().max(1e-9);
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
            judged,
            observed,
            is_cut_short,
            distortion,
            requests_per_second: per_second(self.ended),
            tokens_per_second: per_second(self.ended_tokens + self.ended_chunks),
            tokens_are_estimated: self.ended_chunks > 0,
            time_to_first_token: quantiles(&self.time_to_first_token),
            time_per_output_token: quantiles(&self.time_per_output_token),
            request_duration: quantiles(&self.request_duration),
        }
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
