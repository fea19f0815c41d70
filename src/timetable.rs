//! Which part of a schedule is on: when its cycles begin, and when nothing is due at all.
//!
//! A [`Timetable`] is asked for one instant after another, each the end of the stretch before, so
//! that stretches cover all of time and no arrival falls between two of them, however late the
//! question comes. The time of the wall at that instant is passed in: cycles that follow the wall
//! clock are placed anew at each beginning, and never so that a part of a cycle comes twice.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::calendar::{Anchor, Cron, Windows};
use crate::pacer::Segment;
use crate::plan::{Scenario, Start};
use crate::schedule::{Repeat, Schedule};

/// What began so shortly ago has been seen to begin: nobody asks at the very nanosecond, and clocks are
/// put right by milliseconds.
const PROMPT: Duration = Duration::from_secs(1);

/// One instant by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub instant: Instant,
    /// On the wall.
    pub wall: SystemTime,
}

impl Moment {
    /// Where the wall clock will be at an instant, or was.
    pub fn wall_at(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.saturating_duration_since(instant),
        }
    }

    /// The instant at which the wall clock shows a time, or showed it.
    pub fn instant_at(self, wall: SystemTime) -> Instant {
        match wall.duration_since(self.wall) {
            Ok(later) => self.instant + later,
            // The monotonic clock may be younger than the time asked for.
            Err(earlier) => self.instant.checked_sub(earlier.duration()).unwrap_or(self.instant),
        }
    }
}

/// When the cycles of a schedule begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Cycles {
    /// One after the other, the first at once.
    BackToBack {
        /// So many.
        repeat: Repeat,
        /// Whether each may wait until the target is ready.
        when_ready: bool,
    },
    /// Where the wall clock says, for ever.
    WallClock(Anchor),
    /// So many from each firing on; a firing while they are on is skipped.
    Cron(Cron, Repeat),
}

/// What is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimetableEntry {
    /// This stretch.
    Active(Segment),
    /// Nothing before this instant.
    IdleUntil(Instant),
    /// Nothing ever again.
    Ended,
}

/// The cycles and the active windows of one schedule.
#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Arc<Schedule>,
    cycles: Cycles,
    active: Option<Windows>,
    /// The cycle that was on last.
    last: Option<Last>,
    /// When cron fired last, or the time from which firings count.
    fired: Option<SystemTime>,
    skipped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    start: Instant,
    /// How long it is when nothing cuts it short.
    length: Duration,
    /// Whether it was walked to its end.
    done: bool,
}

impl Timetable {
    /// A timetable that has not begun.
    pub fn new(schedule: Arc<Schedule>, cycles: Cycles, active: Option<Windows>) -> Timetable {
        Timetable { schedule, cycles, active, last: None, fired: None, skipped: 0 }
    }

    /// That of a scenario.
    pub fn for_scenario(scenario: &Scenario) -> Timetable {
        let repeat = scenario.repeat;
        let cycles = match &scenario.start {
            Start::WhenReady => Cycles::BackToBack { repeat, when_ready: true },
            Start::Now => Cycles::BackToBack { repeat, when_ready: false },
            Start::WallClock(anchor) => Cycles::WallClock(anchor.clone()),
            Start::Cron(cron) => Cycles::Cron(cron.clone(), repeat),
        };
        Timetable::new(Arc::clone(&scenario.schedule), cycles, scenario.active.clone())
    }

