//! The pacer computes the due time of each arrival, which is one planned request.
//!
//! The schedule gives a rate λ(t) in arrivals per second, at the time t after the start of the
//! cycle. A cycle is one pass through the schedule. The integral Λ(t) = ∫₀ᵗ λ(u) du is the expected
//! number of arrivals up to t. Each arrival has a *mark* on the axis of Λ, and is due when Λ(t)
//! reaches the mark. Marks are integers in millionths of an arrival; times are integers in
//! nanoseconds.
//!
//! An example with a rate of 1/s for two seconds and then 2/s for two seconds:
//!
//! ```text
//! λ(t), arrivals/s
//!  2 |                .---------------
//!  1 |----------------'
//!    +----------------+----------------> t, s
//!    0                2                4
//!
//! Λ(t), arrivals
//! 5½ |- - - - - - - - - - - - - - - o         marks: the axis of Λ
//! 4½ |- - - - - - - - - - - - - o   :         due times: the axis of t
//! 3½ |- - - - - - - - - - - o   :   :
//! 2½ |- - - - - - - - - o   :   :   :
//! 1½ |- - - - - - o     :   :   :   :
//!  ½ |- - o       :     :   :   :   :
//!    +----v-------v-----v---v---v---v--> t, s
//!    0   0.5     1.5  2.25  :  3.25 :  4
//!                         2.75    3.75
//! ```
//!
//! The marks of even arrivals are 1 apart, which is 10⁶ millionths. The marks of random arrivals
//! have random distances with a mean of 1. The inverse of Λ turns both kinds into due times.
//!
//! A rate limiter of the crate `governor` permits an arrival when Λ has reached its mark. The clock
//! of this limiter shows Λ(now) instead of the time: see `MarkLimiter`.
//!
//! Three rules keep the arrivals exact, even if the driver calls the pacer late:
//!
//! * The limiter's token bucket starts empty, so a cycle does not begin with a burst.
//! * The limiter's clock is at most one bucket ahead of the last permitted mark. Otherwise, the
//!   bucket would overflow and lose arrivals.
//! * A pacer serves one *segment*, an uninterrupted part of one cycle, with a new limiter. The
//!   marks follow from the number of the cycle, so a pacer needs nothing from the previous pacer.
//!
//! [`Pacer`] never waits and reads no clock. The driver, which sends the arrivals, passes the time.

mod mark_limiter;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::mark_limiter::MarkLimiter;
use crate::schedule::{Area, ArrivalMarks, ArrivalSpec, Lengths, Schedule};

/// The next action of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival is due now, or was due earlier.
    Due {
        due: Instant,
        /// The number of the arrival. All shards share one sequence of numbers.
        k: u64,
        /// The index of the phase in the schedule.
        phase: usize,
        /// Recorded token counts, in a `replay` phase.
        lengths: Option<Lengths>,
    },
    Wait(Instant),
    /// A closed-loop phase is active.
    ClosedLoop {
        phase: usize,
        /// The number of requests to keep in flight.
        slots: NonZeroU32,
        since: Instant,
        until: Instant,
    },
    /// A `requests` phase is active, which is a closed loop that ends after `count` requests. After
    /// the last of them has ended, the driver calls [`Pacer::end_untimed_phase`].
    CountedRequests {
        phase: usize,
        slots: NonZeroU32,
        count: NonZeroU64,
        since: Instant,
    },
    /// A search is active. After the search has ended, the driver calls
    /// [`Pacer::end_untimed_phase`].
    Search {
        phase: usize,
    },
    End(Instant),
}

/// An uninterrupted part of one cycle, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub cycle: u64,
    /// The start of the cycle, which can be before the segment.
    pub cycle_start: Instant,
    /// The segment begins after this offset from the start of the cycle. It excludes arrivals that
    /// are due at this offset. `None` is the start of the cycle, and includes arrivals at offset 0.
    pub after_offset: Option<Duration>,
    /// The segment ends at this offset from the start of the cycle.
    pub until_offset: Duration,
}

impl Segment {
    pub fn full_cycle(schedule: &Schedule, cycle: u64, cycle_start: Instant) -> Segment {
        Segment { cycle, cycle_start, after_offset: None, until_offset: schedule.length() }
    }
}

