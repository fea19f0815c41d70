//! The requests of one arrival to several targets, and everything that waits for a request to end.

use std::sync::{Arc, Mutex, PoisonError};

use super::slots::Slot;
use crate::pairing::{PairedComparison, Timing};

/// The receivers of the end of a request: its slot in a closed loop, and its paired requests.
#[derive(Debug, Default)]
pub(super) struct RequestContext {
    pub slot: Option<Arc<Slot>>,
    /// The paired requests, and the index of this one among them.
    pub pair: Option<(Arc<PairedRequests>, usize)>,
}

impl RequestContext {
    /// Reports the end of the request: its timing, or `None` if it failed or was dropped.
    pub fn end(self, timing: Option<Timing>) {
        if let (Some(slot), None) = (&self.slot, timing) {
            slot.set_failed();
        }
        if let Some((pair, index)) = self.pair {
            pair.set_timing(index, timing);
        }
    }
}

/// The timings of the requests of one arrival, one request to each target.
///
/// Each of the requests holds a reference. When the last of them ends, `drop` compares those that
/// succeeded with the request to the first target, the baseline, if that succeeded too.
#[derive(Debug)]
pub(super) struct PairedRequests {
    timings: Mutex<Vec<Option<Timing>>>,
    differences: Arc<[Arc<PairedComparison>]>,
}

impl PairedRequests {
    pub fn new(targets: usize, differences: &Arc<[Arc<PairedComparison>]>) -> Arc<PairedRequests> {
        let timings = Mutex::new(vec![None; targets]);
        Arc::new(PairedRequests { timings, differences: Arc::clone(differences) })
    }

    fn set_timing(&self, index: usize, timing: Option<Timing>) {
        let mut timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = timings.get_mut(index) {
            *entry = timing;
        }
    }
}

impl Drop for PairedRequests {
    fn drop(&mut self) {
        let timings = self.timings.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(baseline)) = timings.first().copied() else { return };
        for (timing, difference) in timings.iter().skip(1).zip(self.differences.iter()) {
            if let Some(timing) = timing {
                difference.record(baseline, *timing);
            }
        }
    }
}