    /// The schedule.
    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    /// What says that nothing is due now and then, in words.
    pub fn idle_cause(&self) -> Option<&'static str> {
        match (&self.cycles, &self.active) {
            (Cycles::Cron(..), Some(_)) => Some("its cron and its active windows"),
            (Cycles::Cron(..), None) => Some("its cron"),
            (_, Some(_)) => Some("its active windows"),
            (_, None) => None,
        }
    }

    /// Whether its one phase goes on for ever.
    pub fn is_endless(&self) -> bool {
        let for_ever = match self.cycles {
            Cycles::BackToBack { repeat, .. } => repeat == Repeat::Forever,
            Cycles::WallClock(_) => true,
            Cycles::Cron(..) => false,
        };
        for_ever && self.active.is_none() && self.schedule.phases().len() == 1
    }

    /// How many firings were skipped so far because the one before was still on.
    pub fn skipped_firings(&self) -> u64 {
        self.skipped
    }

    /// Whether what comes next is a cycle from its beginning that may as well begin later. Of a load
    /// that goes on unchanged for ever, cycles are nothing but arithmetic.
    pub fn can_be_postponed(&self) -> bool {
        let begins = self.last.is_none_or(|last| last.done);
        begins
            && !self.is_endless()
            && matches!(self.cycles, Cycles::BackToBack { when_ready: true, .. })
    }

    /// A stretch was walked to its end, or left before it.
    pub fn leave_segment(&mut self, segment: Segment, walked: bool) {
        if let Some(last) = &mut self.last {
            // Requests that were counted may have moved it.
            last.start = segment.start;
            last.done = walked && segment.until >= last.length;
        }
    }

    /// What is on from `at`, the end of what was on before.
    pub fn next_entry(&mut self, at: Moment) -> TimetableEntry {
        // A firing counts from here on, also one that comes before the first window opens.
        self.fired.get_or_insert(at.wall);
        let change = match self.active.as_ref().map(|windows| windows.state_at(at.wall)) {
            None | Some((true, None)) => None,
            Some((true, Some(closes))) => Some(at.instant_at(closes)),
            Some((false, Some(opens))) => return TimetableEntry::IdleUntil(at.instant_at(opens)),
            Some((false, None)) => return TimetableEntry::Ended,
        };
        let part = match self.cycles.clone() {
            Cycles::BackToBack { repeat, .. } => self.running(repeat, at.instant),
            Cycles::WallClock(anchor) => self.by_the_wall(&anchor, at),
            Cycles::Cron(cron, repeat) => self.by_cron(&cron, repeat, at),
        };
        match (part, change) {
            (TimetableEntry::Active(mut segment), Some(closes)) => {
                segment.until = segment.until.min(closes.saturating_duration_since(segment.start));
                TimetableEntry::Active(segment)
            }
            (part, _) => part,
        }
    }

    /// The cycle that is on at an instant, if they follow one another; the first begins here.
    fn running(&mut self, repeat: Repeat, at: Instant) -> TimetableEntry {
        let length = self.schedule.length();
        let (number, start, after) = match self.last {
            None => (0, at, None),
            Some(last) if last.done || length.is_zero() => (last.number + 1, at, None),
            Some(last) => {
                // More than one cycle may have passed while something else was on.
                let elapsed = at.saturating_duration_since(last.start).as_nanos();
                let (cycles, time) =
                    (elapsed / length.as_nanos(), nanos(elapsed % length.as_nanos()));
                let number = last.number.saturating_add(u64::try_from(cycles).unwrap_or(u64::MAX));
                (number, at.checked_sub(time).unwrap_or(at), Some(time))
            }
        };
        if !repeat.includes(number) {
            return TimetableEntry::Ended;
        }
        self.on(Segment { cycle: number, start, after, until: length })
    }

    fn by_the_wall(&mut self, anchor: &Anchor, at: Moment) -> TimetableEntry {
        let cycle = anchor.cycle_at(self.schedule.length(), at.wall);
        let (start, end) = (at.instant_at(cycle.start), at.instant_at(cycle.end));
        let after = match self.last {
            // The wall clock was set back into a cycle that is over.
            Some(last)
                if cycle.number < last.number || (cycle.number == last.number && last.done) =>
            {
                return TimetableEntry::IdleUntil(end.max(at.instant));
            }
            // The clock may be a little ahead; what was due since the cycle began is late, not lost.
            Some(last) if last.done && at.instant <= start + PROMPT => None,
            // Set back in the midst of a cycle: what was due before has been told.
            Some(last) if cycle.number == last.number => {
                Some(at.instant.saturating_duration_since(start.min(last.start)))
            }
            _ => Some(at.instant.saturating_duration_since(start)),
        };
        let until = self.schedule.length().min(end.saturating_duration_since(start));
        self.on(Segment { cycle: cycle.number, start, after, until })
    }

    fn by_cron(&mut self, cron: &Cron, repeat: Repeat, at: Moment) -> TimetableEntry {
        loop {
            if let Some(last) = self.last {
                if let part @ TimetableEntry::Active(_) = self.running(repeat, at.instant) {
                    return part;
                }
                self.last = None;
                // It may be over for longer than this: a rate was set by hand meanwhile, or no window
                // was open. What fired then met nothing that was on.
                let over = at.wall_at(self.end(last, repeat)).min(at.wall);
                while let Some(firing) = self.fired.and_then(|fired| cron.next_after(fired))
                    && firing < over
                {
                    self.skipped += 1;
                    self.fired = Some(firing);
                }
            }
            let Some(firing) = self.fired.and_then(|fired| cron.next_after(fired)) else {
                return TimetableEntry::Ended;
            };
            let Ok(past) = at.wall.duration_since(firing) else {
                return TimetableEntry::IdleUntil(at.instant_at(firing));
            };
            self.fired = Some(firing);
            let start = at.instant.checked_sub(past).unwrap_or(at.instant);
            let until = self.schedule.length();
            let part = self.on(Segment { cycle: 0, start, after: None, until });
            if past < PROMPT {
                return part;
            }
            // It fired while the window was closed: what is left of it is on.
        }
    }

    /// When the last of the cycles ends that began with this one's.
    fn end(&self, last: Last, repeat: Repeat) -> Instant {
        let left = match repeat {
            Repeat::Times(times) => u64::from(times.get()).saturating_sub(last.number),
            Repeat::Forever => u64::MAX,
        };
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let whole = self.schedule.length().saturating_mul(left);
        // Requests that were counted take no time of the schedule's.
        last.start.checked_add(whole.max(last.length)).unwrap_or(last.start)
    }

    fn on(&mut self, segment: Segment) -> TimetableEntry {
        let Segment { cycle, start, until, .. } = segment;
        self.last = Some(Last { number: cycle, start, length: until, done: false });
        TimetableEntry::Active(segment)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
