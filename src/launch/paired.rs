//! Paired requests: the requests of one arrival, one to each target of the scenario. This module
//! compares their timings. It also tells a slot if the request in this slot failed.

use std::sync::{Arc, Mutex, PoisonError};

use super::slots::Slot;
use crate::pairing::{PairedComparison, Timing};

/// The receivers of the result of a request: in a closed loop, the slot of the request; with
/// several targets, the paired requests.
#[derive(Debug, Default)]
pub(super) struct RequestContext {
    pub slot: Option<Arc<Slot>>,
    /// The paired requests, and the index of this request among them.
    pub pair: Option<(Arc<PairedRequests>, usize)>,
}

impl RequestContext {
    /// Passes the result of the request to the receivers. `timing` is `None` if the request failed,
    /// or if the arrival was dropped.
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
/// Each request holds a reference to this value. The first target is the baseline target. When the
/// last request ends, `drop` compares the request to the baseline target with each of the other
/// requests. Only requests that succeeded are compared.
#[derive(Debug)]
pub(super) struct PairedRequests {
    timings: Mutex<Vec<Option<Timing>>>,
    /// The position of the phase in the schedule.
    phase: Option<usize>,
    differences: Arc<[Arc<PairedComparison>]>,
}

impl PairedRequests {
    pub fn new(
        targets: usize,
        phase: Option<usize>,
        differences: &Arc<[Arc<PairedComparison>]>,
    ) -> Arc<PairedRequests> {
        let timings = Mutex::new(vec![None; targets]);
        Arc::new(PairedRequests { timings, phase, differences: Arc::clone(differences) })
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
                difference.record(self.phase, baseline, *timing);
            }
        }
    }
}
