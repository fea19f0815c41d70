//! The pacer computes the due time of each arrival. An arrival is one request that the schedule
//! demands. A pacer serves one *segment*, which is an uninterrupted part of one cycle of the
//! schedule, and a cycle is one pass through all phases. The pacer also tells the driver, which
//! sends the arrivals, when it must wake up next.
//!
//! The schedule gives a rate λ(t) in arrivals per second, where t is the time since the start of
//! the cycle. Its integral Λ(t) = ∫₀ᵗ λ(u) du is the number of arrivals expected up to t. Each
//! arrival has a *mark*, which is a position on the axis of Λ. The arrival is due at the first
//! instant at which Λ(t) reaches its mark. The code counts marks in millionths of an arrival, and
//! times in nanoseconds.
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
//! Evenly spread arrivals have marks at a distance of 1 (10⁶ millionths). Random arrivals have
//! random distances with a mean of 1. The inverse of Λ turns both kinds of marks into due times in
//! the same way, so every load shape and every distribution of arrivals uses the same code.
//!
//! A rate limiter of the crate `governor` decides if Λ(now) has reached a mark. `MarkLimiter` runs
//! this limiter on a clock that shows Λ(now) instead of the time. llmload sends no open-loop
//! request without a permission from this limiter.
//!
//! Three rules keep arrivals exact, however late the pacer is called:
//!
//! - The limiter is a token bucket that starts empty, so a cycle does not begin with a burst.
//! - The limiter's clock is never ahead of the last granted mark by more than the size of the
//!   bucket. If the clock went further, the limiter would lose arrivals.
//! - Each pacer has a separate limiter and serves one segment of one cycle. The marks depend only
//!   on the number of the cycle, so no state passes from one pacer to the next.
//!
//! [`Pacer`] never waits and reads no clock: the driver passes the current time to it, and acts on
//! the result.

mod mark_limiter;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::mark_limiter::MarkLimiter;
use crate::schedule::{Area, ArrivalMarks, ArrivalSpec, Lengths, Schedule};

/// The next action of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival is due now, or was due in the past.
    Due {
        /// The due time.
        due: Instant,
        /// The number of the arrival in the sequence that all shards share.
        k: u64,
        /// The index of the arrival's phase in the schedule.
        phase: usize,
        /// The token counts of the prompt and the output, if the phase replays a trace.
        lengths: Option<Lengths>,
    },
    /// There is nothing to do before this instant.
    Wait(Instant),
    /// A closed-loop phase is active.
    ClosedLoop {
        /// The index of the phase in the schedule.
        phase: usize,
        /// The number of requests to keep in flight.
        slots: NonZeroU32,
        /// The start of the phase.
        since: Instant,
        /// The end of the phase.
        until: Instant,
    },
    /// A `requests` phase is active: a closed loop that ends after a fixed number of requests. When
    /// all its requests have ended, the driver calls [`Pacer::end_counted_phase`].
    CountedRequests {
        /// The index of the phase in the schedule.
        phase: usize,
        /// The number of requests to keep in flight.
        slots: NonZeroU32,
        /// The number of requests in total.
        count: NonZeroU64,
        /// The start of the phase.
        since: Instant,
    },
    /// The segment ended at this instant.
    End(Instant),
}

/// An uninterrupted part of one cycle of a schedule. Its times are on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of the cycle, from 0.
    pub cycle: u64,
    /// The instant at which the cycle starts, which can be before the segment.
    pub cycle_start: Instant,
    /// The start of the segment, as an offset from the start of the cycle. Arrivals that are due at
    /// this offset or earlier are not part of the segment. `None` if the segment begins with the
    /// cycle; then arrivals at offset 0 are part of the segment.
    pub after_offset: Option<Duration>,
    /// The end of the segment, as an offset from the start of the cycle. At most the length of the
    /// schedule.
    pub until_offset: Duration,
}

impl Segment {
    /// Creates a segment that covers the full cycle.
    pub fn full_cycle(schedule: &Schedule, cycle: u64, cycle_start: Instant) -> Segment {
        Segment { cycle, cycle_start, after_offset: None, until_offset: schedule.length() }
    }
}

