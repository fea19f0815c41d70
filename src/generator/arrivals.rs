//! The counts of arrivals that were sent or dropped as late.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::distortion::LATE;

#[derive(Debug, Default)]
pub(super) struct ArrivalCounter {
    total: AtomicU64,
    late: AtomicU64,
    late_for_streams: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ArrivalCounts {
    /// Arrivals that were sent or dropped as late.
    pub(super) total: u64,
    /// Arrivals that were sent later than [`LATE`], or dropped as late.
    pub(super) late: u64,
    /// Arrivals that are late only because they waited for a free HTTP/2 stream.
    pub(super) late_for_streams: u64,
}

impl ArrivalCounter {
    /// `waited` is the part of the dispatch lag in which the arrival waited for a stream.
    pub(super) fn record_sent(&self, lag: Duration, waited: Duration) {
        self.total.fetch_add(1, Relaxed);
        if lag > LATE {
            self.late.fetch_add(1, Relaxed);
            if lag.saturating_sub(waited) <= LATE {
                self.late_for_streams.fetch_add(1, Relaxed);
            }
        }
    }

    pub(super) fn record_late_drop(&self) {
        self.total.fetch_add(1, Relaxed);
        self.late.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> ArrivalCounts {
        // Each part is read before its total. Otherwise an arrival that is counted in between could
        // make the part larger than the total.
        let late_for_streams = self.late_for_streams.load(Relaxed);
        let late = self.late.load(Relaxed);
        ArrivalCounts { total: self.total.load(Relaxed), late, late_for_streams }
    }
}
