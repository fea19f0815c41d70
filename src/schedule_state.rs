//! Where a scenario stands: waiting, in some cycle of its schedule, or ended. Its driver enters what
//! happens, and the schedule says the rest, as a function of the time that is passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::schedule::{Load, Rate, Schedule, Shard};

/// The state of a scenario, shared by those who change it and those who show it.
#[derive(Debug)]
pub struct ScheduleState {
    shard: Shard,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    schedule: Arc<Schedule>,
    /// Whether its one phase goes on for ever.
    endless: bool,
    /// The positions of the phases of each name: repeats of a phase share theirs.
    names: Vec<(String, Vec<usize>)>,
    state: Activity,
    /// A rate that was set by hand, and until when.
    set_rate: Option<(Rate, SystemTime)>,
    /// When the cycle before the last began.
    before: Option<SystemTime>,
    last: Option<(u64, SystemTime)>,
    skipped: u64,
}

/// What a scenario is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It waits, for the reason given in words.
    Waiting(String),
    /// A cycle is on.
    Running {
        /// Its number, from 0.
        cycle: u64,
        /// When it began.
        start: Instant,
        /// The position of the phase whose requests are counted, for which the schedule stands still.
        counting: Option<usize>,
    },
    /// Nothing is due until then.
    Idle(SystemTime),
    /// No arrival will come any more.
    Ended,
}

/// Where a schedule stands at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulePosition {
    /// The number of the cycle, from 0.
    pub cycle: u64,
    /// The name of the phase that is on.
    pub phase: Option<String>,
    /// What is left of it, where that is known.
    pub remaining: Option<Duration>,
    /// Arrivals per second asked for, of this shard.
    pub rate: f64,
    /// Requests in flight asked for, of this shard.
    pub concurrency: u32,
    /// Until when a rate holds that was set by hand.
    pub set_until: Option<SystemTime>,
}

/// A name of a phase: whether one of that name is on, and when one last started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseStatus {
    /// The name.
    pub name: String,
    /// Whether one is on.
    pub active: bool,
    /// When one last started.
    pub started: Option<SystemTime>,
}

impl ScheduleState {
    /// A scenario that waits.
    pub fn new(
        schedule: Arc<Schedule>,
        endless: bool,
        shard: Shard,
        waiting_for: impl Into<String>,
    ) -> ScheduleState {
        let inner = Inner {
            names: names(&schedule),
            schedule,
            endless,
            state: Activity::Waiting(waiting_for.into()),
            set_rate: None,
            before: None,
            last: None,
            skipped: 0,
        };
        ScheduleState { shard, inner: Mutex::new(inner) }
    }

    /// The schedule.
    pub fn schedule(&self) -> Arc<Schedule> {
        Arc::clone(&self.lock().schedule)
    }

    /// Which of the arrivals are ours.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// How far the cycle is that is on; none is while a rate holds that was set by hand.
    pub fn cycle_elapsed(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        match inner.state {
            Activity::Running { start, .. } if inner.set_rate.is_none() => {
                Some(now.saturating_duration_since(start))
            }
            _ => None,
        }
    }

    /// Another schedule takes its place.
    pub fn replace(&self, schedule: Arc<Schedule>, endless: bool) {
        let mut inner = self.lock();
        inner.names = names(&schedule);
        (inner.schedule, inner.endless) = (schedule, endless);
        (inner.before, inner.last) = (None, None);
    }

    /// It waits for something.
    pub fn set_waiting(&self, what: impl Into<String>) {
        self.lock().state = Activity::Waiting(what.into());
    }

    /// A cycle is on that began at this instant, by both clocks.
    pub fn cycle_started(&self, cycle: u64, start: Instant, wall: SystemTime) {
        if let Inner { last: Some((last, began)), before, .. } = &mut *self.lock()
            // Each firing of a cron begins with cycle 0.
            && (*last != cycle || wall > *began + Duration::from_secs(1))
        {
            *before = Some(*began);
        }
        self.cycle_shifted(cycle, start, wall);
    }

