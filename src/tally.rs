//! The statistics of `llmload run`: in total, by phase and over time. Their memory does not grow
//! with the length of the run.
//!
//! The Prometheus histograms of the daemon have coarse buckets and are queried as rates. A run
//! needs exact counts and precise quantiles from its start to its end. Each route (one scenario on
//! one target) of a run therefore has one [`Tally`], in addition to its metrics.

mod distribution;
mod hopeless;
mod last_seconds;
mod merge;
mod replay;
mod statistics;
mod steps;
mod timeline;
mod turns;
mod windows;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Arrival, Event, Observe};
use crate::plan::MAX_REPORTED_PHASES;
use crate::schedule::Schedule;
use crate::schedule_state::PhaseWindows;
use crate::slo::Slo;
pub use distribution::Distribution;
pub use hopeless::Hopeless;
use last_seconds::LastSeconds;
pub use last_seconds::RecentEvents;
pub use replay::ReplayCounts;
pub use statistics::RawStatistics;
pub use steps::{SearchMeter, StepMeter};
pub use timeline::{Timeline, TimelineInterval};
pub use turns::{TurnGroups, TurnStatistics};
pub use windows::WindowCounts;
use windows::WindowTally;

/// The most entries in [`Inner::phases`]. If there are more phases, the last entry is shared by all
/// phases that have no separate entry.
const MAX_PHASES: usize = MAX_REPORTED_PHASES + 1;

/// Counts and distributions of one route.
#[derive(Debug)]
pub struct Tally {
    /// For each phase of the schedule: its index in [`Inner::phases`].
    phase_indices: Vec<usize>,
    /// True if a phase has objectives with `abort`.
    can_abort: bool,
    has_one_pass: bool,
    /// True if the timeline starts with the schedule, and not with the first arrival.
    is_shard: bool,
    hopeless: OnceLock<Hopeless>,
    /// Cancelled when `hopeless` has a value.
    has_become_hopeless: CancellationToken,
    inner: Mutex<Inner>,
}

/// The rules by which a run judges one phase of the schedule.
#[derive(Clone, Debug, Default)]
pub struct PhaseRule {
    pub slo: Option<Arc<Slo>>,
    /// True if the phase decides nothing.
    pub explore: bool,
    /// The most arrivals of the complete run in this phase; `None` without a limit.
    pub most_arrivals: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    phases: Vec<PhaseTally>,
    windows: WindowTally,
    timeline: Timeline,
    last_seconds: LastSeconds,
    /// `None` before the first row of a trace.
    replay: Option<ReplayCounts>,
    /// `None` if the prompts have no turns.
    turns: Option<Box<TurnGroups>>,
}

/// The statistics of all phases with the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTally {
    pub name: String,
    /// The positions of these phases in the schedule.
    pub positions: Vec<usize>,
    #[serde(skip)]
    pub slo: Option<Arc<Slo>>,
    /// True if the phase decides nothing.
    pub explore: bool,
    /// The most arrivals of the complete run; `None` without a limit.
    pub most_arrivals: Option<u64>,
    /// The statistics of the requests that arrived in the phase.
    pub arrived: RawStatistics,
    /// The events while the phase was on.
    pub window: WindowCounts,
}

/// The content of a [`Tally`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TallySnapshot {
    /// The statistics of all requests.
    #[serde(skip)]
    pub arrived: RawStatistics,
    /// The events while any phase was on.
    #[serde(skip)]
    pub window: WindowCounts,
    /// The events after the last phase.
    pub tail: WindowCounts,
    /// The highest number of events with text that arrived in one second.
    pub peak_chunks_per_second: Option<u64>,
    /// All phases of the schedule, in its order.
    pub phases: Vec<PhaseTally>,
    /// The start of the schedule; `None` if it has not begun.
    #[serde(skip)]
    pub origin: Option<Instant>,
    pub timeline: Timeline,
    /// `None` without a replay.
    #[serde(default)]
    pub replay: Option<ReplayCounts>,
    /// `None` if the prompts have no turns.
    #[serde(default)]
    pub turns: Option<Box<TurnGroups>>,
}

