//! The gate that holds the next cycle of a scenario while its target is away.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The readiness of a target, as its requests show it: away after a failed connection or a server
/// error, ready after any other response.
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
    /// Returns true if the next cycle may begin.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets cycles begin again.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Records the status of a response. A server error closes the gate, any other response opens
    /// it.
    pub fn target_responded(&self, status: u16) {
        self.open.store(status < 500, Ordering::Relaxed);
    }

    /// Closes the gate, because the target could not be connected to.
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
