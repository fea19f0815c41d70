//! The breaker of a route (one scenario on one target). It stops the load while most requests fail.
//!
//! ```text
//!            too many failures, or `auth` or `quota`
//!   closed ──────────────────────────────────────────> open, for the pause
//!      ▲                                                 │  ▲
//!      │ the probe succeeds                              │  │ the probe fails:
//!      │                              the pause has ended│  │ the pause doubles
//!      │                                                 ▼  │
//!      └──────────────────────────────────────────── one probe
//! ```
//!
//! [`Breaker`] adds a lock to the state machine, and [`BreakerPass`] belongs to one request.

mod failure_window;
mod machine;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::BreakerChange;
use crate::measurement::Failure;
use crate::plan;
use machine::{Machine, Ticket};

#[derive(Debug)]
pub struct Breaker {
    settings: plan::Breaker,
    machine: Mutex<Machine>,
    is_replaced: AtomicBool,
}

impl Breaker {
    /// The breaker is closed first.
    pub fn new(settings: plan::Breaker) -> Arc<Breaker> {
        let machine = Mutex::new(Machine::new(settings));
        Arc::new(Breaker { settings, machine, is_replaced: AtomicBool::new(false) })
    }

    pub fn settings(&self) -> plan::Breaker {
        self.settings
    }

    /// Reports no more changes, because a reload has replaced the breaker. Its requests can still
    /// be in flight.
    pub fn set_replaced(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Returns `None` if the breaker is closed. If it is open, returns the time until the next
    /// probe, which is zero during a probe.
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        self.machine().open_for(now)
    }

    /// Returns `None` if the breaker drops the arrival.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Option<BreakerPass> {
        let ticket = self.machine().admit(now)?;
        Some(BreakerPass { breaker: Arc::clone(self), ticket: Some(ticket) })
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // No change of the state panics half-way.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the outcome of one request to its breaker. If it is dropped, the outcome is unknown.
/// Then the request does not count, and the next arrival can be the probe.
#[derive(Debug)]
pub(super) struct BreakerPass {
    breaker: Arc<Breaker>,
    ticket: Option<Ticket>,
}

impl BreakerPass {
    pub(super) fn finish(
        mut self,
        failure: Option<Failure>,
        now: Instant,
    ) -> Option<BreakerChange> {
        let ticket = self.ticket.take()?;
        let change = self.breaker.machine().record(ticket, failure, now);
        change.filter(|_| !self.breaker.is_replaced.load(Ordering::Relaxed))
    }
}

impl Drop for BreakerPass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.machine().abandon(ticket);
        }
    }
}
