//! When to send: governor on a clock of marks. The one home of the crate `governor`.
//!
//! Arrivals have marks in millionths of an arrival, each so far after the one before as the series
//! says: 10⁶ if they stand evenly. governor's limiter replenishes one cell per unit of *its* clock,
//! and its clock reads Λ(now) in millionths, so cells of that weight conform exactly when the next
//! mark is reached: every shape of load and every spread of arrivals is one code path, and no
//! request leaves without governor's `Ok`.
//!
//! Three things keep it exact:
//! - The bucket is emptied at birth, so there is no initial burst.
//! - The clock is *set* before each question and never beyond what the emptied bucket can hold.
//!   GCRA forgets time past its burst; with this bound it never has any to forget, so nothing is
//!   skipped inside it, however long the process was stopped.
//! - A pacer walks one stretch of one cycle with a limiter of its own. Where the marks of a cycle
//!   stand follows from the cycle's number alone, so nothing is handed from one pacer to the next.
//!
//! [`Pacer`] is a synchronous value: time is passed in, and what it answers is obeyed elsewhere.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::schedule::{Area, Lengths, Schedule, Series, Spread};

/// What governor's bucket holds: over 4,000 arrivals, and the largest number it can count.
const BURST: NonZeroU32 = NonZeroU32::MAX;
/// How many marks of the past are drawn at one question.
const PIECE: u32 = 4096;
const A_BILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival was due at this instant, now or in the past.
    Due {
        /// The instant.
        due: Instant,
        /// Its number in the one series that all shards share.
        k: u64,
        /// The position of its phase.
        phase: usize,
        /// How long its prompt and answer shall be, where a trace says so.
        lengths: Option<Lengths>,
    },
    /// Nothing before this instant.
    Wait(Instant),
    /// A closed-loop phase is on: keep so many requests in flight until this instant.
    Closed {
        /// The position of the phase.
        phase: usize,
        /// How many.
        slots: NonZeroU32,
        /// The start of the phase.
        since: Instant,
        /// The end of the phase.
        until: Instant,
    },
    /// A closed-loop phase that counts requests is on; when they have ended, [`Pacer::resume`].
    Counted {
        /// The position of the phase.
        phase: usize,
        /// How many in flight.
        slots: NonZeroU32,
        /// How many in all.
        count: NonZeroU64,
        /// The start of the phase.
        since: Instant,
    },
    /// The stretch ended at this instant.
    Over(Instant),
}

/// A part of one cycle of a schedule, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of the cycle.
    pub cycle: u64,
    /// When the cycle began.
    pub start: Instant,
    /// What was due up to this time of the cycle is not part of the stretch; `None` takes all of it.
    pub after: Option<Duration>,
    /// The time of the cycle at which the stretch ends: at most the length of the schedule.
    pub until: Duration,
}

impl Segment {
    /// A whole cycle.
    pub fn whole(schedule: &Schedule, cycle: u64, start: Instant) -> Segment {
        Segment { cycle, start, after: None, until: schedule.length() }
    }
}

/// Walks the arrivals of one stretch.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    segment: Segment,
    /// From the last mark before this cycle to its start.
    carry: Area,
    series: Series,
    /// The number of the next arrival.
    next: u64,
    /// How much further the arrival after it is.
    step: u64,
    /// Where the next mark is, once what is missing is there.
    granted: u64,
    /// What is missing to the next mark.
    missing: u64,
    /// Marks up to here were due before the stretch.
    passed: u64,
    /// Where the clock of the limiter stood at its birth.
    born: u64,
    /// The position of the first phase that may still be counted out.
    uncounted: usize,
    clock: MarkClock,
    limiter: Limiter,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

