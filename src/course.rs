//! Where a scenario stands: waiting, running since some instant, or ended. The schedule says the
//! rest, as a function of the time that is passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::schedule::{Load, Repeat, Schedule};

/// The state of a scenario, shared by those who change it and those who show it.
#[derive(Debug)]
pub struct Course {
    schedule: Arc<Schedule>,
    /// The positions of the phases of each name: repeats of a phase share theirs.
    names: Vec<(String, Vec<usize>)>,
    repeat: Repeat,
    state: Mutex<State>,
}

/// What a scenario is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits, for the reason given in words.
    Waiting(String),
    /// Its schedule began at this instant, by both clocks.
    Running(Instant, SystemTime),
    /// No arrival will come any more.
    Ended,
}

/// Where a schedule stands at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// The number of the cycle, from 0.
    pub cycle: u64,
    /// The position of the phase that is on.
    pub phase: Option<usize>,
    /// What is left of it.
    pub remaining: Duration,
    /// Arrivals per second asked for.
    pub rate: f64,
    /// Requests in flight asked for.
    pub concurrency: u32,
}

impl Course {
    /// A scenario that waits.
    pub fn new(schedule: Arc<Schedule>, repeat: Repeat, waiting_for: impl Into<String>) -> Course {
        let mut names: Vec<(String, Vec<usize>)> = Vec::new();
        let mut positions = HashMap::new();
        for (index, phase) in schedule.phases().iter().enumerate() {
            let position = *positions.entry(phase.name.clone()).or_insert_with(|| {
                names.push((phase.name.clone(), Vec::new()));
                names.len() - 1
            });
            names[position].1.push(index);
        }
        Course { schedule, names, repeat, state: Mutex::new(State::Waiting(waiting_for.into())) }
    }

    /// The schedule.
    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    /// How often it is gone through.
    pub fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// Whether one phase goes on for ever.
    pub fn is_endless(&self) -> bool {
        self.repeat == Repeat::Forever && self.schedule.phases().len() == 1
    }

    /// It waits for something else now.
    pub fn waits_for(&self, what: impl Into<String>) {
        *self.lock() = State::Waiting(what.into());
    }

    /// The schedule begins at this instant.
    pub fn begins(&self, origin: Instant, wall: SystemTime) {
        *self.lock() = State::Running(origin, wall);
    }

    /// It has ended.
    pub fn ends(&self) {
        *self.lock() = State::Ended;
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Whether arrivals may come.
    pub fn is_running(&self) -> bool {
        matches!(*self.lock(), State::Running(..))
    }

    /// Where it stands.
    pub fn standing(&self, now: Instant) -> Standing {
        let State::Running(origin, _) = self.state() else { return Standing::default() };
        let Some((cycle, time)) = self.cycle_at(now.saturating_duration_since(origin)) else {
            return Standing::default();
        };
        let Some(placed) = self.schedule.at(time) else { return Standing::default() };
        let concurrency = match placed.phase.load {
            Load::Concurrency(slots) => slots.get(),
            _ => 0,
        };
        Standing {
            cycle,
            phase: Some(placed.index),
            remaining: placed.end.saturating_sub(time),
            rate: self.schedule.rate(time),
            concurrency,
        }
    }

    /// Each name of a phase, whether one of that name is on, and when one last started.
    pub fn names(&self, now: Instant) -> impl Iterator<Item = (&str, bool, Option<SystemTime>)> {
        let on = self.standing(now).phase;
        self.names.iter().map(move |(name, positions)| {
            let active = on.is_some_and(|on| positions.contains(&on));
            let started = positions.iter().filter_map(|index| self.last_start(*index, now)).max();
            (name.as_str(), active, started)
        })
    }

    /// When a phase last started, by the wall clock.
    fn last_start(&self, phase: usize, now: Instant) -> Option<SystemTime> {
        let State::Running(origin, wall) = self.state() else { return None };
        let elapsed = now.saturating_duration_since(origin);
        let start = self.schedule.placed(phase)?.start;
        let length = self.schedule.length();
        let last_cycle = match self.repeat {
            Repeat::Forever => u64::MAX,
            Repeat::Times(times) => u64::from(times.get()) - 1,
        };
        let cycles = u64::try_from(elapsed.checked_sub(start)?.as_nanos() / length.as_nanos().max(1)).ok()?;
        let cycles = cycles.min(last_cycle);
        Some(wall + times(length, cycles) + start)
    }

    fn cycle_at(&self, elapsed: Duration) -> Option<(u64, Duration)> {
        let length = self.schedule.length().as_nanos().max(1);
        let cycle = u64::try_from(elapsed.as_nanos() / length).ok()?;
        let time = Duration::from_nanos(u64::try_from(elapsed.as_nanos() % length).ok()?);
        self.repeat.includes(cycle).then_some((cycle, time))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn times(length: Duration, factor: u64) -> Duration {
    let nanos = length.as_nanos().saturating_mul(u128::from(factor));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::schedule::Phase;

    #[test]
    fn phases_and_their_starts_follow_from_the_origin() {
        let phase = |load: Load, seconds| Phase {
            name: load.to_string(),
            load,
            length: Duration::from_secs(seconds),
        };
        let slots = NonZeroU32::new(7).unwrap();
        let ramp = Load::Ramp { from: "0/s".parse().unwrap(), to: "10/s".parse().unwrap() };
        let schedule = Schedule::new(vec![phase(ramp, 10), phase(Load::Concurrency(slots), 5)]);
        let course = Course::new(Arc::new(schedule), Repeat::Times(NonZeroU32::new(2).unwrap()), "nothing");
        let (origin, wall) = (Instant::now(), SystemTime::now());
        let at = |seconds| origin + Duration::from_secs(seconds);
        assert_eq!(course.standing(at(3)), Standing::default());
        course.begins(origin, wall);
        let standing = course.standing(at(20));
        assert_eq!(
            (standing.cycle, standing.phase, standing.remaining),
            (1, Some(0), Duration::from_secs(5))
        );
        assert!((standing.rate - 5.0).abs() < 1e-9);
        assert_eq!(course.standing(at(12)).concurrency, 7);
        assert_eq!(course.standing(at(30)), Standing::default());
        assert_eq!(course.last_start(1, at(9)), None);
        assert_eq!(course.last_start(1, at(20)), Some(wall + Duration::from_secs(10)));
        assert_eq!(course.last_start(0, at(20)), Some(wall + Duration::from_secs(15)));
        assert_eq!(course.last_start(0, at(100)), Some(wall + Duration::from_secs(15)));
    }

    #[test]
    fn repeats_of_a_phase_are_one_name() {
        let phase =
            |name: &str| Phase { name: name.into(), load: Load::Pause, length: Duration::from_secs(1) };
        let schedule = Schedule::new(vec![phase("a"), phase("b"), phase("a"), phase("b")]);
        let course = Course::new(Arc::new(schedule), Repeat::Forever, "nothing");
        let (origin, wall) = (Instant::now(), SystemTime::now());
        course.begins(origin, wall);
        let names: Vec<_> = course.names(origin + Duration::from_millis(2500)).collect();
        assert_eq!(
            names,
            [
                ("a", true, Some(wall + Duration::from_secs(2))),
                ("b", false, Some(wall + Duration::from_secs(1))),
            ]
        );
    }
}
