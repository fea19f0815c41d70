//! The statistics of `llmload run`: in total, by phase and over time. Their memory does not grow
//! with the length of the run.
//!
//! The Prometheus histograms of the daemon have coarse buckets and are queried as rates. A run
//! needs exact counts and precise quantiles from its start to its end. Each route (one scenario on
//! one target) of a run therefore has one [`Tally`], in addition to its metrics.

mod active_time;
mod distribution;
mod timeline;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::event::{Arrival, DropReason, Event, Observe};
use crate::measurement::{Anomaly, Failure, Measurement, Usage};
use crate::schedule::Schedule;
use crate::slo::{ObjectiveCounts, Slo};
pub use active_time::ActiveTime;
pub use distribution::Distribution;
pub use timeline::{Timeline, TimelineInterval};

/// The most entries in [`Inner::phases`]. If there are more phases, the last entry is shared by all
/// phases that have no separate entry.
const MAX_PHASES: usize = 100;

/// Counts and distributions of one route.
#[derive(Debug)]
pub struct Tally {
    /// For each phase of the schedule: its index in [`Inner::phases`].
    phase_indices: Vec<usize>,
    slo: Option<Arc<Slo>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phases: Vec<PhaseTally>,
    timeline: Timeline,
    /// The index in `phases` of the most recent arrival.
    current_phase: Option<usize>,
}

/// The statistics of all phases with the same name.
#[derive(Clone, Debug)]
pub struct PhaseTally {
    pub name: String,
    pub statistics: RawStatistics,
}

/// Counts and distributions, before they are summarised for a report.
#[derive(Clone, Debug)]
pub struct RawStatistics {
    /// The number of dropped arrivals, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    pub sent: u64,
    pub succeeded: u64,
    /// The number of failed requests, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// The number of requests that llmload sent once more.
    pub connection_retries: u64,
    /// The number of successes with a protocol anomaly, in the order of [`Anomaly::ALL`].
    pub anomalies: [u64; Anomaly::ALL.len()],
    /// The time from the due instant to sending.
    pub dispatch_lag: Distribution,
    /// The time from sending to the first token.
    pub time_to_first_token: Distribution,
    /// The time from the due instant to the first token.
    pub time_to_first_token_from_schedule: Distribution,
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
    /// The sum of the token counts from the endpoint. `None` if no response had this count.
    pub tokens: Usage,
    /// The number of events with text.
    pub chunks: u64,
    /// The sum of the durations of all finished requests.
    pub total_duration: Duration,
    /// The sum of the durations of successes with a count of output tokens.
    pub counted_duration: Duration,
    /// One entry per objective of the scenario, in the same order.
    pub objectives: Vec<ObjectiveCounts>,
    pub active_time: ActiveTime,
}

