//! The statistics of `llmload run`: in total, by phase and over time. Their memory does not grow
//! with the length of the run.
//!
//! The Prometheus histograms of the daemon have coarse buckets and are queried as rates. A run
//! needs exact counts and precise quantiles from its start to its end. Each route (one scenario on
//! one target) of a run therefore has one [`Tally`], in addition to its metrics.

mod distribution;
mod statistics;
mod timeline;
mod windows;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::event::{Arrival, Event, Observe};
use crate::schedule::Schedule;
use crate::schedule_state::PhaseWindows;
use crate::slo::Slo;
pub use distribution::Distribution;
pub use statistics::RawStatistics;
pub use timeline::{Timeline, TimelineInterval};
pub use windows::WindowCounts;
use windows::WindowTally;

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
    windows: WindowTally,
    timeline: Timeline,
}

/// The statistics of all phases with the same name.
#[derive(Clone, Debug)]
pub struct PhaseTally {
    pub name: String,
    /// The positions of these phases in the schedule.
    pub positions: Vec<usize>,
    /// The statistics of the requests that arrived in the phase.
    pub arrived: RawStatistics,
    /// The events while the phase was on.
    pub window: WindowCounts,
}

/// The content of a [`Tally`].
#[derive(Clone, Debug)]
pub struct TallySnapshot {
    /// The statistics of all requests.
    pub arrived: RawStatistics,
    /// The events while any phase was on.
    pub window: WindowCounts,
    /// The events after the last phase.
    pub tail: WindowCounts,
    /// The highest number of events with text that arrived in one second.
    pub peak_chunks_per_second: Option<u64>,
    /// All phases of the schedule, in its order.
    pub phases: Vec<PhaseTally>,
    /// The start of the schedule; `None` if it has not begun.
    pub origin: Option<Instant>,
    pub timeline: Timeline,
}

impl Tally {
    /// Creates an empty tally for a schedule. `windows` says when each phase is on. If `slo` is
    /// set, the tally judges requests by its objectives.
    pub fn new(schedule: &Schedule, windows: Arc<PhaseWindows>, slo: Option<Arc<Slo>>) -> Tally {
        let objectives = slo.as_ref().map_or(0, |slo| slo.objectives.len());
        let mut phases: Vec<PhaseTally> = Vec::new();
        let phase_indices = schedule.phases().iter().enumerate().map(|(position, phase)| {
            let known = phases.iter().position(|one| one.name == phase.name);
            if known.is_none() && phases.len() < MAX_PHASES {
                let name = if phases.len() + 1 < MAX_PHASES { &phase.name } else { "(all others)" };
                phases.push(PhaseTally {
                    name: name.to_owned(),
                    positions: Vec::new(),
                    arrived: RawStatistics::new(objectives),
                    window: WindowCounts::default(),
                });
            }
            let index = known.unwrap_or(phases.len() - 1);
            phases[index].positions.push(position);
            index
        });
        let phase_indices = phase_indices.collect();
        let windows = WindowTally::new(windows, phases.len());
        Tally {
            phase_indices,
            slo,
            inner: Mutex::new(Inner { phases, windows, timeline: Timeline::default() }),
        }
    }

    pub fn slo(&self) -> Option<&Slo> {
        self.slo.as_deref()
    }

    /// Returns the content at `now`.
    pub fn read(&self, now: Instant) -> TallySnapshot {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut windows, mut phases) = (inner.windows.clone(), inner.phases.clone());
        windows.advance(now, &self.phase_indices);
        let objectives = self.slo.as_ref().map_or(0, |slo| slo.objectives.len());
        let (mut arrived, mut window) = (RawStatistics::new(objectives), WindowCounts::default());
        for (phase, counts) in phases.iter_mut().zip(windows.entries.iter()) {
            phase.window = counts.clone();
            arrived.add(&phase.arrived);
            window.add(counts);
        }
        TallySnapshot {
            arrived,
            window,
            peak_chunks_per_second: windows.peak_chunks.highest(),
            origin: windows.origin(),
            tail: windows.tail,
            phases,
            timeline: inner.timeline.clone(),
        }
    }
}

