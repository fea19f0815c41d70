//! The cycles that cron firings start, and the effect of a clock step on them.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{ClockStep, Moment, START_TOLERANCE, Timetable, TimetableEntry};
use crate::calendar::Cron;
use crate::pacer::Segment;
use crate::schedule::Repeat;

/// If a clock step passes over a firing by less than this time, the cycles of the firing begin at
/// the step. A cron has a resolution of one minute.
const LATEST_START: Duration = Duration::from_mins(1);
/// After a step back, fixed times do not fire again up to the latest firing, if it is at most this
/// long after the new time. A larger step probably corrects a wrong clock. Vixie cron uses the same
/// limit.
const LARGEST_REPEATED_TIME: Duration = Duration::from_hours(3);
/// A machine that starts in 1970 passes over millions of firings when its clock is set. llmload
/// counts at most this number.
const MAX_COUNTED: u64 = 1000;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Firings {
    /// Only firings after this time count. The first call of [`Timetable::next_entry`] sets it.
    searched_until: Option<SystemTime>,
    /// The latest firing that started cycles, or that was skipped because cycles ran.
    latest: Option<SystemTime>,
    /// A firing that a clock step passed over. Its cycles begin at the instant of the step.
    passed_over: Option<(SystemTime, Instant)>,
    pub(super) skipped: u64,
}

/// The effect of a clock step on cron firings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiringsAfterStep {
    /// A step forward skipped at least `count` firings.
    Skipped { count: u64, first: SystemTime },
    /// After a step back, firings up to this time do not take place again.
    NotRepeatedUntil(SystemTime),
}

impl Firings {
    /// Firings after the first call count, even if the first window opens later.
    pub(super) fn search_from(&mut self, wall: SystemTime) {
        self.searched_until.get_or_insert(wall);
    }

    fn next(&self, cron: &Cron) -> Option<SystemTime> {
        self.searched_until.and_then(|last| cron.next_after(last))
    }

    fn take(&mut self, firing: SystemTime) {
        (self.searched_until, self.latest) = (Some(firing), Some(firing));
    }

    /// Skips the firings before `end`, while earlier cycles ran.
    fn skip_before(&mut self, cron: &Cron, end: SystemTime) {
        while let Some(firing) = self.next(cron)
            && firing < end
        {
            self.skipped += 1;
            self.take(firing);
        }
    }

    /// Skips the firings that a step forward passed over. If the last one is recent and no cycle
    /// runs, its cycles begin at the step.
    fn pass_over(&mut self, cron: &Cron, at: Moment, is_running: bool) -> Option<FiringsAfterStep> {
        let latest_start = at.wall - LATEST_START;
        let (mut count, mut first) = (0, None);
        while let Some(firing) = self.next(cron)
            && firing <= latest_start
            && count < MAX_COUNTED
        {
            count += 1;
            first = first.or(Some(firing));
            self.searched_until = Some(firing);
        }
        self.skipped += count;
        self.searched_until = self.searched_until.max(Some(latest_start));
        let recent = self.next(cron).filter(|firing| *firing <= at.wall && !is_running);
        self.passed_over = recent.map(|firing| (firing, at.instant));
        first.map(|first| FiringsAfterStep::Skipped { count, first })
    }

    /// Continues at the new time after a step back.
    fn go_back(&mut self, cron: &Cron, wall: SystemTime) -> Option<FiringsAfterStep> {
        // An expression with a wildcard fires again, as in the repeated hour at the end of daylight
        // saving time.
        let done = self.latest.filter(|done| {
            cron.has_fixed_times()
                && done
                    .duration_since(wall)
                    .is_ok_and(|ahead| !ahead.is_zero() && ahead <= LARGEST_REPEATED_TIME)
        });
        self.searched_until = Some(done.unwrap_or(wall));
        self.passed_over = None;
        done.map(FiringsAfterStep::NotRepeatedUntil)
    }
}

impl Timetable {
    /// The entry for [`super::Cycles::Cron`].
    pub(super) fn cron_entry(&mut self, cron: &Cron, repeat: Repeat, at: Moment) -> TimetableEntry {
        loop {
            if let Some(last) = self.last_cycle {
                let running = self.back_to_back_entry(repeat, at.instant);
                if let TimetableEntry::Active(_) = running {
                    return running;
                }
                self.last_cycle = None;
                // During an override or a closed window, the cycles can end before `at`. A firing
                // after their end met no running cycle, so it is not skipped.
                let ended = at.wall_at(self.end_of_cycles(last, repeat)).min(at.wall);
                self.firings.skip_before(cron, ended);
            }
            let Some(firing) = self.firings.next(cron) else { return TimetableEntry::Ended };
            let Ok(mut past) = at.wall.duration_since(firing) else {
                return TimetableEntry::IdleUntil(at.instant_at(firing));
            };
            self.firings.take(firing);
            if let Some((passed_over, began)) = self.firings.passed_over.take()
                && passed_over == firing
            {
                past = at.instant.saturating_duration_since(began);
            }
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
            // The cron fired during an override or a closed window. The next iteration returns its
            // remaining cycles.
        }
    }

    /// Searches from the new wall time. Running cycles continue.
    pub(super) fn step_cron(
        &mut self,
        cron: &Cron,
        repeat: Repeat,
        step: ClockStep,
        is_running: bool,
    ) -> Option<FiringsAfterStep> {
        self.firings.searched_until?;
        // Firings before the step belong to the old time, even if the driver has not looked for
        // them yet.
        let is_running = is_running
            || matches!(self.cron_entry(cron, repeat, step.before), TimetableEntry::Active(_));
        if is_running {
            self.firings.skip_before(cron, step.before.wall);
        }
        if step.is_forward() {
            self.firings.pass_over(cron, step.after, is_running)
        } else {
            self.firings.go_back(cron, step.after.wall)
        }
    }

    /// The end of all cycles of a cron firing. `last` is one of them.
    fn end_of_cycles(&self, last: super::LastCycle, repeat: Repeat) -> Instant {
        let remaining = match repeat {
            Repeat::Times(times) => u64::from(times.get()).saturating_sub(last.number),
            Repeat::Forever => u64::MAX,
        };
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        let length = self.schedule.length().saturating_mul(remaining);
        // `requests` phases have no length in time, so the length can be 0.
        last.start.checked_add(length.max(last.length)).unwrap_or(last.start)
    }
}
