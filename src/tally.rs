//! The figures of a finite run, in total and by phase, in memory that does not grow with its
//! length.
//!
//! The histograms of the daemon are read as rates. A run ends, so it needs exact counts and fine
//! quantiles of the whole run. Each route of a run has one [`Tally`] beside its metrics.

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

/// The number of phases with a separate row. All further phases share the last row.
const MOST_ROWS: usize = 100;

/// Counts and distributions of one route.
#[derive(Debug)]
pub struct Tally {
    /// Per phase of the schedule: its row.
    rows: Vec<usize>,
    slo: Option<Arc<Slo>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phases: Vec<PhaseRow>,
    timeline: Timeline,
    /// The row of the most recent arrival.
    current_row: Option<usize>,
}

/// The figures of all phases with the same name.
#[derive(Clone, Debug)]
pub struct PhaseRow {
    pub name: String,
    pub figures: RawFigures,
}

/// Counts and distributions, before they are summarised for a report.
#[derive(Clone, Debug)]
pub struct RawFigures {
    /// Arrivals that were not sent, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    pub sent: u64,
    pub succeeded: u64,
    /// Failed requests, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Successes with a protocol anomaly, in the order of [`Anomaly::ALL`].
    pub anomalies: [u64; Anomaly::ALL.len()],
    /// From the due instant to sending.
    pub dispatch_lag: Distribution,
    /// From sending to the first token.
    pub time_to_first_token: Distribution,
    /// From the due instant to the first token.
    pub time_to_first_token_from_schedule: Distribution,
    pub time_per_output_token: Distribution,
    /// The time between reads with text.
    pub inter_chunk_latency: Distribution,
    /// From sending to the end, per success.
    pub request_duration: Distribution,
    /// From the due instant to the end, per success.
    pub request_duration_from_schedule: Distribution,
    /// Tokens per second, per success.
    pub output_tokens_per_second: Distribution,
    /// Successes with token counts from the endpoint.
    pub counted: u64,
    /// The sum of these token counts.
    pub tokens: Usage,
    /// Events with text.
    pub chunks: u64,
    /// The sum of the durations of all finished requests.
    pub total_duration: Duration,
    /// The sum of the durations of successes with token counts.
    pub counted_duration: Duration,
    /// In the order of the objectives.
    pub objectives: Vec<ObjectiveCounts>,
    pub active_time: ActiveTime,
}