impl Pacer {
    /// A pacer for a stretch of a schedule.
    pub fn new(schedule: Arc<Schedule>, spread: &Spread, segment: Segment) -> Pacer {
        let (before, left_over) = schedule.before(segment.cycle);
        let mut series = Series::new(spread, segment.cycle, before);
        // A random series starts anew at the start of its cycle, so that a cycle is a function of its
        // number.
        let carry = if series.is_even() { left_over } else { Area::ZERO };
        let mut next = before.wrapping_add(spread.shard.first_after(before));
        let step = u64::from(spread.shard.count());
        let (mut granted, mut missing, mut passed, mut uncounted) =
            (0, series.next_distance(), 0, 0);
        if let Some(after) = segment.after {
            passed = micro(schedule.area(after) + carry);
            // Even marks are skipped in one step.
            if series.is_even() && passed > granted + missing {
                let distance = series.next_distance();
                let marks = (passed - granted - missing) / distance;
                granted += missing + marks * distance;
                next = next.wrapping_add((marks + 1).wrapping_mul(step));
                missing = distance;
            }
            let begun = |index| schedule.placed(index).is_some_and(|placed| placed.start < after);
            uncounted =
                (0..schedule.phases().len()).find(|index| !begun(*index)).unwrap_or(usize::MAX);
        }
        let (clock, limiter) = limiter();
        Pacer {
            schedule,
            segment,
            carry,
            series,
            next,
            step,
            granted,
            missing,
            passed,
            born: granted,
            uncounted,
            clock,
            limiter,
        }
    }

    /// The cycle that it walks, as it stands now: one that was counted out began later.
    pub fn segment(&self) -> Segment {
        self.segment
    }

    /// What to do at `now`. Each arrival is told once; ask again until it is time to wait. What waits
    /// for `now` itself still draws what came before its stretch.
    pub fn poll(&mut self, now: Instant) -> Next {
        if !self.has_caught_up() {
            return Next::Wait(now);
        }
        let Barrier { time, area, counted } = self.barrier();
        let barrier = self.segment.start + time;
        let elapsed = now.saturating_duration_since(self.segment.start).min(time);
        let reached = if now < self.segment.start {
            Area::ZERO
        } else {
            self.schedule.area(elapsed).min(area)
        };
        let mut reading = micro(reached + self.carry);
        loop {
            let Err(wanted) = self.ask(reading) else {
                return self.mark_reached(now);
            };
            if let Some(placed) = self.schedule.at(elapsed)
                && let Some(slots) = placed.phase.load.slots()
                && now >= self.segment.start
                && now < barrier
            {
                let until = (self.segment.start + placed.end).min(barrier);
                // Where the phase is joined in its midst, nothing was due before.
                let since = placed.start.max(self.segment.after.unwrap_or_default());
                return Next::Closed {
                    phase: placed.index,
                    slots,
                    since: self.segment.start + since,
                    until,
                };
            }
            match self.instant_of(wanted).filter(|_| wanted <= micro(area + self.carry)) {
                // Floating point may step back by a billionth where a sine is almost flat: what Λ⁻¹
                // calls reached has been reached.
                Some(due) if due <= now => reading = wanted,
                due => {
                    let wake = due.map_or(barrier, |due| due.min(barrier));
                    let wake =
                        self.next_closed_phase(elapsed).map_or(wake, |closed| wake.min(closed));
                    return match counted {
                        _ if now < wake => Next::Wait(wake),
                        Some((phase, slots, count)) => {
                            Next::Counted { phase, slots, count, since: barrier }
                        }
                        None => Next::Over(barrier),
                    };
                }
            }
        }
    }

    /// Requests are still counted at `now`, and something else is on from here: until now the schedule
    /// stood still.
    pub fn hold_until(&mut self, now: Instant) {
        let Barrier { time, .. } = self.barrier();
        self.segment.start += now.saturating_duration_since(self.segment.start + time);
    }

    /// The requests that were counted have ended: the schedule, which stood still, goes on.
    pub fn resume(&mut self, now: Instant) {
        let Barrier { time, counted: Some((phase, ..)), .. } = self.barrier() else { return };
        self.uncounted = phase + 1;
        self.segment.start += now.saturating_duration_since(self.segment.start + time);
    }

