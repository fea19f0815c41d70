//! The part of a route (one scenario on one target) that survives a reload: its counts, its
//! requests in flight, and the state of its guards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use super::cancellation::Cancellation;
use crate::guard::{Breaker, RateLimiter};
use crate::ledger::Ledger;
use crate::plan;

#[derive(Debug, Default)]
pub struct RouteState {
    /// The counts of all arrivals.
    pub ledger: Arc<Ledger>,
    /// The tasks of the requests in flight. A task ends slightly later than its request, because
    /// the task still reads the rest of the response body.
    pub tasks: TaskTracker,
    /// Aborts the requests in flight.
    pub cancellation: Cancellation,
    guards: Mutex<Guards>,
}

#[derive(Debug, Default)]
struct Guards {
    breaker: Option<Arc<Breaker>>,
    rate_limiter: Option<Arc<RateLimiter>>,
}

impl RouteState {
    /// `None` if the scenario has no breaker.
    pub fn breaker(&self) -> Option<Arc<Breaker>> {
        self.guards().breaker.clone()
    }

    /// Returns a breaker with these settings. If the settings are unchanged, the breaker keeps its
    /// state.
    pub fn set_breaker(&self, settings: Option<plan::Breaker>) -> Option<Arc<Breaker>> {
        let mut guards = self.guards();
        if guards.breaker.as_ref().map(|breaker| breaker.settings()) != settings {
            guards.breaker = settings.map(Breaker::new);
        }
        guards.breaker.clone()
    }

    /// `None` if the target has no rate limits.
    pub fn rate_limiter(&self) -> Option<Arc<RateLimiter>> {
        self.guards().rate_limiter.clone()
    }

    pub fn set_rate_limiter(&self, rate_limiter: Option<Arc<RateLimiter>>) {
        self.guards().rate_limiter = rate_limiter;
    }

    fn guards(&self) -> MutexGuard<'_, Guards> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
