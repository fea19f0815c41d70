//! The two clocks of a machine, and steps of the wall clock.
//!
//! The monotonic clock counts seconds since the start of the machine. The wall clock shows the date
//! and the time. If somebody sets the wall clock, or if the machine was suspended, the difference
//! between the clocks changes at once: a step.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Moment {
    /// Returns the wall time of an instant. The result is correct only if the wall clock does not
    /// step between this moment and the instant.
    pub fn wall_at(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.saturating_duration_since(instant),
        }
    }

    /// Returns the instant of a wall time. The result is correct only if the wall clock does not
    /// step between the two.
    pub fn instant_at(self, wall: SystemTime) -> Instant {
        match wall.duration_since(self.wall) {
            Ok(later) => self.instant + later,
            // The monotonic clock did not exist at that time.
            Err(earlier) => self.instant.checked_sub(earlier.duration()).unwrap_or(self.instant),
        }
    }
}

/// Forward means that the wall clock shows a later time than without the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDirection {
    Forward,
    Backward,
}

impl StepDirection {
    pub const ALL: [StepDirection; 2] = [StepDirection::Forward, StepDirection::Backward];

    pub fn as_str(self) -> &'static str {
        match self {
            StepDirection::Forward => "forward",
            StepDirection::Backward => "backward",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// The last moment before the step.
    pub before: Moment,
    /// The first moment after the step.
    pub after: Moment,
}

impl ClockStep {
    /// A smaller change is not a step. Time services adjust clocks by milliseconds, and a leap
    /// second is a second.
    pub const SMALLEST: Duration = Duration::from_secs(1);

    pub fn extent(self) -> (StepDirection, Duration) {
        let expected = self.before.wall_at(self.after.instant);
        match self.after.wall.duration_since(expected) {
            Ok(size) => (StepDirection::Forward, size),
            Err(error) => (StepDirection::Backward, error.duration()),
        }
    }

    pub fn is_forward(self) -> bool {
        self.extent().0 == StepDirection::Forward
    }

    /// Corrects a wall time from before the step.
    pub fn shift(self, wall: SystemTime) -> SystemTime {
        match self.extent() {
            (StepDirection::Forward, size) => wall + size,
            (StepDirection::Backward, size) => wall - size,
        }
    }
}

/// Finds steps. It compares the difference between the clocks with the difference after the last
/// step, so several small changes add up to a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepDetector {
    /// The latest moment. Its wall time is not the time that the clock showed: it keeps the
    /// difference that was accepted at the last step or, without a step, at the first call.
    latest: Option<Moment>,
}

impl StepDetector {
    /// Returns the step that has happened before `now`. Returns it again until
    /// [`StepDetector::accept`].
    pub fn step_at(&mut self, now: Moment) -> Option<ClockStep> {
        let latest = self.latest.get_or_insert(now);
        let step = ClockStep { before: *latest, after: now };
        if step.extent().1 > ClockStep::SMALLEST {
            return Some(step);
        }
        // The new wall time keeps the old difference. With the wall time of `now`, small changes
        // would never add up.
        *latest = Moment { instant: now.instant, wall: latest.wall_at(now.instant) };
        None
    }

    /// From now on, the difference after this step is the normal one.
    pub fn accept(&mut self, step: ClockStep) {
        self.latest = Some(step.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        Moment { instant: Instant::now(), wall }
    }

    fn later(moment: Moment, instant: Duration, wall: Duration) -> Moment {
        Moment { instant: moment.instant + instant, wall: moment.wall + wall }
    }

    #[test]
    fn a_step_has_a_direction_and_a_size() {
        let start = start();
        let mut steps = StepDetector::default();
        assert_eq!(steps.step_at(start), None);
        assert_eq!(steps.step_at(later(start, 5 * SECOND, 5 * SECOND)), None);
        let forward = steps.step_at(later(start, 7 * SECOND, 107 * SECOND)).unwrap();
        assert_eq!(forward.extent(), (StepDirection::Forward, 100 * SECOND));
        assert_eq!(forward.before, later(start, 5 * SECOND, 5 * SECOND));
        assert_eq!(forward.shift(start.wall), start.wall + 100 * SECOND);
        steps.accept(forward);
        assert_eq!(steps.step_at(later(start, 9 * SECOND, 109 * SECOND)), None);
        let backward = steps.step_at(later(start, 10 * SECOND, 50 * SECOND)).unwrap();
        assert_eq!(backward.extent(), (StepDirection::Backward, 60 * SECOND));
        assert_eq!(backward.shift(start.wall), start.wall - 60 * SECOND);
    }

    #[test]
    fn a_step_is_returned_until_it_is_accepted() {
        let start = start();
        let mut steps = StepDetector::default();
        steps.step_at(start);
        let first = steps.step_at(later(start, SECOND, 11 * SECOND)).unwrap();
        let again = steps.step_at(later(start, 2 * SECOND, 12 * SECOND)).unwrap();
        assert_eq!((first.extent(), first.before), (again.extent(), again.before));
        steps.accept(again);
        assert_eq!(steps.step_at(later(start, 3 * SECOND, 13 * SECOND)), None);
    }

    #[test]
    fn a_suspended_process_and_a_leap_second_are_not_steps() {
        let start = start();
        let mut steps = StepDetector::default();
        steps.step_at(start);
        assert_eq!(steps.step_at(later(start, 600 * SECOND, 600 * SECOND)), None);
        assert_eq!(steps.step_at(later(start, 601 * SECOND, 600 * SECOND)), None);
    }

    #[test]
    fn small_changes_add_up_to_a_step() {
        let start = start();
        let mut steps = StepDetector::default();
        let extents = (0..5_u32).filter_map(|count| {
            let at = later(start, count * SECOND, count * SECOND + count * SECOND * 3 / 10);
            let step = steps.step_at(at)?;
            steps.accept(step);
            Some((count, step.extent()))
        });
        let expected = (4, (StepDirection::Forward, Duration::from_millis(1200)));
        assert_eq!(extents.collect::<Vec<_>>(), [expected]);
    }
}
