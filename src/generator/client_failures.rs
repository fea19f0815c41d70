//! The counts of finished requests, and of requests that failed in llmload or its machine. With
//! many such failures, the target gets less load than scheduled, so the measurement is not valid.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::measurement::{ClientFault, FailureDetail};

#[derive(Debug, Default)]
pub(super) struct FinishedCounter {
    total: AtomicU64,
    /// In the order of [`ClientFault::ALL`].
    failed_by: [AtomicU64; ClientFault::ALL.len()],
}

impl FinishedCounter {
    /// `failure` is `None` if the request succeeded.
    pub(super) fn record(&self, failure: Option<&FailureDetail>) {
        self.total.fetch_add(1, Relaxed);
        if let Some(fault) = failure.and_then(ClientFault::of) {
            self.failed_by[fault as usize].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self) -> FinishedCounts {
        // The failures are read before the total. Otherwise a request that is counted in between
        // could make the failures more than the total.
        let failed_by = std::array::from_fn(|fault| self.failed_by[fault].load(Relaxed));
        FinishedCounts { failed_by, total: self.total.load(Relaxed) }
    }
}

/// The counts at one instant, or the difference of two instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FinishedCounts {
    pub(super) total: u64,
    /// In the order of [`ClientFault::ALL`].
    pub(super) failed_by: [u64; ClientFault::ALL.len()],
}

impl FinishedCounts {
    pub(super) fn since(&self, earlier: &FinishedCounts) -> FinishedCounts {
        let failed_by = std::array::from_fn(|i| self.failed_by[i] - earlier.failed_by[i]);
        FinishedCounts { failed_by, total: self.total - earlier.total }
    }

    /// Returns the number of requests that failed in llmload or its machine.
    pub(super) fn failed(&self) -> u64 {
        self.failed_by.iter().sum()
    }

    pub(super) fn most_frequent(&self) -> Option<ClientFault> {
        let causes = ClientFault::ALL.into_iter().zip(self.failed_by);
        causes.max_by_key(|(_, count)| *count).map(|(fault, _)| fault)
    }
}