    /// Draws what was due before the stretch. Of random marks, hours may have been: a piece at a time.
    fn has_caught_up(&mut self) -> bool {
        for _ in 0..PIECE {
            if self.granted + self.missing > self.passed {
                return true;
            }
            self.granted += self.missing;
            self.born = self.granted;
            self.missing = self.series.next_distance();
            self.next = self.next.wrapping_add(self.step);
        }
        false
    }

    /// What stops the schedule next: requests to be counted, or the end of the stretch.
    fn barrier(&self) -> Barrier {
        let phases = self.schedule.phases().iter().enumerate().skip(self.uncounted);
        let counted = phases.filter_map(|(index, phase)| {
            let count = phase.load.count()?;
            Some((index, phase.load.slots()?, count))
        });
        let first = counted
            .take(1)
            .find_map(|counted| Some((counted, self.schedule.placed(counted.0)?.start)));
        if let Some((counted, time)) = first.filter(|(_, start)| *start <= self.segment.until) {
            Barrier { time, area: self.schedule.area_before(counted.0), counted: Some(counted) }
        } else {
            let time = self.segment.until;
            Barrier { time, area: self.schedule.area(time), counted: None }
        }
    }

    /// Puts the clock at a reading and asks governor for the next mark, in pieces that it can count.
    /// What it refuses comes with the reading at which it would not.
    fn ask(&mut self, reading: u64) -> Result<(), u64> {
        while let Some(piece) = NonZeroU32::new(u32::try_from(self.missing).unwrap_or(u32::MAX)) {
            let most = self.granted + u64::from(BURST.get());
            self.clock.set(reading.min(most).saturating_sub(self.born));
            match self.limiter.check_n(piece) {
                Ok(Ok(())) => {}
                Ok(Err(not_until)) => {
                    return Err(self.born + not_until.earliest_possible().as_u64());
                }
                // Only a weight above the burst could come here, and no piece is.
                Err(_) => return Err(u64::MAX),
            }
            self.granted += u64::from(piece.get());
            self.missing -= u64::from(piece.get());
        }
        Ok(())
    }

    /// The mark that governor has just granted is due; the next one becomes the goal.
    fn mark_reached(&mut self, now: Instant) -> Next {
        self.missing = self.series.next_distance();
        let due = self.instant_of(self.granted).unwrap_or(now);
        let k = self.next;
        self.next = self.next.wrapping_add(self.step);
        let reaching = self.schedule.reaching(Area::from_micro(self.granted) - self.carry);
        let (phase, lengths) = reaching.unwrap_or_default();
        Next::Due { due, k, phase, lengths }
    }

    /// When this cycle reaches a sum of weights, if it does.
    fn instant_of(&self, weights: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(weights) - self.carry)?;
        Some(self.segment.start + due)
    }

    /// The start of the next closed-loop phase of this cycle.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let here = self.schedule.at(elapsed)?.index;
        (here..self.schedule.phases().len())
            .filter_map(|index| self.schedule.placed(index))
            .find(|placed| {
                placed.phase.load.slots().is_some() && placed.phase.load.count().is_none()
            })
            .map(|placed| self.segment.start + placed.start)
    }
}

/// Where the walk along the schedule stops next.
struct Barrier {
    time: Duration,
    area: Area,
    counted: Option<(usize, NonZeroU32, NonZeroU64)>,
}

fn micro(area: Area) -> u64 {
    u64::try_from(area.micro()).unwrap_or(u64::MAX)
}

/// An emptied limiter and its clock, both at 0: the k-th cell from now on conforms at reading k.
fn limiter() -> (MarkClock, Limiter) {
    let clock = MarkClock::default();
    // A billion cells a second of its clock: one each time the reading rises by one.
    let quota = Quota::per_second(A_BILLION).allow_burst(BURST);
    let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
    // A full bucket always holds its burst.
    let _emptied = limiter.check_n(BURST);
    (clock, limiter)
}

/// A clock for governor that stands wherever the pacer puts it.
#[derive(Clone, Debug, Default)]
struct MarkClock(Arc<AtomicU64>);

impl MarkClock {
    fn set(&self, reading: u64) {
        self.0.store(reading, Ordering::Relaxed);
    }
}

impl Clock for MarkClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