impl Tally {
    /// Creates an empty tally for a schedule. `windows` says when each phase is on. `rules` has one
    /// entry for each phase of the schedule. `has_one_pass` is true if the schedule runs once.
    pub fn new(
        schedule: &Schedule,
        windows: Arc<PhaseWindows>,
        rules: &[PhaseRule],
        has_one_pass: bool,
    ) -> Tally {
        let mut phases: Vec<PhaseTally> = Vec::new();
        let phase_indices = schedule.phases().iter().enumerate().map(|(position, phase)| {
            let known = phases.iter().position(|one| one.name == phase.name);
            let rule = rules.get(position).cloned().unwrap_or_default();
            if known.is_none() && phases.len() < MAX_PHASES {
                let objectives = rule.slo.as_ref().map_or(0, |slo| slo.objectives.len());
                let name = if phases.len() + 1 < MAX_PHASES { &phase.name } else { "(all others)" };
                phases.push(PhaseTally {
                    name: name.to_owned(),
                    positions: Vec::new(),
                    slo: rule.slo,
                    explore: rule.explore,
                    most_arrivals: Some(0),
                    arrived: RawStatistics::new(objectives),
                    window: WindowCounts::default(),
                });
            }
            let index = known.unwrap_or(phases.len() - 1);
            let phase = &mut phases[index];
            phase.positions.push(position);
            let most_arrivals = phase.most_arrivals.zip(rule.most_arrivals);
            phase.most_arrivals = most_arrivals.map(|(one, other)| one.saturating_add(other));
            index
        });
        let phase_indices = phase_indices.collect();
        let windows = WindowTally::new(windows, phases.len());
        Tally {
            phase_indices,
            can_abort: phases.iter().any(|phase| phase.slo.as_ref().is_some_and(|slo| slo.abort)),
            has_one_pass,
            is_shard: false,
            hopeless: OnceLock::new(),
            has_become_hopeless: CancellationToken::new(),
            inner: Mutex::new(Inner {
                phases,
                windows,
                timeline: Timeline::default(),
                last_seconds: LastSeconds::default(),
                replay: None,
                turns: None,
            }),
        }
    }

    /// With true, also counts the turns of sessions.
    #[must_use]
    pub fn with_turns(mut self, has_sessions: bool) -> Tally {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.turns = has_sessions.then(Box::default);
        self
    }

    /// Starts the timeline with the schedule, as all shards of a run do.
    #[must_use]
    pub fn of_shard(self, is_shard: bool) -> Tally {
        Tally { is_shard, ..self }
    }

    /// Waits until an objective with `abort` can no longer be met.
    pub async fn hopeless(&self) -> &Hopeless {
        loop {
            self.has_become_hopeless.cancelled().await;
            if let Some(hopeless) = self.hopeless.get() {
                return hopeless;
            }
        }
    }

    /// Returns the events of the last ten seconds. Needs much less time than [`read`](Self::read).
    pub fn last_seconds(&self, now: Instant) -> RecentEvents {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).last_seconds.read(now)
    }

    /// Returns the content at `now`.
    pub fn read(&self, now: Instant) -> TallySnapshot {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut windows, mut phases) = (inner.windows.clone(), inner.phases.clone());
        windows.advance(now, &self.phase_indices);
        for (phase, counts) in phases.iter_mut().zip(windows.entries.iter()) {
            phase.window = counts.clone();
        }
        let mut snapshot = TallySnapshot {
            arrived: RawStatistics::default(),
            window: WindowCounts::default(),
            peak_chunks_per_second: windows.peak_chunks.highest(),
            origin: windows.origin(),
            tail: windows.tail,
            phases,
            timeline: inner.timeline.clone(),
            turns: inner.turns.clone(),
            replay: inner.replay.clone(),
        };
        snapshot.add_up_phases();
        snapshot
    }
}

impl Observe for Tally {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        // An arrival during a manual rate override belongs to no phase.
        let Some(index) = arrival.phase.and_then(|phase| self.phase_indices.get(phase)) else {
            return;
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { phases, windows, timeline, last_seconds, replay, turns } = &mut *inner;
        if let Some(groups) = turns {
            turns::record(groups, arrival, event);
        }
        if self.is_shard {
            timeline.start_at(windows.origin());
        }
        timeline.record(arrival, event);
        last_seconds.record(arrival, event);
        ReplayCounts::record(replay, arrival, event);
        let Some(phase) = phases.get_mut(*index) else { return };
        let slo = phase.slo.clone();
        let is_good = phase.arrived.record(event, slo.as_deref());
        windows.record(arrival, event, &self.phase_indices, is_good);
        let end = match event {
            Event::Succeeded(measurement) => measurement.end,
            Event::Failed { since_due, .. } => arrival.due + since_due,
            _ => return,
        };
        if self.can_abort
            && let Some(hopeless) = hopeless::find(phases, windows.place(end), self.has_one_pass)
        {
            let _only_the_first = self.hopeless.set(hopeless);
            self.has_become_hopeless.cancel();
        }
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
        let rule = PhaseRule { slo, explore: false, most_arrivals: Some(2) };
        let rules = vec![rule; schedule.phases().len()];
        Tally::new(schedule, Arc::new(windows), &rules, true)
    }

