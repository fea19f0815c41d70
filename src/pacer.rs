//! The due times of arrivals: which arrival is next in a segment of a cycle, and when to wake up.
//!
//! The schedule gives a rate λ(t) in arrivals per second, where t is the time since the start of
//! the cycle. Its integral Λ(t) = ∫₀ᵗ λ(u) du is the number of arrivals expected up to t. Each
//! arrival has a *mark*, a position on the axis of Λ, and is due at the first instant at which Λ(t)
//! reaches its mark. Code counts marks in millionths of an arrival and times in nanoseconds.
//!
//! An example, 1/s for two seconds and then 2/s for two seconds:
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
//! random distances with a mean of 1. The rate stretches both in the same way, so every load shape
//! and every distribution of arrivals uses the same code.
//!
//! The crate `governor` decides whether a mark is reached. `MarkLimiter` is its limiter on a
//! clock that reads Λ(now), and no request leaves without its permission.
//!
//! Three rules keep arrivals exact, however late the pacer is called:
//!
//! - The limiter's bucket starts empty, so a cycle has no initial burst.
//! - The limiter's clock is never more than one burst beyond the last mark, so the limiter never
//!   forgets a mark.
//! - A pacer serves one segment of one cycle with a limiter of its own. The marks follow from the
//!   number of the cycle alone, so no state passes from one pacer to the next.
//!
//! [`Pacer`] is a synchronous value: callers pass the time in and act on the result.

mod mark_limiter;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::mark_limiter::MarkLimiter;
use crate::schedule::{Area, ArrivalGaps, ArrivalSpec, Lengths, Schedule};

/// The number of marks before the segment that one poll draws at most.
const MARKS_PER_POLL: u32 = 4096;

/// The next action of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival is due, now or in the past.
    Due {
        /// The due time.
        due: Instant,
        /// The number of the arrival in the sequence that all shards share.
        k: u64,
        /// The position of its phase in the schedule.
        phase: usize,
        /// The token counts of its prompt and answer, if a trace gives them.
        lengths: Option<Lengths>,
    },
    /// No action before this instant.
    Wait(Instant),
    /// A closed-loop phase is active.
    ClosedLoop {
        /// The position of the phase in the schedule.
        phase: usize,
        /// The number of requests to keep in flight.
        slots: NonZeroU32,
        /// The start of the phase.
        since: Instant,
        /// The end of the phase.
        until: Instant,
    },
    /// A closed-loop phase with a fixed number of requests is active. When all have ended, call
    /// [`Pacer::end_counted_phase`].
    CountedRequests {
        /// The position of the phase in the schedule.
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

/// A part of one cycle of a schedule without a break, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of the cycle, from 0.
    pub cycle: u64,
    /// The start of the cycle, which may be before the segment.
    pub cycle_start: Instant,
    /// The start of the segment, since the start of the cycle. Arrivals due at this time or earlier
    /// are not part of the segment. `None` is the start of the cycle with the arrivals due then.
    pub after_offset: Option<Duration>,
    /// The end of the segment, since the start of the cycle; at most the length of the schedule.
    pub until_offset: Duration,
}

impl Segment {
    /// A segment that is a whole cycle.
    pub fn full_cycle(schedule: &Schedule, cycle: u64, cycle_start: Instant) -> Segment {
        Segment { cycle, cycle_start, after_offset: None, until_offset: schedule.length() }
    }
}

/// The arrivals of one segment, in order.
///
/// Marks are in millionths of an arrival on the Λ axis of the cycle. Position 0 is the last mark of
/// the cycle before, which is `carry` before the start of this cycle.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    segment: Segment,
    /// The distance from the last mark of the cycle before to the start of this cycle.
    carry: Area,
    gaps: ArrivalGaps,
    next_mark: u64,
    /// The number of the arrival at the next mark.
    next_number: u64,
    /// The difference between the numbers of two arrivals of this shard.
    number_step: u64,
    /// Marks up to this position are due before the segment.
    skip_until: u64,
    /// The position of the first phase that may still need its requests counted.
    first_uncounted: usize,
    limiter: MarkLimiter,
}

/// The point at which schedule time stops next: a phase that counts requests, or the end of the
/// segment.
struct Barrier {
    /// Since the start of the cycle.
    time: Duration,
    /// The value of Λ there.
    area: Area,
    counted: Option<CountedPhase>,
}

#[derive(Clone, Copy)]
struct CountedPhase {
    index: usize,
    slots: NonZeroU32,
    count: NonZeroU64,
}

impl Pacer {
    /// A pacer for a segment of a schedule.
    pub fn new(schedule: Arc<Schedule>, spec: &ArrivalSpec, segment: Segment) -> Pacer {
        let (earlier, fraction) = schedule.arrivals_before(segment.cycle);
        let mut gaps = ArrivalGaps::new(spec, segment.cycle, earlier);
        // Random arrivals start anew with each cycle, so that a cycle is a function of its number.
        let carry = if gaps.is_even() { fraction } else { Area::ZERO };
        let next_mark = gaps.next_gap();
        let mut pacer = Pacer {
            schedule,
            segment,
            carry,
            gaps,
            next_mark,
            next_number: earlier.wrapping_add(spec.shard.arrivals_to_skip(earlier)),
            number_step: u64::from(spec.shard.count()),
            skip_until: 0,
            first_uncounted: 0,
            limiter: MarkLimiter::new(),
        };
        if let Some(after) = segment.after_offset {
            pacer.start_after(after);
        }
        pacer
    }

