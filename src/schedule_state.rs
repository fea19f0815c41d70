//! The activity of a scenario: waiting, running, idle or ended.
//!
//! The driver records each change. All other values follow from the schedule and the current time.

mod searches;
mod windows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::capacity::Level;
use crate::schedule::{Rate, Schedule, Shard};
pub use searches::{SearchState, Searches};
pub use windows::{PhaseWindows, Place};

/// The driver changes this state. The metrics and the status page read it.
#[derive(Debug)]
pub struct ScheduleState {
    pub searches: Searches,
    shard: Shard,
    /// The windows of the phases, which only a run needs.
    windows: Option<Arc<PhaseWindows>>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    schedule: Arc<Schedule>,
    /// True if the schedule is one phase that never ends.
    endless: bool,
    /// The phase names, each with the indexes of its phases. Repeated phases share a name.
    positions: Vec<(String, Vec<usize>)>,
    activity: Activity,
    /// The manual override and its end.
    rate_override: Option<(Rate, SystemTime)>,
    previous_start: Option<SystemTime>,
    /// The number and the start of the latest cycle.
    latest: Option<(u64, SystemTime)>,
    skipped_firings: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOverride {
    Set {
        /// The rate of all shards together.
        rate: Rate,
        /// The time until the schedule continues.
        length: Duration,
    },
    Clear,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The scenario waits for this, such as "the target".
    Waiting(String),
    Running {
        /// From 0.
        cycle: u64,
        start: Instant,
        /// The index of the active `requests` phase or search. The time of the cycle does not
        /// advance until this phase ends.
        counted_phase: Option<usize>,
    },
    /// The scenario sends nothing until this time.
    Idle(SystemTime),
    Ended,
}

/// A snapshot of a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulePosition {
    /// From 0.
    pub cycle: u64,
    /// `None` if no phase is active.
    pub phase: Option<String>,
    /// The index of the phase in the schedule.
    pub phase_index: Option<usize>,
    /// The remaining time of the phase, if known.
    pub remaining: Option<Duration>,
    /// The rate of this shard in arrivals per second.
    pub rate: f64,
    /// The number of requests that this shard keeps in flight; 0 in an open loop.
    pub concurrency: u32,
    /// The end of the active manual override.
    pub override_until: Option<SystemTime>,
}

/// All phases with the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseStatus {
    pub name: String,
    pub is_active: bool,
    pub last_started: Option<SystemTime>,
}

impl ScheduleState {
    /// Creates the state of a scenario that waits for `waiting_for`.
    pub fn new(
        schedule: Arc<Schedule>,
        endless: bool,
        shard: Shard,
        waiting_for: impl Into<String>,
    ) -> ScheduleState {
        let inner = Inner {
            positions: positions_by_name(&schedule),
            schedule,
            endless,
            activity: Activity::Waiting(waiting_for.into()),
            rate_override: None,
            previous_start: None,
            latest: None,
            skipped_firings: 0,
        };
        ScheduleState {
            searches: Searches::default(),
            shard,
            windows: None,
            inner: Mutex::new(inner),
        }
    }

    pub fn schedule(&self) -> Arc<Schedule> {
        Arc::clone(&self.lock().schedule)
    }

    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The time since the start of the cycle. `None` outside a cycle and during a manual override.
    pub fn cycle_elapsed(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        match inner.activity {
            Activity::Running { start, .. } if inner.rate_override.is_none() => {
                Some(now.saturating_duration_since(start))
            }
            _ => None,
        }
    }

    /// Replaces the schedule and forgets its cycles.
    pub fn replace_schedule(&self, schedule: Arc<Schedule>, endless: bool) {
        let mut inner = self.lock();
        inner.positions = positions_by_name(&schedule);
        (inner.schedule, inner.endless) = (schedule, endless);
        (inner.previous_start, inner.latest) = (None, None);
    }

