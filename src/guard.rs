//! Decides whether llmload sends or drops an arrival.
//!
//! The guard never waits. If several reasons to drop an arrival apply, it returns the first one in
//! a fixed order. A request that the guard admits holds a [`Permit`] until its end. The permit
//! passes the outcome of the request to the limits that need it.
//!
//! | module | idea |
//! |---|---|
//! | `permit` | the demand of a request, and the permission to send it |
//! | `rate_limiter` | the rate limits of one target, which all its scenarios share |
//! | `bucket` | a limit per minute |

mod bucket;
mod permit;
mod rate_limiter;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Arrival, DropReason};
use crate::plan::connection_limit;
pub use permit::{Demand, Permit, RequestOutcome};
pub use rate_limiter::RateLimiter;

/// The guard of a route, which is one scenario on one target.
#[derive(Clone, Debug)]
pub struct Guard {
    draining: CancellationToken,
    paused: Pause,
    max_lag: Duration,
    max_concurrency: NonZeroU32,
    /// `None` if the target has no rate limits.
    rate_limiter: Option<Arc<RateLimiter>>,
}

impl Guard {
    /// Refuses every arrival while `paused` is on, and after `draining` is cancelled.
    pub fn new(
        draining: CancellationToken,
        paused: Pause,
        max_lag: Duration,
        max_concurrency: NonZeroU32,
    ) -> Guard {
        Guard { draining, paused, max_lag, max_concurrency, rate_limiter: None }
    }

    /// Sets the rate limits of the target.
    #[must_use]
    pub fn with_rate_limiter(self, rate_limiter: Option<Arc<RateLimiter>>) -> Guard {
        Guard { rate_limiter, ..self }
    }

    /// Returns true if a request that has ended can keep its connection, to read the remaining
    /// body. `connections` is the number of open connections of the route.
    pub fn can_drain(&self, connections: usize) -> bool {
        connections as u64 <= connection_limit(self.max_concurrency)
    }

    /// Returns true if a limit counts tokens. Otherwise, the caller can pass [`Demand::NONE`].
    pub fn needs_demand(&self) -> bool {
        self.rate_limiter.as_ref().is_some_and(|limiter| limiter.counts_tokens())
    }

    /// Decides about an arrival while `in_flight` requests are in flight.
    ///
    /// # Errors
    /// Returns the first reason to drop the arrival.
    pub fn admit(
        &self,
        arrival: &Arrival,
        demand: Demand,
        now: Instant,
        in_flight: u64,
    ) -> Result<Permit, DropReason> {
        if self.draining.is_cancelled() {
            Err(DropReason::Draining)
        } else if self.paused.is_on() {
            Err(DropReason::Paused)
        } else if now.saturating_duration_since(arrival.due) > self.max_lag {
            Err(DropReason::Late)
        } else if in_flight >= u64::from(self.max_concurrency.get()) {
            Err(DropReason::MaxConcurrency)
        } else {
            self.admit_unmeasured(demand, now)
        }
    }

    /// Decides about a warm-up request. Only the limits that protect the target and the account
    /// apply to it.
    ///
    /// # Errors
    /// Returns the first reason not to send the request now.
    pub fn admit_unmeasured(&self, demand: Demand, now: Instant) -> Result<Permit, DropReason> {
        if let Some(limiter) = &self.rate_limiter
            && !limiter.try_admit(demand, now)
        {
            return Err(DropReason::RateLimit);
        }
        Ok(Permit::new(self.rate_limiter.clone()))
    }
}

/// The pause of the load. All clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pause(Arc<AtomicBool>);

impl Pause {
    /// Returns true if this changed something.
    pub fn set(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::Relaxed) != on
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RateLimits;

    #[test]
    fn an_arrival_is_dropped_for_the_first_reason_that_applies() {
        let (draining, paused) = (CancellationToken::new(), Pause::default());
        let two = NonZeroU32::new(2).unwrap();
        let due = Instant::now();
        let one_a_minute = RateLimits { requests: NonZeroU32::new(1), ..RateLimits::default() };
        let limiter = Arc::new(RateLimiter::new(one_a_minute, due));
        let guard = Guard::new(draining.clone(), paused.clone(), Duration::from_millis(500), two)
            .with_rate_limiter(Some(limiter));
        let arrival = Arrival { k: 0, due, phase: None, lengths: None };
        let admit = |now, in_flight| guard.admit(&arrival, Demand::NONE, now, in_flight).map(drop);
        let late = due + Duration::from_millis(501);
        assert_eq!(admit(due + Duration::from_millis(500), 1), Ok(()));
        assert_eq!(admit(due, 1), Err(DropReason::RateLimit));
        assert_eq!(admit(due, 2), Err(DropReason::MaxConcurrency));
        assert_eq!(admit(late, 2), Err(DropReason::Late));
        assert!(paused.set(true) && !paused.set(true));
        assert_eq!(admit(late, 2), Err(DropReason::Paused));
        draining.cancel();
        assert_eq!(admit(late, 2), Err(DropReason::Draining));
    }
}