    /// Excludes everything up to a time of the cycle from the segment.
    fn start_after(&mut self, after: Duration) {
        self.skip_until = micro(self.schedule.area(after) + self.carry);
        // Even marks need no drawing: one step skips all of them.
        if self.gaps.is_even() && self.skip_until > self.next_mark {
            let gap = self.gaps.next_gap();
            let marks = (self.skip_until - self.next_mark) / gap;
            let last_skipped = self.next_mark + marks * gap;
            self.limiter.start_at(last_skipped);
            self.next_mark = last_skipped + gap;
            let numbers = (marks + 1).wrapping_mul(self.number_step);
            self.next_number = self.next_number.wrapping_add(numbers);
        }
        let has_begun =
            |index: &usize| self.schedule.phase_span(*index).is_some_and(|span| span.start < after);
        self.first_uncounted = (0..self.schedule.phases().len()).take_while(has_begun).count();
    }

    /// The segment. Its start moves later with each phase that counts requests.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// Returns the next action at `now`. Each arrival is returned once; poll again until the result
    /// is [`Next::Wait`].
    ///
    /// The result is `Next::Wait(now)` while the pacer still skips random arrivals from before its
    /// segment: poll again at once, after other tasks had a turn.
    pub fn poll(&mut self, now: Instant) -> Next {
        if !self.skip_earlier_marks() {
            return Next::Wait(now);
        }
        let barrier = self.next_barrier();
        match self.reach_next_mark(now, &barrier) {
            Ok(()) => self.take_arrival(now),
            Err(due) => self
                .closed_loop(now, &barrier)
                .unwrap_or_else(|| self.wait_or_stop(now, due, &barrier)),
        }
    }

    /// Counts the time up to `now` as part of the phase that counts requests. Call this if another
    /// load replaces the schedule before all requests of the phase have ended.
    pub fn extend_counted_phase(&mut self, now: Instant) {
        self.delay_cycle(self.next_barrier().time, now);
    }

    /// Ends the phase that counts requests: schedule time, which stood still since its start,
    /// continues at `now`.
    pub fn end_counted_phase(&mut self, now: Instant) {
        let barrier = self.next_barrier();
        if let Some(counted) = barrier.counted {
            self.first_uncounted = counted.index + 1;
            self.delay_cycle(barrier.time, now);
        }
    }

    /// Moves the start of the cycle later, so that `time` of the cycle is not before `now`.
    fn delay_cycle(&mut self, time: Duration, now: Instant) {
        self.segment.cycle_start += now.saturating_duration_since(self.segment.cycle_start + time);
    }

    /// Draws the marks that are due before the segment, and returns true once all are drawn. A
    /// segment may begin hours into a random cycle, so one call draws only some of them.
    fn skip_earlier_marks(&mut self) -> bool {
        for _ in 0..MARKS_PER_POLL {
            if self.next_mark > self.skip_until {
                return true;
            }
            self.limiter.start_at(self.next_mark);
            self.advance();
        }
        false
    }

    /// Makes the mark after the next one the next one.
    fn advance(&mut self) {
        self.next_mark += self.gaps.next_gap();
        self.next_number = self.next_number.wrapping_add(self.number_step);
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

    /// Gets the limiter's permission for the next mark, if it is due at `now`.
    ///
    /// # Errors
    /// The instant at which to try again; `None` if the mark is not reached before the barrier.
    fn reach_next_mark(&mut self, now: Instant, barrier: &Barrier) -> Result<(), Option<Instant>> {
        let mut reading = self.reading(now, barrier);
        loop {
            let Err(wanted) = self.limiter.try_reach(self.next_mark, reading) else {
                return Ok(());
            };
            let due =
                self.instant_of(wanted).filter(|_| wanted <= micro(barrier.area + self.carry));
            match due {
                // Λ of a sine is a floating point number. Where it is almost flat, Λ(now) may be a
                // billionth below a mark that Λ⁻¹ places before `now`. Λ⁻¹ decides.
                Some(due) if due <= now => reading = wanted,
                later => return Err(later),
            }
        }
    }

    /// Λ(now) as a position among the marks, at most that of the barrier.
    fn reading(&self, now: Instant, barrier: &Barrier) -> u64 {
        let reached = if now < self.segment.cycle_start {
            Area::ZERO
        } else {
            self.schedule.area(self.elapsed(now, barrier)).min(barrier.area)
        };
        micro(reached + self.carry)
    }

    /// The time since the start of the cycle, at most that of the barrier.
    fn elapsed(&self, now: Instant, barrier: &Barrier) -> Duration {
        now.saturating_duration_since(self.segment.cycle_start).min(barrier.time)
    }

    /// Returns the arrival at the mark for which the limiter has just given permission.
    fn take_arrival(&mut self, now: Instant) -> Next {
        let (mark, k) = (self.next_mark, self.next_number);
        self.advance();
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
            // If the segment begins within the phase, no slot was due before the segment.
            since: start + span.start.max(after_offset.unwrap_or_default()),
            until: (start + span.end).min(barrier_at),
        })
    }

    /// Returns the wait for the next event; or, at the barrier, the reason to stop there.
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

    /// The instant at which Λ reaches a mark; `None` if this cycle does not reach it.
    fn instant_of(&self, mark: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(mark) - self.carry)?;
        Some(self.segment.cycle_start + due)
    }

    /// The start of the first closed-loop phase from the phase at `elapsed` on.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let current = self.schedule.phase_at(elapsed)?.index;
        (current..self.schedule.phases().len())
            .filter_map(|index| self.schedule.phase_span(index))
            .find(|span| span.phase.load.timed_slots().is_some())
            .map(|span| self.segment.cycle_start + span.start)
    }
}

/// An area in millionths of an arrival, rounded down.
fn micro(area: Area) -> u64 {
    u64::try_from(area.micro()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
