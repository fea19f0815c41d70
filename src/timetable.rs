//! The timetable of a scenario: when cycles start, and when the scenario is idle.
//!
//! The driver, which sends the arrivals, requests one entry after another from a [`Timetable`]. An
//! entry is a segment (an uninterrupted part of a cycle), an idle time, or the end. Each entry
//! begins where the previous one ended, even if the driver calls late. So no arrival is lost
//! between two entries.
//!
//! A schedule can follow the wall clock. Then the time of this clock determines the position in the
//! cycle at the start of each segment. After a step of the wall clock, the driver calls
//! [`Timetable::follow_clock_step`], and the schedule continues at the new time.

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

/// A cycle that started at most this long ago keeps all its arrivals. The driver is always a little
/// late, and time synchronisation moves the wall clock by milliseconds.
const START_TOLERANCE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub enum Cycles {
    /// The first cycle starts at once, and each further cycle at the end of the previous one.
    BackToBack {
        repeat: Repeat,
        /// True if each cycle waits for the target.
        when_ready: bool,
    },
    /// The wall clock decides the start of each cycle. The cycles never end.
    WallClock(Anchor),
    /// Each cron firing starts this number of cycles. A cron firing during these cycles is skipped.
    Cron(Cron, Repeat),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimetableEntry {
    Active(Segment),
    IdleUntil(Instant),
    Ended,
}

#[derive(Clone, Debug)]
pub struct Timetable {
    schedule: Arc<Schedule>,
    cycles: Cycles,
    active: Option<Windows>,
    /// The cycle of the latest segment.
    last_cycle: Option<LastCycle>,
    firings: Firings,
}

#[derive(Clone, Copy, Debug)]
struct LastCycle {
    number: u64,
    start: Instant,
    /// The length of the cycle, even if an active window or a command ends its segment earlier.
    length: Duration,
    completed: bool,
}

impl Timetable {
    pub fn new(schedule: Arc<Schedule>, cycles: Cycles, active: Option<Windows>) -> Timetable {
        Timetable { schedule, cycles, active, last_cycle: None, firings: Firings::default() }
    }

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

    /// The cause of idle times as a noun, such as `its cron`. `None` if the scenario is never idle.
    pub fn idle_cause(&self) -> Option<&'static str> {
        match (&self.cycles, &self.active) {
            (Cycles::Cron(..), Some(_)) => Some("its cron and its active windows"),
            (Cycles::Cron(..), None) => Some("its cron"),
            (_, Some(_)) => Some("its active windows"),
            (_, None) => None,
        }
    }

    /// Returns true if the schedule is one phase that repeats forever, so users see no cycles.
    pub fn is_endless(&self) -> bool {
        let is_repeated_forever = match self.cycles {
            Cycles::BackToBack { repeat, .. } => repeat == Repeat::Forever,
            Cycles::WallClock(_) => true,
            Cycles::Cron(..) => false,
        };
        is_repeated_forever && self.active.is_none() && self.schedule.phases().len() == 1
    }

    /// The number of cron firings that started no cycles. Either earlier cycles still ran, or a
    /// step of the wall clock passed over the firing.
    pub fn skipped_firings(&self) -> u64 {
        self.firings.skipped
    }

    /// Returns true if the wall clock can begin or end a segment within a cycle.
    pub fn places_segments_by_wall_clock(&self) -> bool {
        self.active.is_some() || matches!(self.cycles, Cycles::WallClock(_))
    }

    /// Continues at the new time after a step of the wall clock. If
    /// [`Timetable::places_segments_by_wall_clock`] is true, the driver must leave its segment
    /// first, unless a `requests` phase runs. `is_running` is true if the driver is still in a
    /// segment.
    pub fn follow_clock_step(
        &mut self,
        step: ClockStep,
        is_running: bool,
    ) -> Option<FiringsAfterStep> {
        match self.cycles.clone() {
            Cycles::BackToBack { .. } => None,
            // After a step back, the clock shows the same times again, and their arrivals are due
            // again.
            Cycles::WallClock(_) => {
                self.last_cycle = None;
                None
            }
            Cycles::Cron(cron, repeat) => self.step_cron(&cron, repeat, step, is_running),
        }
    }

    /// Returns true if the next entry starts a cycle that can wait for the target. The cycles of an
    /// endless phase are internal: users see one cycle, so none of them waits.
    pub fn can_be_postponed(&self) -> bool {
        let is_at_start = self.last_cycle.is_none_or(|last| last.completed);
        is_at_start
            && !self.is_endless()
            && matches!(self.cycles, Cycles::BackToBack { when_ready: true, .. })
    }

    /// Records that the driver has left a segment. `completed` is false if it left early, for
    /// example for a manual override.
    pub fn leave_segment(&mut self, segment: Segment, completed: bool) {
        if let Some(last) = &mut self.last_cycle {
            // Each `requests` phase moves the start of the cycle later: see `Pacer::segment`.
            last.start = segment.cycle_start;
            last.completed = completed && segment.until_offset >= last.length;
        }
    }

    /// Returns the entry that begins at `at`, the end of the previous entry.
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

    /// The entry for [`Cycles::BackToBack`].
    fn back_to_back_entry(&mut self, repeat: Repeat, at: Instant) -> TimetableEntry {
        let length = self.schedule.length();
        let (number, start, after_offset) = match self.last_cycle {
            None => (0, at, None),
            Some(last) if last.completed || length.is_zero() => (last.number + 1, at, None),
            Some(last) => {
                // Cycles also pass during a manual override and while no window is open.
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
            // The wall clock went back into a cycle that has ended, but by too little for a step.
            // The arrivals of this cycle have been sent, so wait for its end.
            Some(last)
                if cycle.number < last.number
                    || (cycle.number == last.number && last.completed) =>
            {
                return TimetableEntry::IdleUntil(end.max(at.instant));
            }
            // The cycle started a moment ago. Begin the segment at the start of the cycle, so that
            // its first arrivals are sent late instead of never.
            Some(last) if last.completed && at.instant <= start + START_TOLERANCE => None,
            // The cycle continues after an interruption, or the wall clock went back a little.
            // Earlier arrivals have been sent, so begin at `at`.
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