    /// `what` is a noun, such as "the target".
    pub fn set_waiting(&self, what: impl Into<String>) {
        self.lock().activity = Activity::Waiting(what.into());
    }

    /// `start` and `wall` are the same instant on two clocks.
    pub fn start_cycle(&self, cycle: u64, start: Instant, wall: SystemTime) {
        if let Some(windows) = &self.windows {
            windows.begin(start);
        }
        if let Inner { latest: Some((latest, began)), previous_start, .. } = &mut *self.lock()
            // After each cron firing, cycles begin with number 0 again. So a later start with the
            // same number is another cycle.
            && (*latest != cycle || wall > *began + Duration::from_secs(1))
        {
            *previous_start = Some(*began);
        }
        self.shift_cycle(cycle, start, wall);
    }

    fn shift_cycle(&self, cycle: u64, start: Instant, wall: SystemTime) {
        let mut inner = self.lock();
        inner.latest = Some((cycle, wall));
        inner.activity = Activity::Running { cycle, start, counted_phase: None };
    }

    /// Records the index of the active `requests` phase.
    pub fn start_counted_phase(&self, phase: usize) {
        if let Activity::Running { counted_phase, .. } = &mut self.lock().activity {
            *counted_phase = Some(phase);
        }
    }

    /// Records that the `requests` phase has ended. The start of the cycle moves to `start` (`wall`
    /// on the wall clock), because the schedule did not advance during the phase.
    pub fn end_counted_phase(&self, at: Instant, cycle: u64, start: Instant, wall: SystemTime) {
        if let Some(windows) = &self.windows {
            windows.end_counted_phase(at);
        }
        self.shift_cycle(cycle, start, wall);
    }

    pub fn set_idle_until(&self, until: SystemTime) {
        self.lock().activity = Activity::Idle(until);
    }

    pub fn set_ended(&self) {
        self.lock().activity = Activity::Ended;
    }

    /// `None` means that no override is active.
    pub fn set_rate_override(&self, rate: Option<(Rate, SystemTime)>) {
        self.lock().rate_override = rate;
    }

    /// Corrects all recorded times after a step of the wall clock. `moved` corrects one time.
    pub fn move_wall_times(&self, moved: impl Fn(SystemTime) -> SystemTime) {
        let mut inner = self.lock();
        inner.previous_start = inner.previous_start.map(&moved);
        inner.latest = inner.latest.map(|(cycle, start)| (cycle, moved(start)));
        inner.rate_override = inner.rate_override.map(|(rate, until)| (rate, moved(until)));
    }

    pub fn set_skipped_firings(&self, firings: u64) {
        self.lock().skipped_firings = firings;
    }

    /// The number of skipped cron firings since the start.
    pub fn skipped_firings(&self) -> u64 {
        self.lock().skipped_firings
    }

    pub fn activity(&self) -> Activity {
        self.lock().activity.clone()
    }

    /// Returns true during a cycle or a manual override.
    pub fn is_running(&self) -> bool {
        let inner = self.lock();
        matches!(inner.activity, Activity::Running { .. }) || inner.rate_override.is_some()
    }

    pub fn position(&self, now: Instant) -> SchedulePosition {
        let inner = self.lock();
        let fraction = f64::from(self.shard.count()).recip();
        if let Some((rate, until)) = inner.rate_override {
            let rate = rate.per_second() * fraction;
            return SchedulePosition {
                rate,
                override_until: Some(until),
                ..SchedulePosition::default()
            };
        }
        let (Some((phase, remaining)), Activity::Running { cycle, start, .. }) =
            (inner.current_phase(now), &inner.activity)
        else {
            return SchedulePosition::default();
        };
        let level = self.searches.current_level(phase);
        let slots = match level {
            Some(Level::Concurrency(slots)) => Some(slots),
            Some(Level::Rate(_)) => None,
            None => inner.schedule.phases().get(phase).and_then(|phase| phase.load.slots()),
        };
        let searched = level.map(Level::value).unwrap_or_default();
        let concurrency = slots.map_or(0, |slots| self.shard.part(slots.get().into()));
        let concurrency = u32::try_from(concurrency).unwrap_or(u32::MAX);
        let time = now.saturating_duration_since(*start);
        SchedulePosition {
            cycle: *cycle,
            phase: inner.schedule.phases().get(phase).map(|phase| phase.name.clone()),
            phase_index: Some(phase),
            remaining: remaining.filter(|_| !inner.endless),
            rate: match (concurrency, level) {
                (0, Some(_)) => searched,
                (0, None) => inner.schedule.rate(time) * fraction,
                _ => 0.0,
            },
            concurrency,
            override_until: None,
        }
    }

