//! The rate limiter of the crate `governor`, on a clock that shows Λ(now) instead of the time.
//! Λ(now) is the number of arrivals expected so far; the parent module defines Λ, marks and cycles.
//! Only these two modules use governor.
//!
//! The limiter is a token bucket. governor calls the tokens *cells*, and the size of the bucket its
//! *burst*. Here, one cell is one millionth of an arrival, and the bucket gains one cell for each
//! unit of its clock. The limiter uses the algorithm GCRA, whose only state is a theoretical
//! arrival time (TAT). It lets `n` cells pass if its clock has reached TAT + n − burst.
//! [`MarkLimiter`] sets this clock to Λ(now), in millionths of an arrival. So the cells up to a
//! mark pass as soon as Λ(now) reaches the mark.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// The size of the bucket in cells. It is the largest size that governor can count, and holds 4,294
/// arrivals.
const BURST: NonZeroU32 = NonZeroU32::MAX;
const A_BILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

/// Grants the marks of a cycle, one after the other. To grant a mark is to permit its arrival. All
/// positions are on the Λ axis of the cycle, in millionths of an arrival.
#[derive(Debug)]
pub(super) struct MarkLimiter {
    /// The position at which the limiter's clock shows 0.
    origin: u64,
    /// All cells up to this position have passed. After a successful call of
    /// [`MarkLimiter::try_reach`], this is the mark that the call granted.
    granted: u64,
    clock: MarkClock,
    limiter: Limiter,
}

impl MarkLimiter {
    /// Creates a limiter at position 0. Its bucket is empty.
    pub(super) fn new() -> MarkLimiter {
        let clock = MarkClock::default();
        // For governor, one unit of the clock is a nanosecond. So one cell for each unit is a
        // billion cells per second.
        let quota = Quota::per_second(A_BILLION).allow_burst(BURST);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        // A new bucket is full. If it stayed full, the first 4,294 arrivals of each cycle would
        // pass at once. A full bucket always has enough cells for this call, so the result is never
        // an error.
        let _emptied = limiter.check_n(BURST);
        MarkLimiter { origin: 0, granted: 0, clock, limiter }
    }

    /// Starts the limiter at a position: the start of the segment, which is the part of a cycle
    /// that the pacer runs. The pacer does not send earlier arrivals, so they need no grant. After
    /// the first call of [`MarkLimiter::try_reach`], the origin must not move.
    pub(super) fn start_at(&mut self, position: u64) {
        self.origin = position;
        self.granted = position;
    }

    /// Lets all cells up to `mark` pass if `reading`, which is Λ(now), has reached `mark`.
    ///
    /// # Errors
    /// If `reading` is too low. The error is the reading at which to call again: `mark`, or an
    /// earlier reading if governor cannot count all missing cells at once.
    pub(super) fn try_reach(&mut self, mark: u64, reading: u64) -> Result<(), u64> {
        while let Some(cells) = cells_between(self.granted, mark) {
            self.set_clock(reading);
            match self.limiter.check_n(cells) {
                Ok(Ok(())) => self.granted += u64::from(cells.get()),
                Ok(Err(not_until)) => {
                    return Err(self.origin + not_until.earliest_possible().as_u64());
                }
                // governor returns this error for more cells than its burst. `cells` is never above
                // the burst.
                Err(_) => return Err(u64::MAX),
            }
        }
        Ok(())
    }

    /// Sets the limiter's clock to a reading of Λ(now). If the reading is more than one burst
    /// beyond the last cell that passed, the clock stops at one burst beyond this cell.
    ///
    /// The correctness of the pacer depends on this limit. Let B be the burst, and let g be the
    /// number of cells that have passed since the origin. The bucket was emptied while the clock
    /// showed 0, so TAT = B + g. The limiter lets n more cells pass if clock ≥ TAT + n − B = g + n.
    /// This is true exactly if Λ(now) has reached the position of the last of these cells. Two
    /// mistakes would break this equation:
    ///
    /// - The bucket is not emptied at the start. Then TAT = g, all cells pass B units too early,
    ///   and a cycle begins with a burst of thousands of arrivals.
    /// - The clock is beyond TAT. GCRA does not save cells beyond a full bucket. Instead, it sets
    ///   TAT to the clock. If the process was stopped until Λ(now) was more than B ahead of g, the
    ///   limiter would lose the cells in between. All later arrivals of the cycle would be late by
    ///   this amount, and the last arrivals would be neither sent nor counted as dropped.
    ///
    /// With the limit, clock ≤ g + B = TAT, so GCRA loses no cells. Each success raises g, so the
    /// loop in [`MarkLimiter::try_reach`] and repeated calls reach any reading step by step.
    fn set_clock(&self, reading: u64) {
        let furthest = self.granted + u64::from(BURST.get());
        self.clock.set(reading.min(furthest).saturating_sub(self.origin));
    }
}

/// The number of cells between two positions; `None` for 0. If there are more cells than governor
/// can count, the result is the highest number that governor can count.
fn cells_between(from: u64, to: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(to - from).unwrap_or(u32::MAX))
}

/// A clock for governor. It shows the position that [`MarkLimiter`] has set.
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
mod tests {
    use super::*;

    const ARRIVAL: u64 = 1_000_000;

    #[test]
    fn a_new_limiter_has_no_burst() {
        let mut limiter = MarkLimiter::new();
        assert_eq!(limiter.try_reach(ARRIVAL, 0), Err(ARRIVAL));
        assert_eq!(limiter.try_reach(ARRIVAL, ARRIVAL - 1), Err(ARRIVAL));
        assert_eq!(limiter.try_reach(ARRIVAL, ARRIVAL), Ok(()));
        assert_eq!(limiter.try_reach(2 * ARRIVAL, ARRIVAL), Err(2 * ARRIVAL));
    }

    #[test]
    fn a_reading_far_beyond_the_burst_skips_no_mark() {
        let mut limiter = MarkLimiter::new();
        let far = 20_000 * ARRIVAL;
        assert!(far > 4 * u64::from(BURST.get()));
        for k in 1..=20_000 {
            assert_eq!(limiter.try_reach(k * ARRIVAL, far), Ok(()), "mark {k}");
        }
        assert_eq!(limiter.try_reach(far + 1, far), Err(far + 1));
    }

    #[test]
    fn a_limiter_that_starts_anywhere_grants_the_next_mark_at_its_position() {
        let mut limiter = MarkLimiter::new();
        limiter.start_at(5 * ARRIVAL + 3);
        assert_eq!(limiter.try_reach(6 * ARRIVAL, 5 * ARRIVAL + 3), Err(6 * ARRIVAL));
        assert_eq!(limiter.try_reach(6 * ARRIVAL, 6 * ARRIVAL), Ok(()));
    }
}
