//! The gate at which the next cycle of a scenario waits while its target does not respond or
//! responds with server errors.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The readiness of a target, derived from its requests. A failed connection or a server error
/// closes the gate. Any other response opens the gate.
#[derive(Debug)]
pub struct ReadinessGate {
    open: AtomicBool,
    cycle_waits: Notify,
}

impl Default for ReadinessGate {
    fn default() -> ReadinessGate {
        ReadinessGate { open: AtomicBool::new(true), cycle_waits: Notify::new() }
    }
}

impl ReadinessGate {
    /// Returns true if the next cycle can begin.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets cycles begin again.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Records the status of a response. A server error closes the gate, and any other response
    /// opens the gate.
    pub fn target_responded(&self, status: u16) {
        self.open.store(status < 500, Ordering::Relaxed);
    }

    /// Closes the gate, because llmload could not connect to the target.
    pub fn connection_failed(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Records that a cycle waits at the gate.
    pub(super) fn set_cycle_waiting(&self) {
        self.cycle_waits.notify_one();
    }

    /// Waits until a cycle waits at the gate.
    pub async fn cycle_waiting(&self) {
        self.cycle_waits.notified().await;
    }
}
