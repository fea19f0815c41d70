//! The timetable of a scenario: when each cycle of its schedule starts, and when the scenario is
//! idle.
//!
//! The driver, which sends the arrivals, requests one entry after another from a [`Timetable`]. An
//! entry is a segment (an uninterrupted part of one cycle), an idle time, or the end of the load.
//! Each entry begins where the previous entry ended, however late the driver calls. So the entries
//! cover all of time, and no arrival is lost between two entries.
//!
//! The driver also passes in the time of the wall clock. If a schedule follows the wall clock, the
//! timetable computes the position of each cycle from this time whenever a segment begins. After a
//! step of the wall clock, the driver calls [`Timetable::follow_clock_step`], and the schedule
//! continues at the new time.

mod clock;
mod firings;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::clock::{ClockStep, Moment, StepDetector, StepDirection};
use self::firings::Firings;
pub use self::firings::FiringsAfterStep;

use crate::calendar::{Anchor, Cron, Windows};
use crate::pacer::Segment;
use crate::plan::{Scenario, Start};
use crate::schedule::{Repeat, Schedule};

/// If a cycle started at most this long ago, the timetable treats the cycle as punctual and keeps
/// all its arrivals. The driver never calls at the exact nanosecond of the start, and time
/// synchronisation moves the wall clock by milliseconds.
const START_TOLERANCE: Duration = Duration::from_secs(1);

/// The rule that decides when cycles start.
#[derive(Clone, Debug, PartialEq)]
pub enum Cycles {
    /// The first cycle starts immediately. Each further cycle starts at the end of the previous
    /// cycle.
    BackToBack {
        /// The number of cycles.
        repeat: Repeat,
        /// True if each cycle waits for the target to become ready before it starts.
        when_ready: bool,
    },
    /// The wall clock decides the start of each cycle. The cycles never end.
    WallClock(Anchor),
    /// Each cron firing starts this number of cycles, one after the other. A cron firing during
    /// these cycles is skipped, so it starts no further cycles.
    Cron(Cron, Repeat),
}

/// The activity of a scenario from the requested instant on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimetableEntry {
    /// This segment is active.
    Active(Segment),
    /// The scenario sends nothing before this instant.
    IdleUntil(Instant),
    /// The scenario never sends anything again.
    Ended,
}

/// The cycles of one schedule, within its active windows.
#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Arc<Schedule>,
    cycles: Cycles,
    active: Option<Windows>,
    /// The cycle of the latest segment that was returned.
    last_cycle: Option<LastCycle>,
    firings: Firings,
}

#[derive(Clone, Copy, Debug)]
struct LastCycle {
    number: u64,
    start: Instant,
    /// The length of the cycle. If a manual override or the end of an active window cuts the cycle
    /// short, the length stays the same.
    length: Duration,
    /// True if the cycle ran to its end.
    completed: bool,
}

impl Timetable {
    /// Creates a timetable. Its first cycle has not started yet.
    pub fn new(schedule: Arc<Schedule>, cycles: Cycles, active: Option<Windows>) -> Timetable {
        Timetable { schedule, cycles, active, last_cycle: None, firings: Firings::default() }
    }

    /// Creates the timetable that the configuration of a scenario describes.
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

