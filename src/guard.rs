//! Decides whether llmload sends or drops an arrival.
//!
//! The guard never waits. If several reasons to drop an arrival apply, it returns the first one in
//! a fixed order.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::DropReason;
use crate::plan::connection_limit;

/// The guard of a route, which is one scenario on one target.
#[derive(Clone, Debug)]
pub struct Guard {
    draining: CancellationToken,
    paused: Pause,
    max_lag: Duration,
    max_concurrency: NonZeroU32,
}

impl Guard {
    /// Refuses every arrival while `paused` is on, and after `draining` is cancelled.
    pub fn new(
        draining: CancellationToken,
        paused: Pause,
        max_lag: Duration,
        max_concurrency: NonZeroU32,
    ) -> Guard {
        Guard { draining, paused, max_lag, max_concurrency }
    }

    /// Returns true if a request that has ended can keep its connection, to read the remaining
    /// body. `connections` is the number of open connections of the route.
    pub fn can_drain(&self, connections: usize) -> bool {
        connections as u64 <= connection_limit(self.max_concurrency)
    }

    /// Decides about an arrival that was due at `due`, while `in_flight` requests are in flight.
    ///
    /// # Errors
    /// Returns the first reason to drop the arrival.
    pub fn admit(&self, due: Instant, now: Instant, in_flight: u64) -> Result<(), DropReason> {
        if self.draining.is_cancelled() {
            Err(DropReason::Draining)
        } else if self.paused.is_on() {
            Err(DropReason::Paused)
        } else if now.saturating_duration_since(due) > self.max_lag {
            Err(DropReason::Late)
        } else if in_flight >= u64::from(self.max_concurrency.get()) {
            Err(DropReason::MaxConcurrency)
        } else {
            Ok(())
        }
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

    #[test]
    fn an_arrival_is_dropped_for_the_first_reason_that_applies() {
        let (draining, paused) = (CancellationToken::new(), Pause::default());
        let two = NonZeroU32::new(2).unwrap();
        let guard = Guard::new(draining.clone(), paused.clone(), Duration::from_millis(500), two);
        let due = Instant::now();
        let late = due + Duration::from_millis(501);
        assert_eq!(guard.admit(due, due + Duration::from_millis(500), 1), Ok(()));
        assert_eq!(guard.admit(due, due, 2), Err(DropReason::MaxConcurrency));
        assert_eq!(guard.admit(due, late, 2), Err(DropReason::Late));
        assert!(paused.set(true) && !paused.set(true));
        assert_eq!(guard.admit(due, late, 2), Err(DropReason::Paused));
        draining.cancel();
        assert_eq!(guard.admit(due, late, 2), Err(DropReason::Draining));
    }
}