/// The arrivals of one segment.
///
/// Marks are positions on one axis, in millionths. Position 0 is the last mark of the previous
/// cycle, and this cycle starts at `carry`. In the first cycle, `carry` is a half. If this cycle
/// has 2.7 arrivals, its marks are ½, 1½ and 2½ arrivals after its start, so the next cycle has a
/// `carry` of 0.2. With random arrivals, `carry` is 0.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    segment: Segment,
    carry: Area,
    /// The marks and the numbers of the next arrivals.
    marks: ArrivalMarks,
    /// Every untimed phase with a lower index has ended, or is before the segment.
    first_open: usize,
    limiter: MarkLimiter,
}

/// The next point at which the time of the cycle stops: the end of the segment, or the start of an
/// untimed phase, which is a `requests` phase or a search. During an untimed phase, the time of the
/// cycle does not advance.
struct Barrier {
    /// An offset from the start of the cycle.
    time: Duration,
    /// The value of Λ at `time`.
    area: Area,
    /// `None` at the end of the segment.
    untimed: Option<usize>,
}

impl Pacer {
    pub fn new(schedule: Arc<Schedule>, spec: &ArrivalSpec, segment: Segment) -> Pacer {
        let (earlier, fraction) = schedule.arrivals_before(segment.cycle);
        // Random arrivals depend only on the number of the cycle, so they carry nothing over.
        let carry = if spec.arrivals.is_even() { fraction } else { Area::ZERO };
        let mut limiter = MarkLimiter::new();
        // Arrivals and untimed phases up to the start of the segment are not part of it.
        let (mut after, mut first_open) = (0, 0);
        if let Some(offset) = segment.after_offset {
            after = micro(schedule.area(offset) + carry);
            limiter.start_at(after);
            let has_begun =
                |index: &usize| schedule.phase_span(*index).is_some_and(|span| span.start < offset);
            first_open = (0..schedule.phases().len()).take_while(has_begun).count();
        }
        let marks = ArrivalMarks::new(spec, segment.cycle, earlier, after);
        Pacer { schedule, segment, carry, marks, first_open, limiter }
    }

    /// The segment. Its `cycle_start` moves later during each untimed phase, because the time of
    /// the cycle does not advance then.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// Returns the index of the phase that is active at an instant.
    pub fn phase_at(&self, at: Instant) -> Option<usize> {
        let barrier = self.next_barrier();
        let is_stopped = at >= self.segment.cycle_start + barrier.time;
        let untimed = barrier.untimed.filter(|_| is_stopped);
        let current = || Some(self.schedule.phase_at(self.elapsed(at, &barrier))?.index);
        untimed.or_else(current)
    }

    /// Returns the next action at `now`. After [`Next::Due`], the caller must call again at once,
    /// because the next arrival can be due too.
    pub fn poll(&mut self, now: Instant) -> Next {
        let barrier = self.next_barrier();
        match self.reach_next_mark(now, &barrier) {
            Ok(()) => self.take_arrival(now),
            Err(due) => self
                .closed_loop(now, &barrier)
                .unwrap_or_else(|| self.wait_or_stop(now, due, &barrier)),
        }
    }

    /// Extends the active untimed phase to `now`. The driver calls this when a manual override
    /// interrupts the phase.
    pub fn extend_untimed_phase(&mut self, now: Instant) {
        self.delay_cycle(self.next_barrier().time, now);
    }

    /// Ends the active untimed phase. The time of the cycle advances again from `now`.
    pub fn end_untimed_phase(&mut self, now: Instant) {
        let barrier = self.next_barrier();
        if let Some(index) = barrier.untimed {
            self.first_open = index + 1;
            self.delay_cycle(barrier.time, now);
        }
    }

    /// Moves the start of the cycle later, so that the offset `time` is not before `now`.
    fn delay_cycle(&mut self, time: Duration, now: Instant) {
        self.segment.cycle_start += now.saturating_duration_since(self.segment.cycle_start + time);
    }

    fn next_barrier(&self) -> Barrier {
        let untimed = (self.first_open..self.schedule.phases().len()).find_map(|index| {
            let span = self.schedule.phase_span(index)?;
            (!span.phase.load.is_timed()).then_some((span.start, index))
        });
        let until = self.segment.until_offset;
        match untimed.filter(|(start, _)| *start <= until) {
            Some((time, index)) => {
                let area = self.schedule.area_before(index);
                Barrier { time, area, untimed: Some(index) }
            }
            None => Barrier { time: until, area: self.schedule.area(until), untimed: None },
        }
    }

