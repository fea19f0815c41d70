//! The segment of a schedule that is active: the starts of its cycles, and its idle times.
//!
//! The caller asks a [`Timetable`] for one entry after another, each from the end of the entry
//! before. So entries cover all of time, and no arrival is lost between two of them, however late
//! the call is. The caller also passes in the wall clock: cycles that follow it are placed anew at
//! each start, and no part of a cycle is sent twice.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::calendar::{Anchor, Cron, Windows};
use crate::pacer::Segment;
use crate::plan::{Scenario, Start};
use crate::schedule::{Repeat, Schedule};

/// A start so recent counts as seen in time: no call comes at the exact nanosecond, and clocks are
/// adjusted by milliseconds.
const START_TOLERANCE: Duration = Duration::from_secs(1);

/// An instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    /// The same instant on the wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// The time of the wall clock at an instant, past or future, if nobody sets the clock.
    pub fn wall_at(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.saturating_duration_since(instant),
        }
    }

    /// The instant at which the wall clock shows a time, past or future, if nobody sets the clock.
    pub fn instant_at(self, wall: SystemTime) -> Instant {
        match wall.duration_since(self.wall) {
            Ok(later) => self.instant + later,
            // The monotonic clock may have started after that time.
            Err(earlier) => self.instant.checked_sub(earlier.duration()).unwrap_or(self.instant),
        }
    }
}

/// The rule for the starts of cycles.
#[derive(Clone, Debug, PartialEq)]
pub enum Cycles {
    /// One cycle after the other, the first at once.
    BackToBack {
        /// The number of cycles.
        repeat: Repeat,
        /// True if each cycle waits until the target is ready.
        when_ready: bool,
    },
    /// Cycles placed by the wall clock, without end.
    WallClock(Anchor),
    /// This number of cycles from each cron firing on. A firing while they run is skipped.
    Cron(Cron, Repeat),
}

/// The activity of a scenario from an instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimetableEntry {
    /// This segment is active.
    Active(Segment),
    /// No load before this instant.
    IdleUntil(Instant),
    /// No load ever again.
    Ended,
}

/// The cycles and the active windows of one schedule.
#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Arc<Schedule>,
    cycles: Cycles,
    active: Option<Windows>,
    /// The latest cycle that became active.
    last_cycle: Option<LastCycle>,
    /// The latest cron firing that was handled, or the time from which firings count.
    last_firing: Option<SystemTime>,
    skipped_firings: u64,
}

#[derive(Clone, Copy, Debug)]
struct LastCycle {
    number: u64,
    start: Instant,
    /// The length of the cycle, unless an active window or another load cuts it short.
    length: Duration,
    /// True if it ran to its end.
    completed: bool,
}

impl Timetable {
    /// A timetable whose first cycle has not started.
    pub fn new(schedule: Arc<Schedule>, cycles: Cycles, active: Option<Windows>) -> Timetable {
        Timetable {
            schedule,
            cycles,
            active,
            last_cycle: None,
            last_firing: None,
            skipped_firings: 0,
        }
    }

    /// The timetable that the configuration of a scenario describes.
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

    pub fn schedule(&self) -> &Arc<Schedule> {
        &self.schedule
    }