/// The arrivals of one segment, in order.
///
/// All marks are positions on one axis, in millionths of an arrival. The start of this cycle is at
/// the position `carry`. Position 0 is the last mark of the previous cycle. The first cycle has no
/// previous cycle, so its position 0 is half an arrival before its start. Random arrivals have a
/// `carry` of 0.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    segment: Segment,
    /// The distance from position 0 to the start of this cycle.
    carry: Area,
    /// The marks and the numbers of the arrivals that the pacer has not returned.
    marks: ArrivalMarks,
    /// All `requests` phases with a lower index have ended, or are before the segment.
    first_uncounted: usize,
    limiter: MarkLimiter,
}

/// The next point at which the time in the cycle stops: the end of the segment, or the start of a
/// `requests` phase. While a `requests` phase runs, the time in the cycle stands still.
struct Barrier {
    /// The point as an offset from the start of the cycle.
    time: Duration,
    /// The value of Λ at that point.
    area: Area,
    /// The `requests` phase that starts at that point; `None` at the end of the segment.
    counted: Option<CountedPhase>,
}

#[derive(Clone, Copy)]
struct CountedPhase {
    index: usize,
    slots: NonZeroU32,
    count: NonZeroU64,
}

impl Pacer {
    /// Creates a pacer for a segment of a schedule.
    pub fn new(schedule: Arc<Schedule>, spec: &ArrivalSpec, segment: Segment) -> Pacer {
        let (earlier, fraction) = schedule.arrivals_before(segment.cycle);
        // Random arrivals take over nothing from the previous cycle, so they depend only on the
        // number of the cycle.
        let carry = if spec.arrivals.is_even() { fraction } else { Area::ZERO };
        let mut limiter = MarkLimiter::new();
        // Arrivals and `requests` phases up to the start of the segment are not part of it.
        let (mut after, mut first_uncounted) = (0, 0);
        if let Some(offset) = segment.after_offset {
            after = micro(schedule.area(offset) + carry);
            limiter.start_at(after);
            let has_begun =
                |index: &usize| schedule.phase_span(*index).is_some_and(|span| span.start < offset);
            first_uncounted = (0..schedule.phases().len()).take_while(has_begun).count();
        }
        let marks = ArrivalMarks::new(spec, segment.cycle, earlier, after);
        Pacer { schedule, segment, carry, marks, first_uncounted, limiter }
    }

    /// Returns the segment. While a `requests` phase runs, the time in the cycle stands still, so
    /// each of these phases moves the start of the cycle later.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// Returns the next action at `now`. Each arrival is returned once. If several arrivals are
    /// due, each call returns one of them, so the caller must call again after a [`Next::Due`].
    pub fn poll(&mut self, now: Instant) -> Next {
        let barrier = self.next_barrier();
        match self.reach_next_mark(now, &barrier) {
            Ok(()) => self.take_arrival(now),
            Err(due) => self
                .closed_loop(now, &barrier)
                .unwrap_or_else(|| self.wait_or_stop(now, due, &barrier)),
        }
    }

    /// Extends the active `requests` phase to `now`. The driver calls this if a manual override
    /// replaces the schedule before all requests of the phase have ended.
    pub fn extend_counted_phase(&mut self, now: Instant) {
        self.delay_cycle(self.next_barrier().time, now);
    }

    /// Ends the active `requests` phase. The time in the cycle, which stood still during the phase,
    /// continues at `now`.
    pub fn end_counted_phase(&mut self, now: Instant) {
        let barrier = self.next_barrier();
        if let Some(counted) = barrier.counted {
            self.first_uncounted = counted.index + 1;
            self.delay_cycle(barrier.time, now);
        }
    }

    /// Moves the start of the cycle later if the offset `time` in the cycle is before `now`. After
    /// the call, this offset is at `now` or later.
    fn delay_cycle(&mut self, time: Duration, now: Instant) {
        self.segment.cycle_start += now.saturating_duration_since(self.segment.cycle_start + time);
    }

    fn next_barrier(&self) -> Barrier {
        let counted = (self.first_uncounted..self.schedule.phases().len()).find_map(|index| {
            let span = self.schedule.phase_span(index)?;
            let (slots, count) = (span.phase.load.slots()?, span.phase.load.count()?);
            Some((span.start, CountedPhase { index, slots, count }))
        });
        let until = self.segment.until_offset;
        match counted.filter(|(start, _)| *start <= until) {
            Some((time, counted)) => {
                let area = self.schedule.area_before(counted.index);
                Barrier { time, area, counted: Some(counted) }
            }
            None => Barrier { time: until, area: self.schedule.area(until), counted: None },
        }
    }

