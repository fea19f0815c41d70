//! The rate limit of a web configuration file, for all clients together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimit;

/// A token bucket. It stores only the time at which the bucket will be full again.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: RateLimit,
    full_at: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(super) fn new(limit: RateLimit) -> Limiter {
        Limiter { limit, full_at: Mutex::new(None) }
    }

    /// Takes a token. Returns false if the bucket is empty.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let RateLimit { interval, burst } = self.limit;
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = full_at.map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        let is_allowed = refill <= interval.saturating_mul(burst - 1);
        if is_allowed {
            *full_at = now.checked_add(refill.saturating_add(interval));
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any time, a bucket gives its tokens and one more after each interval.
        #[test]
        fn no_window_has_more_requests_than_the_limit(
            interval in 1u32..1000,
            burst in 1u32..20,
            gaps in proptest::collection::vec(0u32..2000, 1..200),
        ) {
            let limiter = Limiter::new(RateLimit { interval: Duration::from_millis(interval.into()), burst });
            let (mut now, mut allowed) = (0, Vec::new());
            let start = Instant::now();
            for gap in gaps {
                now += gap;
                // The reference counts tokens: each earlier request within the last intervals.
                let mut level = f64::from(burst);
                let mut last = 0;
                for &time in &allowed {
                    level = (level + f64::from(time - last) / f64::from(interval)).min(f64::from(burst)) - 1.0;
                    last = time;
                }
                level = (level + f64::from(now - last) / f64::from(interval)).min(f64::from(burst));
                let is_allowed = limiter.allows(start + Duration::from_millis(now.into()));
                // Rounding decides only at the exact moment of a new token.
                if (level - 1.0).abs() > 1e-6 {
                    prop_assert_eq!(is_allowed, level > 1.0, "at {}: {}", now, level);
                }
                if is_allowed {
                    allowed.push(now);
                }
            }
        }
    }
}