    /// The cycle that is on now counts as begun at this instant: the schedule stood still for a while.
    pub fn cycle_shifted(&self, cycle: u64, start: Instant, wall: SystemTime) {
        let mut inner = self.lock();
        inner.last = Some((cycle, wall));
        inner.state = Activity::Running { cycle, start, counting: None };
    }

    /// The schedule stands still for the phase at this position, or goes on.
    pub fn set_counting(&self, phase: Option<usize>) {
        if let Activity::Running { counting, .. } = &mut self.lock().state {
            *counting = phase;
        }
    }

    /// Nothing is due until then.
    pub fn set_idle(&self, until: SystemTime) {
        self.lock().state = Activity::Idle(until);
    }

    /// Nothing is to come.
    pub fn set_ended(&self) {
        self.lock().state = Activity::Ended;
    }

    /// A rate was set by hand, until then; or it holds no longer.
    pub fn set_rate_override(&self, rate: Option<(Rate, SystemTime)>) {
        self.lock().set_rate = rate;
    }

    /// So many firings of its cron expression were skipped so far.
    pub fn skipped(&self, firings: u64) {
        self.lock().skipped = firings;
    }

    /// How many firings of its cron expression were skipped so far.
    pub fn skipped_firings(&self) -> u64 {
        self.lock().skipped
    }

    /// What it is doing.
    pub fn state(&self) -> Activity {
        self.lock().state.clone()
    }

    /// Whether arrivals may come.
    pub fn is_running(&self) -> bool {
        let inner = self.lock();
        matches!(inner.state, Activity::Running { .. }) || inner.set_rate.is_some()
    }

