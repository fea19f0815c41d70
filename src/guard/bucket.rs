//! A limit per minute: a token bucket of the crate `governor`, on a clock that the caller sets.
//!
//! governor calls a unit of the limit a *cell*. Here, a cell is a request or a token of the model.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

type Limiter = RateLimiter<NotKeyed, Level, SetClock, NoOpMiddleware<Nanos>>;

/// A bucket that is full at first. It gains `per_minute` cells in a minute, evenly spread.
#[derive(Debug)]
pub(super) struct Bucket {
    start: Instant,
    clock: SetClock,
    level: Level,
    limiter: Limiter,
}

impl Bucket {
    /// `burst` is the size of the bucket in cells.
    pub(super) fn new(per_minute: NonZeroU32, burst: NonZeroU32, start: Instant) -> Bucket {
        // Rounded up, so the limit is never exceeded.
        let interval = NANOS_PER_MINUTE.div_ceil(u64::from(per_minute.get()));
        let quota = Quota::with_period(Duration::from_nanos(interval));
        // `with_period` returns `None` only for a period of zero.
        let quota = quota.unwrap_or(Quota::per_minute(per_minute)).allow_burst(burst);
        let (clock, level) = (SetClock::default(), Level::default());
        let limiter = RateLimiter::new(quota, level.clone(), clock.clone());
        Bucket { start, clock, level, limiter }
    }

    /// Takes cells from the bucket. Returns false, and takes none, if the bucket has too few cells.
    pub(super) fn try_take(&mut self, cells: u64, now: Instant) -> bool {
        if cells == 0 {
            return true;
        }
        let Some(cells) = u32::try_from(cells).ok().and_then(NonZeroU32::new) else { return false };
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        self.clock.advance_to(u64::try_from(elapsed).unwrap_or(u64::MAX));
        // The outer error means that the bucket is smaller than `cells`.
        matches!(self.limiter.check_n(cells), Ok(Ok(())))
    }

    /// A copy of the state, for [`Bucket::restore`].
    pub(super) fn save(&self) -> u64 {
        self.level.0.load(Ordering::Relaxed)
    }

    /// Returns the cells that were taken since [`Bucket::save`]. governor cannot return cells.
    pub(super) fn restore(&mut self, saved: u64) {
        self.level.0.store(saved, Ordering::Relaxed);
    }
}

/// The state of the limiter: the theoretical arrival time of GCRA, in nanoseconds. 0 means that no
/// cell was taken yet. Only the owner of the bucket changes it, so no two changes compete.
#[derive(Clone, Debug, Default)]
struct Level(Arc<AtomicU64>);

impl StateStore for Level {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = Some(self.0.load(Ordering::Relaxed)).filter(|level| *level > 0);
        let (result, after) = decide(before.map(Nanos::from))?;
        self.0.store(after.as_u64(), Ordering::Relaxed);
        Ok(result)
    }
}

/// A clock that never goes back, because the arrivals of two scenarios can be some microseconds
/// out of order.
#[derive(Clone, Debug, Default)]
struct SetClock(Arc<AtomicU64>);

impl SetClock {
    fn advance_to(&self, nanos: u64) {
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn a_bucket_fills_evenly_over_a_minute() {
        let start = Instant::now();
        let mut bucket = Bucket::new(cells(120), cells(2), start);
        let at = |millis| start + Duration::from_millis(millis);
        let taken = [0, 0, 0, 499, 500, 999, 1_000, 60_000, 60_000, 60_000];
        let taken = taken.map(|millis| bucket.try_take(1, at(millis)));
        assert_eq!(taken, [true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn a_refusal_takes_no_cells_and_cells_can_be_returned() {
        let start = Instant::now();
        let mut bucket = Bucket::new(cells(100), cells(100), start);
        assert!(!bucket.try_take(101, start), "more cells than the bucket can have");
        assert!(!bucket.try_take(u64::MAX, start));
        assert!(bucket.try_take(60, start) && !bucket.try_take(41, start));
        let saved = bucket.save();
        assert!(bucket.try_take(40, start) && !bucket.try_take(1, start));
        bucket.restore(saved);
        assert!(bucket.try_take(40, start) && bucket.try_take(0, start));
    }

    proptest! {
        /// The bound of every token bucket: in any span of time, the burst and the cells that the
        /// bucket gains in this span.
        #[test]
        fn no_span_of_time_exceeds_the_limit(
            per_minute in 1_u32..2_000_000,
            burst in 1_u32..5_000,
            calls in prop::collection::vec((0_u64..90_000_000, 1_u64..900), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(cells(per_minute), cells(burst), start);
            let (mut now, mut taken) = (start, Vec::new());
            for (micros, count) in calls {
                now += Duration::from_micros(micros);
                if bucket.try_take(count, now) {
                    taken.push((now, count));
                }
            }
            for first in 0..taken.len() {
                let mut sum = 0;
                for (at, count) in &taken[first..] {
                    sum += count;
                    let span = at.duration_since(taken[first].0).as_nanos();
                    let gained = span * u128::from(per_minute) / u128::from(NANOS_PER_MINUTE);
                    prop_assert!(u128::from(sum) <= gained + u128::from(burst));
                }
            }
        }

        /// A bucket that refuses never has enough cells for the request.
        #[test]
        fn a_full_bucket_admits_a_burst(per_minute in 1_u32..4_000_000, burst in 1_u32..4_000_000) {
            let start = Instant::now();
            let mut bucket = Bucket::new(cells(per_minute), cells(burst), start);
            prop_assert!(bucket.try_take(u64::from(burst), start));
            prop_assert!(!bucket.try_take(1, start));
            // The interval is rounded up to the next nanosecond.
            let cell = Duration::from_nanos(NANOS_PER_MINUTE.div_ceil(u64::from(per_minute)));
            prop_assert!(bucket.try_take(1, start + cell));
        }
    }
}