    /// The cause of idle times. It is a noun phrase for a message, such as `its cron`. `None` if
    /// the scenario has no idle times.
    pub fn idle_cause(&self) -> Option<&'static str> {
        match (&self.cycles, &self.active) {
            (Cycles::Cron(..), Some(_)) => Some("its cron and its active windows"),
            (Cycles::Cron(..), None) => Some("its cron"),
            (_, Some(_)) => Some("its active windows"),
            (_, None) => None,
        }
    }

    /// Returns true if the schedule is one phase that repeats forever without idle times. Users see
    /// such a schedule as one load without cycles.
    pub fn is_endless(&self) -> bool {
        let is_repeated_forever = match self.cycles {
            Cycles::BackToBack { repeat, .. } => repeat == Repeat::Forever,
            Cycles::WallClock(_) => true,
            Cycles::Cron(..) => false,
        };
        is_repeated_forever && self.active.is_none() && self.schedule.phases().len() == 1
    }

    /// The number of cron firings that were skipped because the cycles of an earlier cron firing
    /// still ran, or because a step of the wall clock passed over them.
    pub fn skipped_firings(&self) -> u64 {
        self.firings.skipped
    }

    /// Returns true if the wall clock decides when segments begin or end within a cycle.
    pub fn places_segments_by_wall_clock(&self) -> bool {
        self.active.is_some() || matches!(self.cycles, Cycles::WallClock(_))
    }

    /// Continues at the new time after a step of the wall clock. Call this after the driver has
    /// left a segment that the wall clock places. `is_running` is true if the driver stays in the
    /// current segment.
    pub fn follow_clock_step(
        &mut self,
        step: ClockStep,
        is_running: bool,
    ) -> Option<FiringsAfterStep> {
        match self.cycles.clone() {
            Cycles::BackToBack { .. } => None,
            // If somebody sets the clock back, its times repeat. So the arrivals of these times are
            // due again, and the last cycle does not matter.
            Cycles::WallClock(_) => {
                self.last_cycle = None;
                None
            }
            Cycles::Cron(cron, repeat) => self.step_cron(&cron, repeat, step, is_running),
        }
    }

    /// Returns true if the next entry starts a cycle and the driver can postpone it until the
    /// target is ready. A schedule of one endless phase is cut into cycles only for the
    /// computation. Users never see these cycles, so the driver must not postpone them.
    pub fn can_be_postponed(&self) -> bool {
        let is_at_start = self.last_cycle.is_none_or(|last| last.completed);
        is_at_start
            && !self.is_endless()
            && matches!(self.cycles, Cycles::BackToBack { when_ready: true, .. })
    }

    /// Records that the driver has left a segment. `completed` is false if it left the segment
    /// before its end, for example for a manual override.
    pub fn leave_segment(&mut self, segment: Segment, completed: bool) {
        if let Some(last) = &mut self.last_cycle {
            // A `requests` phase stops the schedule clock, so the start of the cycle moves later.
            last.start = segment.cycle_start;
            last.completed = completed && segment.until_offset >= last.length;
        }
    }

    /// Returns the entry that begins at `at`, which is the end of the previous entry.
    pub fn next_entry(&mut self, at: Moment) -> TimetableEntry {
        self.firings.search_from(at.wall);
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

    /// The entry for [`Cycles::BackToBack`]. The first cycle starts at `at`.
    fn back_to_back_entry(&mut self, repeat: Repeat, at: Instant) -> TimetableEntry {
        let length = self.schedule.length();
        let (number, start, after_offset) = match self.last_cycle {
            None => (0, at, None),
            Some(last) if last.completed || length.is_zero() => (last.number + 1, at, None),
            Some(last) => {
                // Cycles continue to pass while an active window is closed or a manual override
                // replaces the schedule.
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

    /// The entry for [`Cycles::WallClock`].
    fn wall_clock_entry(&mut self, anchor: &Anchor, at: Moment) -> TimetableEntry {
        let cycle = anchor.cycle_at(self.schedule.length(), at.wall);
        let (start, end) = (at.instant_at(cycle.start), at.instant_at(cycle.end));
        let after_offset = match self.last_cycle {
            // The wall clock was set back into a cycle that has ended, by so little that it is not
            // a step. The scenario waits for the end of that cycle, because otherwise it would send
            // the arrivals of that cycle twice.
            Some(last)
                if cycle.number < last.number
                    || (cycle.number == last.number && last.completed) =>
            {
                return TimetableEntry::IdleUntil(end.max(at.instant));
            }
            // The previous cycle ran to its end, and this cycle started a moment ago. The segment
            // begins at the start of the cycle, so the arrivals since then are sent late instead of
            // being skipped.
            Some(last) if last.completed && at.instant <= start + START_TOLERANCE => None,
            // The wall clock was set back a little within the cycle, or the cycle continues after
            // an interruption. Earlier arrivals have been sent, so the segment begins at `at`.
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
