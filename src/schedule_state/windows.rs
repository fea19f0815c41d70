//! The windows of the phases of a run: when each phase was on.
//!
//! The windows follow from the plan and from a few facts of the driver: the start of the first
//! cycle, the end of each `requests` phase, and the instant at which the run stopped. No window
//! depends on the instant at which llmload noticed its start or its end. A cycle begins where the
//! cycle before it ends, so an event can be placed before the driver has begun its cycle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::ScheduleState;
use crate::schedule::{Repeat, Schedule};

/// The most windows that are kept. An event is at most some seconds old when it is placed, so it
/// needs only the latest windows.
const MAX_KEPT: usize = 4096;

/// The windows of one scenario in a run. The driver records the facts, and each
/// [`Tally`](crate::tally::Tally) of the scenario reads the windows.
#[derive(Debug)]
pub struct PhaseWindows(Mutex<Windows>);

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The schedule has not begun.
    Before,
    /// The phase with this index in the schedule is on.
    Phase(usize),
    /// The last phase has ended, or the run was stopped.
    Tail,
}

/// One occurrence of a phase. Windows are contiguous.
#[derive(Clone, Copy, Debug)]
struct Window {
    phase: usize,
    start: Instant,
    /// `None` while a `requests` phase or a search runs.
    end: Option<Instant>,
}

/// The first phase that has no window yet.
#[derive(Clone, Copy, Debug)]
struct NextPhase {
    cycle: u64,
    phase: usize,
    start: Instant,
}

#[derive(Debug)]
struct Windows {
    schedule: Arc<Schedule>,
    repeat: Repeat,
    /// The start of the first cycle.
    origin: Option<Instant>,
    kept: VecDeque<Window>,
    /// `None` before the first cycle, and after the last phase.
    next: Option<NextPhase>,
    /// No phase is on at this instant or later.
    limit: Option<Instant>,
}

impl ScheduleState {
    /// Records the windows of the phases too.
    #[must_use]
    pub fn with_windows(mut self, windows: Arc<PhaseWindows>) -> ScheduleState {
        self.windows = Some(windows);
        self
    }

    /// Returns the windows of the phases; `None` in a daemon.
    pub fn windows(&self) -> Option<&Arc<PhaseWindows>> {
        self.windows.as_ref()
    }
}

impl PhaseWindows {
    pub fn new(schedule: Arc<Schedule>, repeat: Repeat) -> PhaseWindows {
        PhaseWindows(Mutex::new(Windows {
            schedule,
            repeat,
            origin: None,
            kept: VecDeque::new(),
            next: None,
            limit: None,
        }))
    }

    /// Records the start of the first cycle. Later calls have no effect.
    pub fn begin(&self, at: Instant) {
        let mut windows = self.lock();
        if windows.origin.is_none() {
            windows.origin = Some(at);
            windows.next = Some(NextPhase { cycle: 0, phase: 0, start: at });
        }
    }

    /// Records that the current `requests` phase has ended.
    pub fn end_counted_phase(&self, at: Instant) {
        self.lock().end_counted_phase(at);
    }

    /// Records that no phase is on at this instant or later, because the run has reached its time
    /// limit or was stopped. An earlier limit stays in effect.
    pub fn limit(&self, at: Instant) {
        self.lock().limit(at);
    }

    /// Returns the start of the first cycle.
    pub fn origin(&self) -> Option<Instant> {
        self.lock().origin
    }

    /// Returns the place of an instant.
    pub fn place(&self, at: Instant) -> Place {
        self.lock().place(at)
    }

    /// Returns the end of the last window that ends at `at` or earlier.
    pub fn end_before(&self, at: Instant) -> Option<Instant> {
        let windows = self.lock();
        let ends = windows.kept.iter().rev().filter_map(|window| windows.end_of(*window));
        ends.into_iter().find(|end| *end <= at)
    }