    /// Gets the limiter's permission for the next mark.
    ///
    /// # Errors
    /// The next mark is not due yet. The error is the instant of the next try, or `None` if the
    /// mark is after the barrier.
    fn reach_next_mark(&mut self, now: Instant, barrier: &Barrier) -> Result<(), Option<Instant>> {
        let mut reading = self.reading(now, barrier);
        loop {
            let Err(wanted) = self.limiter.try_reach(self.marks.position(), reading) else {
                return Ok(());
            };
            let due =
                self.instant_of(wanted).filter(|_| wanted <= micro(barrier.area + self.carry));
            match due {
                // A sine has a floating-point Λ. If the sine is almost flat, rounding can leave
                // Λ(now) a billionth below a mark that is due now. Then the due time decides.
                Some(due) if due <= now => reading = wanted,
                later => return Err(later),
            }
        }
    }

    /// Λ(now) as a position on the axis of the marks, at most the position of the barrier.
    fn reading(&self, now: Instant, barrier: &Barrier) -> u64 {
        let reached = if now < self.segment.cycle_start {
            Area::ZERO
        } else {
            self.schedule.area(self.elapsed(now, barrier)).min(barrier.area)
        };
        micro(reached + self.carry)
    }

    /// The offset of `now` in the cycle, at most the offset of the barrier.
    fn elapsed(&self, now: Instant, barrier: &Barrier) -> Duration {
        now.saturating_duration_since(self.segment.cycle_start).min(barrier.time)
    }

    /// Returns the arrival of the permitted mark, and advances to the next mark.
    fn take_arrival(&mut self, now: Instant) -> Next {
        let (mark, k) = (self.marks.position(), self.marks.number());
        self.marks.advance();
        let due = self.instant_of(mark).unwrap_or(now);
        let area = Area::from_micro(mark) - self.carry;
        let (phase, lengths) = self.schedule.phase_and_lengths(area).unwrap_or_default();
        Next::Due { due, k, phase, lengths }
    }

    fn closed_loop(&self, now: Instant, barrier: &Barrier) -> Option<Next> {
        let Segment { cycle_start: start, after_offset, .. } = self.segment;
        let barrier_at = start + barrier.time;
        if now < start || now >= barrier_at {
            return None;
        }
        let span = self.schedule.phase_at(self.elapsed(now, barrier))?;
        let slots = span.phase.load.timed_slots()?;
        Some(Next::ClosedLoop {
            phase: span.index,
            slots,
            // A segment can begin within the phase, for example after a manual override.
            since: start + span.start.max(after_offset.unwrap_or_default()),
            until: (start + span.end).min(barrier_at),
        })
    }

    /// Returns the `requests` phase of the barrier, or the end of the segment, if `now` has reached
    /// the barrier. Otherwise, returns a wait until the next event.
    fn wait_or_stop(&self, now: Instant, due: Option<Instant>, barrier: &Barrier) -> Next {
        let barrier_at = self.segment.cycle_start + barrier.time;
        let closed_phase = self.next_closed_phase(self.elapsed(now, barrier));
        let wake = [due, closed_phase].into_iter().flatten().fold(barrier_at, Instant::min);
        if now < wake {
            return Next::Wait(wake);
        }
        let Some(phase) = barrier.untimed else { return Next::End(barrier_at) };
        let load = self.schedule.phases().get(phase).map(|phase| &phase.load);
        let counted = load.and_then(|load| Some((load.slots()?, load.count()?)));
        match counted {
            Some((slots, count)) => {
                Next::CountedRequests { phase, slots, count, since: barrier_at }
            }
            None => Next::Search { phase },
        }
    }

    /// The instant at which Λ reaches a mark; `None` if Λ does not reach it in this cycle.
    fn instant_of(&self, mark: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(mark) - self.carry)?;
        Some(self.segment.cycle_start + due)
    }

    /// The start of the next timed closed-loop phase, or of the active one.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let current = self.schedule.phase_at(elapsed)?.index;
        (current..self.schedule.phases().len())
            .filter_map(|index| self.schedule.phase_span(index))
            .find(|span| span.phase.load.timed_slots().is_some())
            .map(|span| self.segment.cycle_start + span.start)
    }
}

fn micro(area: Area) -> u64 {
    u64::try_from(area.micro()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