    /// The cause of idle times, as text for people; `None` if the scenario has none.
    pub fn idle_cause(&self) -> Option<&'static str> {
        match (&self.cycles, &self.active) {
            (Cycles::Cron(..), Some(_)) => Some("its cron and its active windows"),
            (Cycles::Cron(..), None) => Some("its cron"),
            (_, Some(_)) => Some("its active windows"),
            (_, None) => None,
        }
    }

    /// Returns true if the schedule is one phase that never ends.
    pub fn is_endless(&self) -> bool {
        let is_repeated_forever = match self.cycles {
            Cycles::BackToBack { repeat, .. } => repeat == Repeat::Forever,
            Cycles::WallClock(_) => true,
            Cycles::Cron(..) => false,
        };
        is_repeated_forever && self.active.is_none() && self.schedule.phases().len() == 1
    }

    /// The number of cron firings skipped because the cycles of an earlier firing still ran.
    pub fn skipped_firings(&self) -> u64 {
        self.skipped_firings
    }

    /// Returns true if the next entry is the start of a cycle that may be postponed until the
    /// target is ready. The cycles of a load that never changes exist only in arithmetic, so they
    /// are never postponed.
    pub fn can_be_postponed(&self) -> bool {
        let is_at_start = self.last_cycle.is_none_or(|last| last.completed);
        is_at_start
            && !self.is_endless()
            && matches!(self.cycles, Cycles::BackToBack { when_ready: true, .. })
    }

    /// Records the end of a segment. `completed` is false if it was left before its end.
    pub fn leave_segment(&mut self, segment: Segment, completed: bool) {
        if let Some(last) = &mut self.last_cycle {
            // Phases that count requests may have moved the start.
            last.start = segment.cycle_start;
            last.completed = completed && segment.until_offset >= last.length;
        }
    }

    /// Returns the entry from `at` on, which is the end of the entry before.
    pub fn next_entry(&mut self, at: Moment) -> TimetableEntry {
        // Firings count from the first call on, even if the first window opens later.
        self.last_firing.get_or_insert(at.wall);
        let window_end = match self.active.as_ref().map(|windows| windows.state_at(at.wall)) {
            None | Some((true, None)) => None,
            Some((true, Some(closes))) => Some(at.instant_at(closes)),
            Some((false, Some(opens))) => return TimetableEntry::IdleUntil(at.instant_at(opens)),
            Some((false, None)) => return TimetableEntry::Ended,
        };
        let entry = match self.cycles.clone() {
            Cycles::BackToBack { repeat, .. } => self.back_to_back_entry(repeat, at.instant),
            Cycles::WallClock(anchor) => self.wall_clock_entry(&anchor, at),
            Cycles::Cron(cron, repeat) => self.cron_entry(&cron, repeat, at),
        };
        match (entry, window_end) {
            (TimetableEntry::Active(mut segment), Some(closes)) => {
                let closes_after = closes.saturating_duration_since(segment.cycle_start);
                segment.until_offset = segment.until_offset.min(closes_after);
                TimetableEntry::Active(segment)
            }
            (entry, _) => entry,
        }
    }

    /// The entry for cycles that follow one another; the first cycle starts at `at`.
    fn back_to_back_entry(&mut self, repeat: Repeat, at: Instant) -> TimetableEntry {
        let length = self.schedule.length();
        let (number, start, after_offset) = match self.last_cycle {
            None => (0, at, None),
            Some(last) if last.completed || length.is_zero() => (last.number + 1, at, None),
            Some(last) => {
                // Cycles continue to pass while a window is closed or another load replaces the
                // schedule.
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
        self.begin_cycle(Segment {
            cycle: number,
            cycle_start: start,
            after_offset,
            until_offset: length,
        })
    }

    /// The entry for cycles that are placed by the wall clock.
    fn wall_clock_entry(&mut self, anchor: &Anchor, at: Moment) -> TimetableEntry {
        let cycle = anchor.cycle_at(self.schedule.length(), at.wall);
        let (start, end) = (at.instant_at(cycle.start), at.instant_at(cycle.end));
        let after_offset = match self.last_cycle {
            // The wall clock was set back into a cycle that has ended: wait, so that no arrival is
            // sent twice.
            Some(last)
                if cycle.number < last.number
                    || (cycle.number == last.number && last.completed) =>
            {
                return TimetableEntry::IdleUntil(end.max(at.instant));
            }
            // The cycle follows another and started a moment ago. Arrivals since its start are late
            // and not lost.
            Some(last) if last.completed && at.instant <= start + START_TOLERANCE => None,
            // The wall clock was set back within the cycle, or the segment begins anew after a
            // window: earlier arrivals have been sent.
            Some(last) if cycle.number == last.number => {
                Some(at.instant.saturating_duration_since(start.min(last.start)))
            }
            _ => Some(at.instant.saturating_duration_since(start)),
        };
        let until_offset = self.schedule.length().min(end.saturating_duration_since(start));
        self.begin_cycle(Segment {
            cycle: cycle.number,
            cycle_start: start,
            after_offset,
            until_offset,
        })
    }

    /// The entry for cycles that start at the firings of a cron expression.
    fn cron_entry(&mut self, cron: &Cron, repeat: Repeat, at: Moment) -> TimetableEntry {
        loop {
            if let Some(last) = self.last_cycle {
                let running = self.back_to_back_entry(repeat, at.instant);
                if let TimetableEntry::Active(_) = running {
                    return running;
                }
                self.last_cycle = None;
                // The cycles may have ended some time before `at`, if a manual override was active
                // or no window was open. A firing after their end interrupted nothing.
                let ended = at.wall_at(self.last_end(last, repeat)).min(at.wall);
                self.skip_firings_before(cron, ended);
            }
            let Some(firing) = self.next_firing(cron) else { return TimetableEntry::Ended };
            let Ok(past) = at.wall.duration_since(firing) else {
                return TimetableEntry::IdleUntil(at.instant_at(firing));
            };
            self.last_firing = Some(firing);
            let start = at.instant.checked_sub(past).unwrap_or(at.instant);
            let until_offset = self.schedule.length();
            let entry = self.begin_cycle(Segment {
                cycle: 0,
                cycle_start: start,
                after_offset: None,
                until_offset,
            });
            if past < START_TOLERANCE {
                return entry;
            }
            // The cron fired while the window was closed. The next iteration returns the rest of
            // the cycles, if any is left.
        }
    }

    fn next_firing(&self, cron: &Cron) -> Option<SystemTime> {
        self.last_firing.and_then(|last| cron.next_after(last))
    }

    fn skip_firings_before(&mut self, cron: &Cron, end: SystemTime) {
        while let Some(firing) = self.next_firing(cron)
            && firing < end
        {
            self.skipped_firings += 1;
            self.last_firing = Some(firing);
        }
    }

    /// The end of the last cycle of the firing to which `last` belongs.
    fn last_end(&self, last: LastCycle, repeat: Repeat) -> Instant {
        let remaining = match repeat {
            Repeat::Times(times) => u64::from(times.get()).saturating_sub(last.number),
            Repeat::Forever => u64::MAX,
        };
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        let whole = self.schedule.length().saturating_mul(remaining);
        // Phases that count requests take no schedule time, so the length may be 0.
        last.start.checked_add(whole.max(last.length)).unwrap_or(last.start)
    }

    fn begin_cycle(&mut self, segment: Segment) -> TimetableEntry {
        self.last_cycle = Some(LastCycle {
            number: segment.cycle,
            start: segment.cycle_start,
            length: segment.until_offset,
            completed: false,
        });
        TimetableEntry::Active(segment)
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