impl Observe for Tally {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        // An arrival during a manual rate override belongs to no phase.
        let Some(index) = arrival.phase.and_then(|phase| self.phase_indices.get(phase)) else {
            return;
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { phases, windows, timeline } = &mut *inner;
        timeline.record(arrival, event);
        let Some(phase) = phases.get_mut(*index) else { return };
        let is_good = phase.arrived.record(event, self.slo.as_deref());
        windows.record(arrival, event, &self.phase_indices, is_good);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::event::{DropReason, Evidence, RequestIds};
    use crate::measurement::{Anomalies, Failure, FailureDetail, Measurement, Usage};
    use crate::schedule::{Load, Phase, Repeat};
    use crate::slo::{Criterion, LatencyMetric, Objective, ObjectiveCounts, Share};

    fn schedule(names: &[&str]) -> Schedule {
        let load = Load::Concurrency(NonZeroU32::MIN);
        let phase = |name: &&str| Phase {
            name: (*name).to_owned(),
            load: load.clone(),
            length: Duration::from_secs(1),
        };
        Schedule::new(names.iter().map(phase).collect())
    }

    fn tally(schedule: &Schedule, slo: Option<Arc<Slo>>, origin: Instant) -> Tally {
        let windows = PhaseWindows::new(Arc::new(schedule.clone()), Repeat::Times(NonZeroU32::MIN));
        windows.begin(origin);
        Tally::new(schedule, Arc::new(windows), slo)
    }

    #[test]
    fn phases_with_the_same_name_share_statistics_and_the_total_is_the_sum_of_all_phases() {
        let objective = Objective {
            criterion: Criterion::Latency(LatencyMetric::Ttft, Duration::from_millis(150)),
            share: Share::new(0.5).unwrap(),
        };
        let slo = Slo { objectives: vec![objective] };
        let origin = Instant::now();
        let tally = tally(&schedule(&["a", "b", "a"]), Some(Arc::new(slo)), origin);
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
            let evidence = Evidence::default();
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
                        evidence: &evidence,
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
        let TallySnapshot { arrived: total, window, phases, .. } = tally.read(at(5000));
        let rows: Vec<_> = phases
            .iter()
            .map(|row| (row.name.as_str(), row.arrived.sent, row.arrived.succeeded))
            .collect();
        assert_eq!(rows, [("a", 2, 2), ("b", 1, 0)]);
        assert_eq!((total.arrivals(), total.sent, total.succeeded, total.failed()), (4, 3, 2, 1));
        assert_eq!((total.counted, total.tokens.input, total.tokens.output), (2, Some(4), Some(6)));
        assert_eq!(total.objectives, [ObjectiveCounts { judged: 3, met: 1 }]);
        assert_eq!(total.time_to_first_token.count(), 3);
        assert_eq!(window.length, Duration::from_secs(3));
        assert!((total.total_duration.as_secs_f64() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn a_schedule_of_a_thousand_phases_has_at_most_a_hundred_entries() {
        let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tally = tally(&schedule(&names), None, Instant::now());
        for phase in [0, 98, 99, 999] {
            let arrival = Arrival { k: 0, due: Instant::now(), phase: Some(phase), lengths: None };
            tally.observe(&arrival, Event::Dropped(DropReason::Late));
        }
        let phases = tally.read(Instant::now()).phases;
        assert_eq!(phases.len(), MAX_PHASES);
        let rows = phases.iter().map(|row| (row.name.as_str(), row.arrived.arrivals()));
        let rows: Vec<_> = rows.filter(|row| row.1 > 0).collect();
        assert_eq!(rows, [("0", 1), ("98", 1), ("(all others)", 2)]);
    }
}