    #[test]
    fn phases_with_the_same_name_share_statistics_and_the_total_is_the_sum_of_all_phases() {
        let objective = Objective {
            criterion: Criterion::Latency(LatencyMetric::Ttft, Duration::from_millis(150)),
            share: Share::new(0.5).unwrap(),
        };
        let slo = Slo { objectives: vec![objective], abort: false };
        let origin = Instant::now();
        let tally = tally(&schedule(&["a", "b", "a"]), Some(Arc::new(slo)), origin);
        let at = |millis| origin + Duration::from_millis(millis);
        let finish = |phase, due, first: u64, ok: bool| {
            let arrival = Arrival { k: 0, due: at(due), phase, lengths: None, turn: 0 };
            tally.observe(&arrival, Event::Sent { lag: Duration::ZERO, waited: Duration::ZERO });
            let since = Duration::from_millis(first);
            tally.observe(&arrival, Event::FirstToken { since_sent: since, since_due: since });
            let measurement = Measurement {
                due: at(due),
                sent: at(due),
                first_token: Some(at(due + first)),
                first_answer_token: None,
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
        let late = Arrival { k: 3, due: at(1500), phase: Some(1), lengths: None, turn: 0 };
        tally.observe(&late, Event::Dropped(DropReason::Late));
        let TallySnapshot { arrived: total, window, phases, .. } = tally.read(at(5000));
        let rows: Vec<_> = phases
            .iter()
            .map(|row| (row.name.as_str(), row.arrived.sent, row.arrived.succeeded))
            .collect();
        assert_eq!(rows, [("a", 2, 2), ("b", 1, 0)]);
        assert_eq!((total.arrivals(), total.sent, total.succeeded, total.failed()), (4, 3, 2, 1));
        assert_eq!((total.counted, total.tokens.input, total.tokens.output), (2, Some(4), Some(6)));
        let objectives: Vec<_> = phases.iter().map(|phase| phase.arrived.objectives[0]).collect();
        let [two, one] = [(2, 1), (1, 0)].map(|(judged, met)| ObjectiveCounts { judged, met });
        assert_eq!(objectives, [two, one]);
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
            let arrival =
                Arrival { k: 0, due: Instant::now(), phase: Some(phase), lengths: None, turn: 0 };
            tally.observe(&arrival, Event::Dropped(DropReason::Late));
        }
        let phases = tally.read(Instant::now()).phases;
        assert_eq!(phases.len(), MAX_PHASES);
        let rows = phases.iter().map(|row| (row.name.as_str(), row.arrived.arrivals()));
        let rows: Vec<_> = rows.filter(|row| row.1 > 0).collect();
        assert_eq!(rows, [("0", 1), ("98", 1), ("(all others)", 2)]);
    }

    /// Half of the requests must succeed. A phase has at most two requests, if that is known.
    #[test]
    fn an_objective_is_hopeless_if_the_known_number_of_requests_cannot_repair_it() {
        let share = Share::new(0.5).unwrap();
        let objective = Objective { criterion: Criterion::Success, share };
        let slo = Arc::new(Slo { objectives: vec![objective], abort: true });
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let (detail, ids) = (FailureDetail::new(Failure::Reset, ""), RequestIds::default());
        let fail = |tally: &Tally, phase, due| {
            let arrival =
                Arrival { k: 0, due: at(due), phase: Some(phase), lengths: None, turn: 0 };
            let zero = Duration::ZERO;
            tally.observe(&arrival, Event::Sent { lag: zero, waited: zero });
            let (detail, ids, evidence) = (&detail, &ids, &Evidence::default());
            let (duration, since_due) = (zero, zero);
            tally.observe(&arrival, Event::Failed { detail, duration, since_due, ids, evidence });
        };
        let with = |explore, most_arrivals| {
            let schedule = schedule(&["a", "b"]);
            let repeat = Repeat::Times(NonZeroU32::MIN);
            let windows = PhaseWindows::new(Arc::new(schedule.clone()), repeat);
            windows.begin(origin);
            let slo = Some(Arc::clone(&slo));
            let rules = vec![PhaseRule { slo, explore, most_arrivals }; 2];
            Tally::new(&schedule, Arc::new(windows), &rules, true)
        };
        let tally = with(false, Some(2));
        fail(&tally, 0, 0);
        assert_eq!(tally.hopeless.get(), None, "the second request can still succeed");
        fail(&tally, 0, 1);
        let phase = "a".to_owned();
        assert_eq!(tally.hopeless.get(), Some(&Hopeless { phase, objective }));
        // Without a known number, the phase decides when it has ended, after 1 s.
        let tally = with(false, None);
        (0..9).for_each(|millis| fail(&tally, 0, millis));
        assert_eq!(tally.hopeless.get(), None);
        fail(&tally, 1, 1001);
        assert_eq!(tally.hopeless.get().unwrap().phase, "a");
        let tally = with(true, Some(2));
        (0..9).for_each(|millis| fail(&tally, 0, millis));
        assert_eq!(tally.hopeless.get(), None, "a phase that explores decides nothing");
    }
}
