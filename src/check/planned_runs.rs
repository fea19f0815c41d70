//! Finds the times at which a schedule will run. The daemon uses the same timetable, so it agrees
//! with the forecast.
//!
//! A cycle can be a millisecond long, so a day can have millions of cycles. This module does not
//! visit each one. Cycles without a gap between them form a [`CycleRun`], and a binary search in
//! the timetable finds its last cycle.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::pacer::Segment;
use crate::plan::{Plan, Scenario};
use crate::schedule::Repeat;
use crate::timetable::{Moment, Timetable, TimetableEntry};

/// Consecutive cycles without a gap. A run can begin and end in the middle of a cycle. All times
/// are from the start of the forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CycleRun {
    pub begin: Duration,
    pub end: Duration,
    /// The number of the first cycle.
    pub cycle: u64,
    /// The offset in the first cycle at which the run begins.
    pub from: Duration,
    /// The run does not send the arrivals up to this offset in the first cycle.
    pub after: Option<Duration>,
    /// The number of cycles, or of passes through a schedule of length zero.
    pub cycles: u64,
}

/// All runs of a scenario during the forecast, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlannedRuns {
    pub runs: Vec<CycleRun>,
    /// True if the last run ends the schedule.
    pub is_complete: bool,
    /// The cron firings that llmload skips, because the schedule is still running.
    pub skipped: u64,
}

impl PlannedRuns {
    /// Finds the runs of all scenarios between `now` and `now + horizon`, if all targets are ready.
    /// A scenario with `after` can start later than this forecast, which does not wait for requests
    /// in flight.
    pub fn of_plan(plan: &Plan, now: SystemTime, horizon: Duration) -> Vec<PlannedRuns> {
        let predecessors = plan.predecessors();
        let mut found: Vec<Option<PlannedRuns>> = vec![None; plan.scenarios.len()];
        for index in 0..found.len() {
            let mut chain = vec![index];
            while let Some(before) = chain.last().and_then(|last| predecessors[*last])
                && found[before].is_none()
            {
                chain.push(before);
            }
            while let Some(index) = chain.pop() {
                let start = match predecessors[index].map(|before| &found[before]) {
                    None => Some(Duration::ZERO),
                    Some(before) => {
                        before.as_ref().filter(|before| before.is_complete).map(PlannedRuns::end)
                    }
                };
                let scenario = &plan.scenarios[index];
                found[index] = Some(start.map_or_else(PlannedRuns::default, |start| {
                    PlannedRuns::new(scenario, now, start, horizon)
                }));
            }
        }
        found.into_iter().flatten().collect()
    }

    /// Finds the runs of a scenario that starts at `now + start`.
    fn new(
        scenario: &Scenario,
        now: SystemTime,
        start: Duration,
        horizon: Duration,
    ) -> PlannedRuns {
        // Any instant can be the origin: all others are relative to it.
        let origin = Moment { instant: Instant::now(), wall: now };
        let once = Scenario { repeat: Repeat::Times(NonZeroU32::MIN), ..scenario.clone() };
        // All cycles of a schedule of length zero are at one instant, so the loop needs only the
        // first.
        let is_instant = scenario.schedule.length().is_zero() && scenario.repeat != Repeat::Forever;
        let timetable = Timetable::for_scenario(if is_instant { &once } else { scenario });
        let mut walk = TimetableWalk { scenario, origin, horizon, timetable };
        let (mut planned, mut at) = (PlannedRuns::default(), start);
        while at < horizon {
            match walk.timetable.next_entry(moment(origin, at)) {
                TimetableEntry::Ended => {
                    planned.is_complete = true;
                    break;
                }
                TimetableEntry::IdleUntil(until) => {
                    let until = until.saturating_duration_since(origin.instant);
                    at = until.max(at + Duration::from_nanos(1));
                }
                TimetableEntry::Active(segment) => {
                    let run = walk.run(at, segment);
                    at = run.end;
                    planned.runs.push(CycleRun { end: run.end.min(horizon), ..run });
                }
            }
        }
        planned.skipped = walk.timetable.skipped_firings();
        planned
    }

    pub fn end(&self) -> Duration {
        self.runs.last().map_or(Duration::ZERO, |run| run.end)
    }

    pub fn active_time(&self) -> Duration {
        self.runs.iter().map(|run| run.end.saturating_sub(run.begin)).sum()
    }
}

fn moment(origin: Moment, at: Duration) -> Moment {
    Moment { instant: origin.instant + at, wall: origin.wall + at }
}

struct TimetableWalk<'a> {
    scenario: &'a Scenario,
    origin: Moment,
    horizon: Duration,
    timetable: Timetable,
}

impl TimetableWalk<'_> {
    /// Returns the run that begins with this segment, and includes all segments that follow without
    /// a gap.
    fn run(&mut self, at: Duration, segment: Segment) -> CycleRun {
        let length = self.scenario.schedule.length();
        let from = (self.origin.instant + at).saturating_duration_since(segment.cycle_start);
        let run = CycleRun {
            begin: at,
            end: at,
            cycle: segment.cycle,
            from,
            after: segment.after_offset,
            cycles: 1,
        };
        if length.is_zero() {
            self.timetable.leave_segment(segment, true);
            return match self.scenario.repeat {
                Repeat::Forever => CycleRun { end: self.next_interruption(at), cycles: 0, ..run },
                Repeat::Times(times) => CycleRun { cycles: times.get().into(), ..run },
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
        let end =
            (last.cycle_start + last.until_offset).saturating_duration_since(self.origin.instant);
        CycleRun { end: end.max(at + Duration::from_nanos(1)), cycles, ..run }
    }

    /// Returns the number of consecutive cycles, by a binary search: n cycles are consecutive if
    /// the last one begins exactly n − 1 cycle lengths after the first.
    fn cycles(&self, at: Duration, first: Segment, length: Duration) -> u64 {
        if first.until_offset < length {
            return 1;
        }
        let until = self.origin.instant + self.next_interruption(at);
        let room = until
            .saturating_duration_since(first.cycle_start)
            .as_nanos()
            .div_ceil(length.as_nanos());
        let (mut enough, mut too_many) =
            (1, u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1));
        while too_many - enough > 1 {
            let middle = enough + (too_many - enough) / 2;
            let start = self.start_of(first, middle - 1, length);
            let mut timetable = self.timetable.clone();
            timetable.leave_segment(first, false);
            let follows = matches!(timetable.next_entry(start), TimetableEntry::Active(segment)
                if (segment.cycle_start, segment.until_offset) == (start.instant, length)
                    && segment.cycle.checked_sub(first.cycle) == Some(middle - 1));
            if follows {
                enough = middle;
            } else {
                too_many = middle;
            }
        }
        enough
    }

    /// Returns the start of the first cycle plus `cycles` cycle lengths.
    fn start_of(&self, first: Segment, cycles: u64, length: Duration) -> Moment {
        let instant =
            first.cycle_start + Duration::from_nanos_u128(length.as_nanos() * u128::from(cycles));
        Moment { instant, wall: self.origin.wall_at(instant) }
    }

    /// Returns the end of the active window, or of the forecast if it is earlier.
    fn next_interruption(&self, at: Duration) -> Duration {
        let wall = self.origin.wall + at;
        let change = self.scenario.active.as_ref().and_then(|windows| windows.state_at(wall).1);
        let closes = change.and_then(|change| change.duration_since(self.origin.wall).ok());
        closes.map_or(self.horizon, |closes| closes.min(self.horizon))
    }
}
