//! The rate limiter of the crate `governor`, on a clock that shows Λ(now) instead of the time. The
//! parent module defines Λ and marks.
//!
//! The limiter is a token bucket, with the algorithm GCRA. governor calls a token a *cell* and the
//! size of the bucket the *burst*. Here, a cell is a millionth of an arrival, and the bucket gains
//! one cell for each unit of its clock. GCRA stores one number, the theoretical arrival time (TAT).
//! It lets `n` cells pass if the clock shows at least TAT + n − burst.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// The largest bucket that governor supports: 2³² − 1 cells, which is 4,294 arrivals.
const BURST: NonZeroU32 = NonZeroU32::MAX;
const A_BILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

/// Permits the arrivals of a cycle, one mark after the other. All positions are millionths of an
/// arrival on the axis of Λ.
#[derive(Debug)]
pub(super) struct MarkLimiter {
    /// The limiter's clock shows 0 at this position.
    origin: u64,
    /// The limiter has let all cells up to this position pass.
    granted: u64,
    clock: MarkClock,
    limiter: Limiter,
}

impl MarkLimiter {
    /// Creates a limiter with an empty bucket at position 0.
    pub(super) fn new() -> MarkLimiter {
        let clock = MarkClock::default();
        // For governor, a unit of the clock is a nanosecond, and a billion nanoseconds are a
        // second.
        let quota = Quota::per_second(A_BILLION).allow_burst(BURST);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
        // A new bucket is full. Take all its cells; otherwise, the first 4,294 arrivals of each
        // cycle would pass at once. This call cannot fail, because a full bucket has enough cells.
        let _emptied = limiter.check_n(BURST);
        MarkLimiter { origin: 0, granted: 0, clock, limiter }
    }

    /// Moves the origin to the start of the segment. Earlier marks need no permission. Call this
    /// before [`MarkLimiter::try_reach`].
    pub(super) fn start_at(&mut self, position: u64) {
        self.origin = position;
        self.granted = position;
    }

    /// Permits `mark` if `reading`, which is Λ(now), has reached it.
    ///
    /// # Errors
    /// The error is the reading at which to try again. It is `mark`, or earlier if `mark` is more
    /// than one burst away.
    pub(super) fn try_reach(&mut self, mark: u64, reading: u64) -> Result<(), u64> {
        while let Some(cells) = cells_between(self.granted, mark) {
            self.set_clock(reading);
            match self.limiter.check_n(cells) {
                Ok(Ok(())) => self.granted += u64::from(cells.get()),
                Ok(Err(not_until)) => {
                    return Err(self.origin + not_until.earliest_possible().as_u64());
                }
                // Impossible: governor returns this error only for more cells than the burst.
                Err(_) => return Err(u64::MAX),
            }
        }
        Ok(())
    }

    /// Sets the limiter's clock to Λ(now), but to at most one burst beyond the last cell that
    /// passed.
    ///
    /// The pacer is correct only with this limit. Let B be the burst, and let g be the number of
    /// cells that have passed since the origin. The empty bucket at the origin has TAT = B, so now
    /// TAT = B + g. The limiter lets n more cells pass if clock ≥ TAT + n − B = g + n. So they pass
    /// exactly when Λ(now) has reached the last of them. Two mistakes would break this:
    ///
    /// * A full bucket at the start. Then TAT = g, and a cycle begins with a burst of 4,294
    ///   arrivals.
    /// * A clock beyond TAT. GCRA then sets TAT to the clock, and the cells in between are lost.
    ///   This would happen after the process was stopped for more than B cells. All later arrivals
    ///   of the cycle would be late, and llmload would neither send nor drop the last arrivals.
    ///
    /// With the limit, clock ≤ g + B = TAT, so no cell is lost. Each success increases g, so the
    /// loop in [`MarkLimiter::try_reach`] still reaches any reading.
    fn set_clock(&self, reading: u64) {
        let furthest = self.granted + u64::from(BURST.get());
        self.clock.set(reading.min(furthest).saturating_sub(self.origin));
    }
}

/// The number of cells between two positions, at most one burst; `None` for 0.
fn cells_between(from: u64, to: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(to - from).unwrap_or(u32::MAX))
}

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