    /// The rate of the schedule for this shard, even during a manual override. `None` if a cycle
    /// has ended during an override, because the driver looks up the next cycle only after the
    /// override.
    pub fn scheduled_rate(&self, now: Instant) -> Option<f64> {
        let inner = self.lock();
        let Activity::Running { start, .. } = inner.activity else {
            let is_known =
                inner.rate_override.is_none() || !matches!(inner.activity, Activity::Idle(_));
            return is_known.then_some(0.0);
        };
        let (time, length) = (now.saturating_duration_since(start), inner.schedule.length());
        let time = if inner.endless && !length.is_zero() {
            let nanos = time.as_nanos() % length.as_nanos();
            Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
        } else {
            time
        };
        let is_known = inner.rate_override.is_none() || time < length;
        is_known.then(|| inner.schedule.rate(time) / f64::from(self.shard.count()))
    }

    pub fn phases(&self, now: Instant) -> Vec<PhaseStatus> {
        let inner = self.lock();
        let current = inner.current_phase(now).filter(|_| inner.rate_override.is_none());
        let phases = inner.positions.iter().map(|(name, positions)| PhaseStatus {
            name: name.clone(),
            is_active: current.is_some_and(|(index, _)| positions.contains(&index)),
            last_started: positions.iter().filter_map(|index| inner.last_start(*index, now)).max(),
        });
        phases.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The index of the active phase, and its remaining time if known.
    fn current_phase(&self, now: Instant) -> Option<(usize, Option<Duration>)> {
        let Activity::Running { start, counted_phase, .. } = self.activity else { return None };
        if let Some(phase) = counted_phase {
            return Some((phase, None));
        }
        let time = now.saturating_duration_since(start);
        let placed = self.schedule.phase_at(time)?;
        Some((placed.index, Some(placed.end.saturating_sub(time))))
    }

    /// The last start of a phase on the wall clock, in the latest or the previous cycle.
    fn last_start(&self, phase: usize, now: Instant) -> Option<SystemTime> {
        let start = self.schedule.phase_span(phase)?.start;
        let (_, latest_start) = self.latest?;
        let has_started = match self.activity {
            Activity::Running { counted_phase: Some(counted), .. } => phase <= counted,
            Activity::Running { start: cycle_start, .. } => {
                now.saturating_duration_since(cycle_start) >= start
            }
            _ => true,
        };
        let cycle_start = if has_started { Some(latest_start) } else { self.previous_start };
        cycle_start.map(|cycle_start| cycle_start + start)
    }
}

/// The phase names, each with the indexes of its phases, by first index.
fn positions_by_name(schedule: &Schedule) -> Vec<(String, Vec<usize>)> {
    let mut by_name: Vec<(String, Vec<usize>)> = Vec::new();
    let mut rows = HashMap::new();
    for (position, phase) in schedule.phases().iter().enumerate() {
        let row = *rows.entry(phase.name.as_str()).or_insert_with(|| {
            by_name.push((phase.name.clone(), Vec::new()));
            by_name.len() - 1
        });
        by_name[row].1.push(position);
    }
    by_name
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::schedule::{Load, Phase};

    fn at(origin: Instant, seconds: u64) -> Instant {
        origin + Duration::from_secs(seconds)
    }

    fn schedule_state() -> ScheduleState {
        let phase = |load: Load, seconds| Phase {
            name: load.to_string(),
            load,
            length: Duration::from_secs(seconds),
        };
        let slots = NonZeroU32::new(7).unwrap();
        let ramp = Load::Ramp { from: "0/s".parse().unwrap(), to: "10/s".parse().unwrap() };
        let schedule = Schedule::new(vec![phase(ramp, 10), phase(Load::Concurrency(slots), 5)]);
        ScheduleState::new(Arc::new(schedule), false, Shard::ALL, "the target")
    }

    #[test]
    fn phases_and_their_starts_follow_from_the_cycle() {
        let schedule_state = schedule_state();
        let (origin, wall) = (Instant::now(), SystemTime::now());
        let started = |second| {
            schedule_state
                .phases(at(origin, second))
                .iter()
                .map(|phase| phase.last_started)
                .collect::<Vec<_>>()
        };
        let after = |seconds| Some(wall + Duration::from_secs(seconds));
        assert_eq!(schedule_state.position(at(origin, 3)), SchedulePosition::default());
        schedule_state.start_cycle(0, origin, wall);
        assert_eq!(schedule_state.position(at(origin, 12)).concurrency, 7);
        assert_eq!(started(9), [after(0), None]);
        schedule_state.start_cycle(1, at(origin, 15), wall + Duration::from_secs(15));
        let position = schedule_state.position(at(origin, 20));
        assert_eq!((position.cycle, position.remaining), (1, Some(Duration::from_secs(5))));
        assert!((position.rate - 5.0).abs() < 1e-9);
        assert_eq!(started(20), [after(15), after(10)]);
        assert_eq!(started(26), [after(15), after(25)]);
        schedule_state.set_ended();
        assert_eq!(schedule_state.position(at(origin, 30)), SchedulePosition::default());
        assert_eq!(started(100), [after(15), after(25)]);
    }

    #[test]
    fn a_manual_override_replaces_the_scheduled_rate() {
        let schedule_state = schedule_state();
        let (origin, wall) = (Instant::now(), SystemTime::now());
        schedule_state.start_cycle(0, origin, wall);
        schedule_state.set_rate_override(Some(("3/s".parse().unwrap(), wall)));
        let position = schedule_state.position(at(origin, 12));
        assert_eq!(
            (position.rate, position.concurrency, position.override_until),
            (3.0, 0, Some(wall))
        );
        assert!(schedule_state.phases(at(origin, 12)).iter().all(|phase| !phase.is_active));
        assert_eq!(schedule_state.scheduled_rate(at(origin, 5)), Some(5.0));
        assert_eq!(
            schedule_state.scheduled_rate(at(origin, 15)),
            None,
            "the next cycle has not begun"
        );
        schedule_state.set_rate_override(None);
        assert_eq!(schedule_state.position(at(origin, 12)).concurrency, 7);
    }

    #[test]
    fn repeats_of_a_phase_share_one_name() {
        let phase = |name: &str| Phase {
            name: name.into(),
            load: Load::Pause,
            length: Duration::from_secs(1),
        };
        let schedule = Schedule::new(vec![phase("a"), phase("b"), phase("a"), phase("b")]);
        let schedule_state =
            ScheduleState::new(Arc::new(schedule), false, Shard::ALL, "the target");
        let (origin, wall) = (Instant::now(), SystemTime::now());
        schedule_state.start_cycle(0, origin, wall);
        let status = |name: &str, is_active, seconds| {
            let last_started = Some(wall + Duration::from_secs(seconds));
            PhaseStatus { name: name.into(), is_active, last_started }
        };
        let phases = schedule_state.phases(origin + Duration::from_millis(2500));
        assert_eq!(phases, [status("a", true, 2), status("b", false, 1)]);
    }
}