    /// Gets the limiter's permission for the next mark, if this mark is due at `now`.
    ///
    /// # Errors
    /// If the mark is not due yet. The error is the instant at which to try again, or `None` if Λ
    /// does not reach the mark before the barrier.
    fn reach_next_mark(&mut self, now: Instant, barrier: &Barrier) -> Result<(), Option<Instant>> {
        let mut reading = self.reading(now, barrier);
        loop {
            let Err(wanted) = self.limiter.try_reach(self.marks.position(), reading) else {
                return Ok(());
            };
            let due =
                self.instant_of(wanted).filter(|_| wanted <= micro(barrier.area + self.carry));
            match due {
                // Λ of a sine is a floating point number. Where the sine is almost flat, rounding
                // can leave Λ(now) a billionth below a mark whose due time has come. In this case,
                // the due time decides.
                Some(due) if due <= now => reading = wanted,
                later => return Err(later),
            }
        }
    }

    /// Returns Λ(now) as a position among the marks. If `now` is after the barrier, returns Λ at
    /// the barrier.
    fn reading(&self, now: Instant, barrier: &Barrier) -> u64 {
        let reached = if now < self.segment.cycle_start {
            Area::ZERO
        } else {
            self.schedule.area(self.elapsed(now, barrier)).min(barrier.area)
        };
        micro(reached + self.carry)
    }

    /// Returns the offset of `now` in the cycle. If `now` is after the barrier, returns the offset
    /// of the barrier.
    fn elapsed(&self, now: Instant, barrier: &Barrier) -> Duration {
        now.saturating_duration_since(self.segment.cycle_start).min(barrier.time)
    }

    /// Returns the arrival of the next mark, which the limiter has just granted. Moves on to the
    /// mark after it.
    fn take_arrival(&mut self, now: Instant) -> Next {
        let (mark, k) = (self.marks.position(), self.marks.number());
        self.marks.advance();
        let due = self.instant_of(mark).unwrap_or(now);
        let area = Area::from_micro(mark) - self.carry;
        let (phase, lengths) = self.schedule.phase_and_lengths(area).unwrap_or_default();
        Next::Due { due, k, phase, lengths }
    }

    /// Returns the closed-loop phase that is active at `now`.
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
            // If the segment begins within the phase, the slots of the phase are due at the start
            // of the segment.
            since: start + span.start.max(after_offset.unwrap_or_default()),
            until: (start + span.end).min(barrier_at),
        })
    }

    /// Returns a wait until the next event. If `now` has reached the barrier, returns the
    /// `requests` phase that starts there, or the end of the segment.
    fn wait_or_stop(&self, now: Instant, due: Option<Instant>, barrier: &Barrier) -> Next {
        let barrier_at = self.segment.cycle_start + barrier.time;
        let closed_phase = self.next_closed_phase(self.elapsed(now, barrier));
        let wake = [due, closed_phase].into_iter().flatten().fold(barrier_at, Instant::min);
        if now < wake {
            return Next::Wait(wake);
        }
        match barrier.counted {
            Some(CountedPhase { index, slots, count }) => {
                Next::CountedRequests { phase: index, slots, count, since: barrier_at }
            }
            None => Next::End(barrier_at),
        }
    }

    /// The instant at which Λ reaches a mark; `None` if Λ does not reach the mark in this cycle.
    fn instant_of(&self, mark: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(mark) - self.carry)?;
        Some(self.segment.cycle_start + due)
    }

    /// The start of the first timed closed-loop phase that is active at the offset `elapsed` or
    /// later.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let current = self.schedule.phase_at(elapsed)?.index;
        (current..self.schedule.phases().len())
            .filter_map(|index| self.schedule.phase_span(index))
            .find(|span| span.phase.load.timed_slots().is_some())
            .map(|span| self.segment.cycle_start + span.start)
    }
}

/// The number of millionths of an arrival, rounded down.
fn micro(area: Area) -> u64 {
    u64::try_from(area.micro()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