impl RawFigures {
    fn new(objectives: usize) -> RawFigures {
        RawFigures {
            dropped: [0; DropReason::ALL.len()],
            sent: 0,
            succeeded: 0,
            failures: [0; Failure::ALL.len()],
            anomalies: [0; Anomaly::ALL.len()],
            dispatch_lag: Distribution::of_times(),
            time_to_first_token: Distribution::of_times(),
            time_to_first_token_from_schedule: Distribution::of_times(),
            time_per_output_token: Distribution::of_times(),
            inter_chunk_latency: Distribution::of_times(),
            request_duration: Distribution::of_times(),
            request_duration_from_schedule: Distribution::of_times(),
            output_tokens_per_second: Distribution::of_numbers(),
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

    /// The sum over all occurrences of the phase: from the first due instant to the last end.
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
            Event::Sent { lag } => {
                self.active_time.extend(arrival.due, arrival.due + lag);
                self.sent += 1;
                self.dispatch_lag.record(seconds(lag));
            }
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
        if let Some(usage) = measurement.usage {
            self.counted += 1;
            self.counted_duration += measurement.duration();
            self.tokens.input += usage.input;
            self.tokens.output += usage.output;
            self.tokens.cached_input += usage.cached_input;
            self.tokens.reasoning += usage.reasoning;
        }
        for anomaly in measurement.anomalies.iter() {
            self.anomalies[anomaly as usize] += 1;
        }
    }

    fn add(&mut self, other: &RawFigures) {
        let sum = |all: &mut [u64], others: &[u64]| {
            all.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        };
        sum(&mut self.dropped, &other.dropped);
        sum(&mut self.failures, &other.failures);
        sum(&mut self.anomalies, &other.anomalies);
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.dispatch_lag.add(&other.dispatch_lag);
        self.time_to_first_token.add(&other.time_to_first_token);
        self.time_to_first_token_from_schedule.add(&other.time_to_first_token_from_schedule);
        self.time_per_output_token.add(&other.time_per_output_token);
        self.inter_chunk_latency.add(&other.inter_chunk_latency);
        self.request_duration.add(&other.request_duration);
        self.request_duration_from_schedule.add(&other.request_duration_from_schedule);
        self.output_tokens_per_second.add(&other.output_tokens_per_second);
        self.counted += other.counted;
        self.tokens.input += other.tokens.input;
        self.tokens.output += other.tokens.output;
        self.tokens.cached_input += other.tokens.cached_input;
        self.tokens.reasoning += other.tokens.reasoning;
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
    /// An empty tally of a schedule. If there are objectives, requests are judged by them.
    pub fn new(schedule: &Schedule, slo: Option<Arc<Slo>>) -> Tally {
        let objectives = slo.as_ref().map_or(0, |slo| slo.objectives.len());
        let mut phases: Vec<PhaseRow> = Vec::new();
        let rows = schedule.phases().iter().map(|phase| {
            if let Some(known) = phases.iter().position(|row| row.name == phase.name) {
                return known;
            }
            if phases.len() < MOST_ROWS {
                let name =
                    if phases.len() + 1 < MOST_ROWS { &phase.name } else { "(all other phases)" };
                phases
                    .push(PhaseRow { name: name.to_owned(), figures: RawFigures::new(objectives) });
            }
            phases.len() - 1
        });
        let rows = rows.collect();
        Tally {
            rows,
            slo,
            inner: Mutex::new(Inner { phases, timeline: Timeline::default(), current_row: None }),
        }
    }

    pub fn slo(&self) -> Option<&Slo> {
        self.slo.as_deref()
    }

    /// The figures of the whole run, the rows of phases with arrivals, and the timeline.
    pub fn read(&self) -> (RawFigures, Vec<PhaseRow>, Timeline) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whole = RawFigures::new(self.slo.as_ref().map_or(0, |slo| slo.objectives.len()));
        inner.phases.iter().for_each(|row| whole.add(&row.figures));
        let phases =
            inner.phases.iter().filter(|row| row.figures.arrivals() > 0).cloned().collect();
        (whole, phases, inner.timeline.clone())
    }
}

impl Observe for Tally {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        // A manual override of the rate belongs to no phase.
        let Some(row) = arrival.phase.and_then(|phase| self.rows.get(phase)) else { return };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.timeline.record(arrival, event);
        let is_arrival = matches!(event, Event::Sent { .. } | Event::Dropped(_));
        let is_new_occurrence = is_arrival && inner.current_row.replace(*row) != Some(*row);
        if let Some(row) = inner.phases.get_mut(*row) {
            if is_new_occurrence {
                row.figures.active_time.start_occurrence();
            }
            row.figures.record(arrival, event, self.slo.as_deref());
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
    fn phases_of_one_name_share_a_row_and_the_total_is_the_sum_of_rows() {
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
            tally.observe(&arrival, Event::Sent { lag: Duration::ZERO });
            let since = Duration::from_millis(first);
            tally.observe(&arrival, Event::FirstToken { since_sent: since, since_due: since });
            let measurement = Measurement {
                due: at(due),
                sent: at(due),
                first_token: Some(at(due + first)),
                last_token: Some(at(due + first)),
                end: at(due + first),
                usage: Some(Usage { input: 2, output: 3, ..Usage::default() }),
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
        let (whole, phases, _) = tally.read();
        let rows: Vec<_> = phases
            .iter()
            .map(|row| (row.name.as_str(), row.figures.sent, row.figures.succeeded))
            .collect();
        assert_eq!(rows, [("a", 2, 2), ("b", 1, 0)]);
        assert_eq!((whole.arrivals(), whole.sent, whole.succeeded, whole.failed()), (4, 3, 2, 1));
        assert_eq!((whole.counted, whole.tokens.input, whole.tokens.output), (2, 4, 6));
        assert_eq!(whole.objectives, [ObjectiveCounts { judged: 3, met: 1 }]);
        assert_eq!(whole.time_to_first_token.count(), 3);
        assert!(
            (whole.seconds() - 2.2).abs() < 1e-9
                && (whole.total_duration.as_secs_f64() - 0.4).abs() < 1e-9
        );
    }

    #[test]
    fn a_schedule_of_a_thousand_phases_has_a_hundred_rows() {
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let tally =
            Tally::new(&schedule(&names.iter().map(String::as_str).collect::<Vec<_>>()), None);
        for phase in [0, 98, 99, 999] {
            let arrival = Arrival { k: 0, due: Instant::now(), phase: Some(phase), lengths: None };
            tally.observe(&arrival, Event::Dropped(DropReason::Late));
        }
        let (_, phases, _) = tally.read();
        let rows: Vec<_> =
            phases.iter().map(|row| (row.name.as_str(), row.figures.arrivals())).collect();
        assert_eq!(rows, [("0", 1), ("98", 1), ("(all other phases)", 2)]);
    }
}
