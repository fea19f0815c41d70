//! Which part of a schedule is on at which time ahead: the daemon's own timetable, walked through
//! beforehand, so that the two cannot disagree.
//!
//! Cycles may be a millisecond long, so those that follow one another unchanged are one [`Run`], found by
//! asking the timetable ahead and not by counting through.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::pacer::Segment;
use crate::plan::Scenario;
use crate::schedule::Repeat;
use crate::timetable::{Moment, Timetable, TimetableEntry};

/// Cycles that follow one another, each from its beginning to its end but for the first, which may be
/// joined in its midst, and the last, which may be cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// From when on.
    pub begin: Duration,
    /// Until when.
    pub end: Duration,
    /// The number of the first cycle.
    pub cycle: u64,
    /// The time of that cycle as it is joined.
    pub from: Duration,
    /// What was due up to this time of it is not sent any more.
    pub after: Option<Duration>,
    /// How many cycles begin in it; of a schedule without length, how many are gone through.
    pub cycles: u64,
}

/// What is on in the time ahead, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Itinerary {
    /// When something is.
    pub runs: Vec<Run>,
    /// Whether nothing comes after them.
    pub is_over: bool,
    /// Firings of a cron that come while its schedule is on.
    pub skipped: u64,
}

impl Itinerary {
    /// What is on from `now` on, if the target is ready.
    pub fn of(scenario: &Scenario, now: SystemTime, ahead: Duration) -> Itinerary {
        // Any instant will do: all others are told from it.
        let origin = Moment { instant: Instant::now(), wall: now };
        let once = Scenario { repeat: Repeat::Times(NonZeroU32::MIN), ..scenario.clone() };
        // Of a schedule without length, all cycles together are as short as one.
        let is_instant = scenario.schedule.length().is_zero() && scenario.repeat != Repeat::Forever;
        let timetable = Timetable::for_scenario(if is_instant { &once } else { scenario });
        let mut walk = Walk { scenario, origin, ahead, timetable };
        let (mut itinerary, mut at) = (Itinerary::default(), Duration::ZERO);
        while at < ahead {
            match walk.timetable.next_entry(moment(origin, at)) {
                TimetableEntry::Ended => {
                    itinerary.is_over = true;
                    break;
                }
                TimetableEntry::IdleUntil(until) => {
                    let until = until.saturating_duration_since(origin.instant);
                    at = until.max(at + Duration::from_nanos(1));
                }
                TimetableEntry::Active(segment) => {
                    let run = walk.run(at, segment);
                    at = run.end;
                    itinerary.runs.push(Run { end: run.end.min(ahead), ..run });
                }
            }
        }
        itinerary.skipped = walk.timetable.skipped_firings();
        itinerary
    }

    /// When the last of it ends.
    pub fn end(&self) -> Duration {
        self.runs.last().map_or(Duration::ZERO, |run| run.end)
    }

    /// For how long something is on.
    pub fn on(&self) -> Duration {
        self.runs.iter().map(|run| run.end.saturating_sub(run.begin)).sum()
    }
}

fn moment(origin: Moment, at: Duration) -> Moment {
    Moment { instant: origin.instant + at, wall: origin.wall + at }
}

struct Walk<'a> {
    scenario: &'a Scenario,
    origin: Moment,
    ahead: Duration,
    timetable: Timetable,
}

impl Walk<'_> {
    /// Goes through a stretch, and through all that follow it as if nothing had happened.
    fn run(&mut self, at: Duration, segment: Segment) -> Run {
        let length = self.scenario.schedule.length();
        let from = (self.origin.instant + at).saturating_duration_since(segment.start);
        let run =
            Run { begin: at, end: at, cycle: segment.cycle, from, after: segment.after, cycles: 1 };
        if length.is_zero() {
            self.timetable.leave_segment(segment, true);
            return match self.scenario.repeat {
                Repeat::Forever => Run { end: self.interrupted(at), cycles: 0, ..run },
                Repeat::Times(times) => Run { cycles: times.get().into(), ..run },
            };
        }
        let cycles = self.cycles(at, segment, length);
        let mut last = segment;
        if cycles > 1 {
            self.timetable.leave_segment(segment, false);
            if let TimetableEntry::Active(found) =
                self.timetable.next_entry(self.start_of(segment, cycles - 1, length))
            {
                last = found;
            }
        }
        self.timetable.leave_segment(last, true);
        let end = (last.start + last.until).saturating_duration_since(self.origin.instant);
        Run { end: end.max(at + Duration::from_nanos(1)), cycles, ..run }
    }

    /// How many cycles follow one another: as many as the timetable says stand where the first would
    /// lead to, with nothing between them.
    fn cycles(&self, at: Duration, first: Segment, length: Duration) -> u64 {
        if first.until < length {
            return 1;
        }
        let until = self.origin.instant + self.interrupted(at);
        let room =
            until.saturating_duration_since(first.start).as_nanos().div_ceil(length.as_nanos());
        let (mut some, mut too_many) =
            (1, u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1));
        while too_many - some > 1 {
            let middle = some + (too_many - some) / 2;
            let start = self.start_of(first, middle - 1, length);
            let mut ahead = self.timetable.clone();
            ahead.leave_segment(first, false);
            let follows = matches!(ahead.next_entry(start), TimetableEntry::Active(segment)
                if (segment.start, segment.until) == (start.instant, length)
                    && segment.cycle.checked_sub(first.cycle) == Some(middle - 1));
            *(if follows { &mut some } else { &mut too_many }) = middle;
        }
        some
    }

    /// So many cycles after the beginning of this one.
    fn start_of(&self, first: Segment, cycles: u64, length: Duration) -> Moment {
        let instant =
            first.start + Duration::from_nanos_u128(length.as_nanos() * u128::from(cycles));
        Moment { instant, wall: self.origin.wall_at(instant) }
    }

    /// When the window that is open closes, or the time ahead ends.
    fn interrupted(&self, at: Duration) -> Duration {
        let wall = self.origin.wall + at;
        let change = self.scenario.active.as_ref().and_then(|windows| windows.state_at(wall).1);
        let closes = change.and_then(|change| change.duration_since(self.origin.wall).ok());
        closes.map_or(self.ahead, |closes| closes.min(self.ahead))
    }
}