impl RawStatistics {
    fn new(objectives: usize) -> RawStatistics {
        RawStatistics {
            dropped: [0; DropReason::ALL.len()],
            sent: 0,
            succeeded: 0,
            failures: [0; Failure::ALL.len()],
            connection_retries: 0,
            anomalies: [0; Anomaly::ALL.len()],
            dispatch_lag: Distribution::for_times(),
            time_to_first_token: Distribution::for_times(),
            time_to_first_token_from_schedule: Distribution::for_times(),
            time_per_output_token: Distribution::for_times(),
            inter_chunk_latency: Distribution::for_times(),
            request_duration: Distribution::for_times(),
            request_duration_from_schedule: Distribution::for_times(),
            output_tokens_per_second: Distribution::for_rates(),
            counted: 0,
            tokens: Usage::default(),
            chunks: 0,
            total_duration: Duration::ZERO,
            counted_duration: Duration::ZERO,
            objectives: vec![ObjectiveCounts::default(); objectives],
            active_time: ActiveTime::default(),
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

    /// The time in which the phase was active, in seconds.
    pub fn seconds(&self) -> f64 {
        self.active_time.length().as_secs_f64()
    }

    fn record(&mut self, arrival: &Arrival, event: Event<'_>, slo: Option<&Slo>) {
        let seconds = |duration: Duration| duration.as_secs_f64();
        match event {
            Event::Dropped(reason) => {
                self.active_time.extend(arrival.due, arrival.due);
                self.dropped[reason as usize] += 1;
            }
            Event::Sent { lag, .. } => {
                self.active_time.extend(arrival.due, arrival.due + lag);
                self.sent += 1;
                self.dispatch_lag.record(seconds(lag));
            }
            Event::ConnectionRetried => self.connection_retries += 1,
            Event::FirstToken { since_sent, since_due } => {
                self.time_to_first_token.record(seconds(since_sent));
                self.time_to_first_token_from_schedule.record(seconds(since_due));
            }
            Event::Chunks { count, gap } => {
                self.chunks += u64::from(count);
                if let Some(gap) = gap {
                    self.inter_chunk_latency.record(seconds(gap));
                }
            }
            Event::Succeeded(measurement) => {
                self.succeeded(measurement);
                self.judge(slo, Some(measurement));
            }
            Event::Failed { detail, duration, since_due, .. } => {
                self.active_time.extend(arrival.due, arrival.due + since_due);
                self.failures[detail.failure as usize] += 1;
                self.total_duration += duration;
                self.judge(slo, None);
            }
            Event::ResponseHead { .. } | Event::Connected { .. } | Event::RateLimits(_) => {}
        }
    }

    fn judge(&mut self, slo: Option<&Slo>, finished: Option<&Measurement>) {
        let judged = slo.into_iter().flat_map(|slo| slo.judge(finished));
        for (counts, met) in self.objectives.iter_mut().zip(judged) {
            if let Some(met) = met {
                counts.record(met);
            }
        }
    }

    fn succeeded(&mut self, measurement: &Measurement) {
        self.active_time.extend(measurement.due, measurement.end);
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
        if measurement.usage.output.is_some() {
            self.counted += 1;
            self.counted_duration += measurement.duration();
        }
        for anomaly in measurement.anomalies.iter() {
            self.anomalies[anomaly as usize] += 1;
        }
    }

    fn add(&mut self, other: &RawStatistics) {
        let sum = |all: &mut [u64], others: &[u64]| {
            all.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        };
        sum(&mut self.dropped, &other.dropped);
        sum(&mut self.failures, &other.failures);
        sum(&mut self.anomalies, &other.anomalies);
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.connection_retries += other.connection_retries;
        self.dispatch_lag.add(&other.dispatch_lag);
        self.time_to_first_token.add(&other.time_to_first_token);
        self.time_to_first_token_from_schedule.add(&other.time_to_first_token_from_schedule);
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
        self.active_time.merge(&other.active_time);
    }
}

impl Tally {
    /// Creates an empty tally for a schedule. If `slo` is set, the tally judges requests by its
    /// objectives.
    pub fn new(schedule: &Schedule, slo: Option<Arc<Slo>>) -> Tally {
        let objectives = slo.as_ref().map_or(0, |slo| slo.objectives.len());
        let mut phases: Vec<PhaseTally> = Vec::new();
        let phase_indices = schedule.phases().iter().map(|phase| {
            if let Some(known) = phases.iter().position(|one| one.name == phase.name) {
                return known;
            }
            if phases.len() < MAX_PHASES {
                let name = if phases.len() + 1 < MAX_PHASES { &phase.name } else { "(all others)" };
                phases.push(PhaseTally {
                    name: name.to_owned(),
                    statistics: RawStatistics::new(objectives),
                });
            }
            phases.len() - 1
        });
        let phase_indices = phase_indices.collect();
        Tally {
            phase_indices,
            slo,
            inner: Mutex::new(Inner { phases, timeline: Timeline::default(), current_phase: None }),
        }
    }

    pub fn slo(&self) -> Option<&Slo> {
        self.slo.as_deref()
    }

    /// Returns the statistics of the complete run, the statistics of each phase with arrivals, and
    /// the timeline.
    pub fn read(&self) -> (RawStatistics, Vec<PhaseTally>, Timeline) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = RawStatistics::new(self.slo.as_ref().map_or(0, |slo| slo.objectives.len()));
        inner.phases.iter().for_each(|phase| total.add(&phase.statistics));
        let phases =
            inner.phases.iter().filter(|phase| phase.statistics.arrivals() > 0).cloned().collect();
        (total, phases, inner.timeline.clone())
    }
}

impl Observe for Tally {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        // An arrival during a manual rate override belongs to no phase.
        let Some(index) = arrival.phase.and_then(|phase| self.phase_indices.get(phase)) else {
            return;
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.timeline.record(arrival, event);
        let is_arrival = matches!(event, Event::Sent { .. } | Event::Dropped(_));
        let is_new_occurrence = is_arrival && inner.current_phase.replace(*index) != Some(*index);
        if let Some(phase) = inner.phases.get_mut(*index) {
            if is_new_occurrence {
                phase.statistics.active_time.start_occurrence();
            }
            phase.statistics.record(arrival, event, self.slo.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::Instant;

    use super::*;
    use crate::event::RequestIds;
    use crate::measurement::{Anomalies, FailureDetail};
    use crate::schedule::{Load, Phase};
    use crate::slo::{Criterion, LatencyMetric, Objective, Share};

    fn schedule(names: &[&str]) -> Schedule {
        let load = Load::Concurrency(NonZeroU32::MIN);
        let phase = |name: &&str| Phase {
            name: (*name).to_owned(),
            load: load.clone(),
            length: Duration::from_secs(1),
        };
        Schedule::new(names.iter().map(phase).collect())
    }

    #[test]
    fn phases_with_the_same_name_share_statistics_and_the_total_is_the_sum_of_all_phases() {
        let objective = Objective {
            criterion: Criterion::Latency(LatencyMetric::Ttft, Duration::from_millis(150)),
            share: Share::new(0.5).unwrap(),
        };
        let slo = Slo { objectives: vec![objective] };
        let tally = Tally::new(&schedule(&["a", "b", "a"]), Some(Arc::new(slo)));
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let finish = |phase, due, first: u64, ok: bool| {
            let arrival = Arrival { k: 0, due: at(due), phase, lengths: None };
            tally.observe(&arrival, Event::Sent { lag: Duration::ZERO, waited: Duration::ZERO });
            let since = Duration::from_millis(first);
            tally.observe(&arrival, Event::FirstToken { since_sent: since, since_due: since });
            let measurement = Measurement {
                due: at(due),
                sent: at(due),
                first_token: Some(at(due + first)),
                last_token: Some(at(due + first)),
                end: at(due + first),
                usage: Usage { input: Some(2), output: Some(3), ..Usage::default() },
                token_events: 1,
                reasoning_shown: false,
                anomalies: Anomalies::default(),
            };
            let (detail, names) = (FailureDetail::new(Failure::Reset, ""), RequestIds::default());
            tally.observe(
                &arrival,
                if ok {
                    Event::Succeeded(&measurement)
                } else {
                    Event::Failed {
                        detail: &detail,
                        duration: since,
                        since_due: since,
                        ids: &names,
                    }
                },
            );
        };
        finish(Some(0), 0, 100, true);
        finish(Some(2), 2000, 200, true);
        finish(Some(1), 1000, 100, false);
        finish(None, 9000, 100, true);
        let late = Arrival { k: 3, due: at(1500), phase: Some(1), lengths: None };
        tally.observe(&late, Event::Dropped(DropReason::Late));
        let (total, phases, _) = tally.read();
        let rows: Vec<_> = phases
            .iter()
            .map(|row| (row.name.as_str(), row.statistics.sent, row.statistics.succeeded))
            .collect();
        assert_eq!(rows, [("a", 2, 2), ("b", 1, 0)]);
        assert_eq!((total.arrivals(), total.sent, total.succeeded, total.failed()), (4, 3, 2, 1));
        assert_eq!((total.counted, total.tokens.input, total.tokens.output), (2, Some(4), Some(6)));
        assert_eq!(total.objectives, [ObjectiveCounts { judged: 3, met: 1 }]);
        assert_eq!(total.time_to_first_token.count(), 3);
        assert!(
            (total.seconds() - 2.2).abs() < 1e-9
                && (total.total_duration.as_secs_f64() - 0.4).abs() < 1e-9
        );
    }

    #[test]
    fn a_schedule_of_a_thousand_phases_has_at_most_a_hundred_entries() {
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let tally =
            Tally::new(&schedule(&names.iter().map(String::as_str).collect::<Vec<_>>()), None);
        for phase in [0, 98, 99, 999] {
            let arrival = Arrival { k: 0, due: Instant::now(), phase: Some(phase), lengths: None };
            tally.observe(&arrival, Event::Dropped(DropReason::Late));
        }
        let (_, phases, _) = tally.read();
        let rows: Vec<_> =
            phases.iter().map(|row| (row.name.as_str(), row.statistics.arrivals())).collect();
        assert_eq!(rows, [("0", 1), ("98", 1), ("(all others)", 2)]);
    }
}