    /// Where it stands.
    pub fn position(&self, now: Instant) -> SchedulePosition {
        let inner = self.lock();
        let share = f64::from(self.shard.count()).recip();
        if let Some((rate, until)) = inner.set_rate {
            let rate = rate.per_second() * share;
            return SchedulePosition {
                rate,
                set_until: Some(until),
                ..SchedulePosition::default()
            };
        }
        let (Some((phase, remaining)), Activity::Running { cycle, start, .. }) =
            (inner.phase(now), &inner.state)
        else {
            return SchedulePosition::default();
        };
        let concurrency = match inner.schedule.phases().get(phase).map(|phase| &phase.load) {
            Some(Load::Concurrency(slots) | Load::Requests { slots, .. }) => {
                u32::try_from(self.shard.part(slots.get().into())).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        let time = now.saturating_duration_since(*start);
        SchedulePosition {
            cycle: *cycle,
            phase: inner.schedule.phases().get(phase).map(|phase| phase.name.clone()),
            remaining: remaining.filter(|_| !inner.endless),
            rate: if concurrency > 0 { 0.0 } else { inner.schedule.rate(time) * share },
            concurrency,
            set_until: None,
        }
    }

    /// Arrivals per second that the schedule asks for, of this shard, whatever rate is set by hand; nothing
    /// where nobody looks it up, since its cycle ended while such a rate held.
    pub fn scheduled_rate(&self, now: Instant) -> Option<f64> {
        let inner = self.lock();
        let Activity::Running { start, .. } = inner.state else {
            let is_known = inner.set_rate.is_none() || !matches!(inner.state, Activity::Idle(_));
            return is_known.then_some(0.0);
        };
        let (time, length) = (now.saturating_duration_since(start), inner.schedule.length());
        let time = if inner.endless && !length.is_zero() {
            let nanos = time.as_nanos() % length.as_nanos();
            Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
        } else {
            time
        };
        let is_known = inner.set_rate.is_none() || time < length;
        is_known.then(|| inner.schedule.rate(time) / f64::from(self.shard.count()))
    }

    /// What is known of the phases of each name.
    pub fn names(&self, now: Instant) -> Vec<PhaseStatus> {
        let inner = self.lock();
        let on = inner.phase(now).filter(|_| inner.set_rate.is_none()).map(|on| on.0);
        let named = inner.names.iter().map(|(name, positions)| PhaseStatus {
            name: name.clone(),
            active: on.is_some_and(|on| positions.contains(&on)),
            started: positions.iter().filter_map(|index| inner.last_start(*index, now)).max(),
        });
        named.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The position of the phase that is on, and what is left of it where that is known.
    fn phase(&self, now: Instant) -> Option<(usize, Option<Duration>)> {
        let Activity::Running { start, counting, .. } = self.state else { return None };
        if let Some(phase) = counting {
            return Some((phase, None));
        }
        let time = now.saturating_duration_since(start);
        let placed = self.schedule.phase_at(time)?;
        Some((placed.index, Some(placed.end.saturating_sub(time))))
    }

    /// When a phase last started, by the wall clock.
    fn last_start(&self, phase: usize, now: Instant) -> Option<SystemTime> {
        let start = self.schedule.phase_span(phase)?.start;
        let (_, wall) = self.last?;
        let begun = match self.state {
            Activity::Running { start: cycle, counting, .. } => match counting {
                Some(counting) => phase <= counting,
                None => now.saturating_duration_since(cycle) >= start,
            },
            _ => true,
        };
        if begun { Some(wall + start) } else { self.before.map(|before| before + start) }
    }
}

fn names(schedule: &Schedule) -> Vec<(String, Vec<usize>)> {
    let mut names: Vec<(String, Vec<usize>)> = Vec::new();
    let mut positions = HashMap::new();
    for (index, phase) in schedule.phases().iter().enumerate() {
        let cycle_elapsed = *positions.entry(phase.name.clone()).or_insert_with(|| {
            names.push((phase.name.clone(), Vec::new()));
            names.len() - 1
        });
        names[cycle_elapsed].1.push(index);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::schedule::Phase;

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
        ScheduleState::new(Arc::new(schedule), false, Shard::ALL, "nothing")
    }

    #[test]
    fn phases_and_their_starts_follow_from_the_cycle() {
        let schedule_state = schedule_state();
        let (origin, wall) = (Instant::now(), SystemTime::now());
        let started = |second| {
            schedule_state
                .names(at(origin, second))
                .iter()
                .map(|named| named.started)
                .collect::<Vec<_>>()
        };
        let after = |seconds| Some(wall + Duration::from_secs(seconds));
        assert_eq!(schedule_state.position(at(origin, 3)), SchedulePosition::default());
        schedule_state.cycle_started(0, origin, wall);
        assert_eq!(schedule_state.position(at(origin, 12)).concurrency, 7);
        assert_eq!(started(9), [after(0), None]);
        schedule_state.cycle_started(1, at(origin, 15), wall + Duration::from_secs(15));
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
    fn a_rate_set_by_hand_stands_in_place_of_the_schedule() {
        let schedule_state = schedule_state();
        let (origin, wall) = (Instant::now(), SystemTime::now());
        schedule_state.cycle_started(0, origin, wall);
        schedule_state.set_rate_override(Some(("3/s".parse().unwrap(), wall)));
        let position = schedule_state.position(at(origin, 12));
        assert_eq!((position.rate, position.concurrency, position.set_until), (3.0, 0, Some(wall)));
        assert!(schedule_state.names(at(origin, 12)).iter().all(|named| !named.active));
        assert_eq!(schedule_state.scheduled_rate(at(origin, 5)), Some(5.0));
        assert_eq!(
            schedule_state.scheduled_rate(at(origin, 15)),
            None,
            "nobody began the next cycle"
        );
        schedule_state.set_rate_override(None);
        assert_eq!(schedule_state.position(at(origin, 12)).concurrency, 7);
    }

    #[test]
    fn repeats_of_a_phase_are_one_name() {
        let phase = |name: &str| Phase {
            name: name.into(),
            load: Load::Pause,
            length: Duration::from_secs(1),
        };
        let schedule = Schedule::new(vec![phase("a"), phase("b"), phase("a"), phase("b")]);
        let schedule_state = ScheduleState::new(Arc::new(schedule), false, Shard::ALL, "nothing");
        let (origin, wall) = (Instant::now(), SystemTime::now());
        schedule_state.cycle_started(0, origin, wall);
        let named = |name: &str, active, seconds| {
            let started = Some(wall + Duration::from_secs(seconds));
            PhaseStatus { name: name.into(), active, started }
        };
        let names = schedule_state.names(origin + Duration::from_millis(2500));
        assert_eq!(names, [named("a", true, 2), named("b", false, 1)]);
    }
}