    /// Passes each part of the time from `from` to `to` to `visit`, in the order of time. The time
    /// before the first window is left out.
    pub fn visit(&self, from: Instant, to: Instant, visit: impl FnMut(Place, Instant, Instant)) {
        self.lock().visit(from, to, visit);
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    /// Adds all windows that begin at `to` or earlier, as far as they are known.
    fn extend(&mut self, to: Instant) {
        while let Some(NextPhase { cycle, phase, start }) = self.next
            && start <= to
            && self.kept.back().is_none_or(|last| last.end.is_some())
        {
            let is_over = self.limit.is_some_and(|limit| start >= limit);
            let Some(next) = self
                .schedule
                .phases()
                .get(phase)
                .filter(|_| !is_over && self.repeat.includes(cycle))
            else {
                self.next = None;
                return;
            };
            let end = next.load.is_timed().then(|| start + next.length);
            let is_last = phase + 1 == self.schedule.phases().len();
            let (cycle, phase_after) = if is_last { (cycle + 1, 0) } else { (cycle, phase + 1) };
            let after = end.unwrap_or(start);
            self.next = Some(NextPhase { cycle, phase: phase_after, start: after });
            let end = end.map(|end| self.limit.map_or(end, |limit| end.min(limit)));
            self.kept.push_back(Window { phase, start, end });
            if self.kept.len() > MAX_KEPT {
                self.kept.pop_front();
            }
        }
    }

    fn end_counted_phase(&mut self, at: Instant) {
        self.extend(at);
        if let (Some(last), Some(next)) = (self.kept.back_mut(), &mut self.next)
            && last.end.is_none()
        {
            let end = self.limit.map_or(at, |limit| at.min(limit)).max(last.start);
            last.end = Some(end);
            next.start = end;
        }
    }

    fn limit(&mut self, at: Instant) {
        self.extend(at);
        let limit = self.limit.map_or(at, |limit| limit.min(at));
        self.limit = Some(limit);
        while self.kept.back().is_some_and(|last| last.start >= limit) {
            self.kept.pop_back();
        }
        // A time limit is in the future, so a `requests` phase that runs can still end before it.
        if let Some(last) = self.kept.back_mut() {
            last.end = last.end.map(|end| end.min(limit));
        }
    }

    /// Returns the end of a window. A `requests` phase that runs ends at the limit at the latest.
    fn end_of(&self, window: Window) -> Option<Instant> {
        window.end.or(self.limit)
    }

    fn place(&mut self, at: Instant) -> Place {
        self.extend(at);
        let index = self.kept.partition_point(|window| window.start <= at);
        let Some(window) = index.checked_sub(1).and_then(|index| self.kept.get(index)).copied()
        else {
            // An instant before the kept windows is in the first of them rather than nowhere.
            return match self.kept.front() {
                Some(first) if Some(first.start) != self.origin => Place::Phase(first.phase),
                _ => Place::Before,
            };
        };
        match self.end_of(window) {
            Some(end) if end <= at => Place::Tail,
            _ => Place::Phase(window.phase),
        }
    }

    fn visit(
        &mut self,
        from: Instant,
        to: Instant,
        mut visit: impl FnMut(Place, Instant, Instant),
    ) {
        self.extend(to);
        let first = self.kept.partition_point(|window| window.start <= from).saturating_sub(1);
        let mut end_of_last = None;
        for window in self.kept.range(first.min(self.kept.len())..) {
            let end = self.end_of(*window);
            end_of_last = end;
            let (begin, end) = (window.start.max(from), end.map_or(to, |end| end.min(to)));
            if begin < end {
                visit(Place::Phase(window.phase), begin, end);
            }
        }
        if let Some(end) = end_of_last.map(|end| end.max(from))
            && end < to
        {
            visit(Place::Tail, end, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};
    use std::time::Duration;

    use super::*;
    use crate::schedule::{Load, Phase};

    fn phase(name: &str, load: Load, seconds: u64) -> Phase {
        Phase { name: name.to_owned(), load, length: Duration::from_secs(seconds) }
    }

    fn counted(name: &str) -> Phase {
        let (slots, count) = (NonZeroU32::MIN, NonZeroU64::MIN);
        phase(name, Load::Requests { slots, count }, 0)
    }

    fn windows(phases: Vec<Phase>, repeat: u32) -> PhaseWindows {
        let repeat = NonZeroU32::new(repeat).map_or(Repeat::Forever, Repeat::Times);
        PhaseWindows::new(Arc::new(Schedule::new(phases)), repeat)
    }

    /// Each part of the time until `to` seconds: its place, and its start and end in seconds.
    fn parts(windows: &PhaseWindows, origin: Instant, to: u64) -> Vec<(Place, u64, u64)> {
        let mut parts = Vec::new();
        windows.visit(origin, origin + Duration::from_secs(to), |place, from, to| {
            parts.push((place, (from - origin).as_secs(), (to - origin).as_secs()));
        });
        parts
    }

    #[test]
    fn the_windows_of_timed_phases_follow_from_the_start_of_the_first_cycle() {
        let windows = windows(vec![phase("a", Load::Pause, 2), phase("b", Load::Pause, 3)], 2);
        let origin = Instant::now();
        assert_eq!(windows.place(origin), Place::Before);
        windows.begin(origin);
        windows.begin(origin + Duration::from_secs(1));
        let places = [0, 2, 4, 5, 9, 10].map(|s| windows.place(origin + Duration::from_secs(s)));
        let [a, b] = [0, 1].map(Place::Phase);
        assert_eq!(places, [a, b, b, a, b, Place::Tail]);
        assert_eq!(
            parts(&windows, origin, 12),
            [(a, 0, 2), (b, 2, 5), (a, 5, 7), (b, 7, 10), (Place::Tail, 10, 12)]
        );
    }

    #[test]
    fn a_requests_phase_is_on_until_the_driver_has_ended_it() {
        let phases = vec![counted("a"), phase("b", Load::Pause, 3), counted("c")];
        let (windows, origin) = (windows(phases, 1), Instant::now());
        let at = |second| origin + Duration::from_secs(second);
        let [a, b, c] = [0, 1, 2].map(Place::Phase);
        windows.begin(origin);
        assert_eq!(windows.place(at(6)), a);
        windows.end_counted_phase(at(7));
        assert_eq!([6, 7, 10, 99].map(|second| windows.place(at(second))), [a, b, c, c]);
        windows.end_counted_phase(at(12));
        assert_eq!(
            parts(&windows, origin, 20),
            [(a, 0, 7), (b, 7, 10), (c, 10, 12), (Place::Tail, 12, 20)]
        );
    }

    #[test]
    fn a_limit_cuts_the_windows_and_an_earlier_limit_stays() {
        let (windows, origin) = (windows(vec![phase("a", Load::Pause, 2)], 0), Instant::now());
        let at = |second| origin + Duration::from_secs(second);
        windows.limit(at(5));
        windows.begin(origin);
        let a = Place::Phase(0);
        assert_eq!(
            parts(&windows, origin, 9),
            [(a, 0, 2), (a, 2, 4), (a, 4, 5), (Place::Tail, 5, 9)]
        );
        windows.limit(at(3));
        windows.limit(at(8));
        assert_eq!(parts(&windows, origin, 9), [(a, 0, 2), (a, 2, 3), (Place::Tail, 3, 9)]);
        assert_eq!(windows.place(at(3)), Place::Tail);
    }

    #[test]
    fn a_limit_ends_a_requests_phase_that_runs() {
        let (windows, origin) = (windows(vec![counted("a")], 1), Instant::now());
        windows.begin(origin);
        windows.limit(origin + Duration::from_secs(3));
        let parts = parts(&windows, origin, 4);
        assert_eq!(parts, [(Place::Phase(0), 0, 3), (Place::Tail, 3, 4)]);
    }

    #[test]
    fn the_number_of_kept_windows_is_bounded() {
        let (windows, origin) = (windows(vec![phase("a", Load::Pause, 1)], 0), Instant::now());
        windows.begin(origin);
        assert_eq!(windows.place(origin + Duration::from_secs(100_000)), Place::Phase(0));
        assert_eq!(windows.lock().kept.len(), MAX_KEPT);
        assert_eq!(windows.place(origin), Place::Phase(0));
    }
}
