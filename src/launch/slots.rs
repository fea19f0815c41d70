//! The slots of a closed loop: who holds one, and when it may be used again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::mailbox::Mailbox;

/// A slot of a closed loop whose attempt failed or was refused is not used again before this long
/// after that attempt, so that a target that refuses everything is not hammered.
const REST: Duration = Duration::from_secs(1);

/// They outlive their phase: a request that is still in flight when the next closed phase begins
/// holds one of its slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    busy: usize,
    /// When each slot that was used and returned became free.
    free: VecDeque<Instant>,
    /// When each slot may be used again after a failure.
    resting: BinaryHeap<Reverse<Instant>>,
}

impl Slots {
    /// Takes one of `limit` slots in a phase that began at `since`: from when on it was free, or
    /// else when the next one has rested.
    pub(super) fn take(
        &mut self,
        limit: NonZeroU32,
        since: Instant,
        now: Instant,
    ) -> Result<Instant, Option<Instant>> {
        while let Some(rested) = self.resting.peek().map(|r| r.0).filter(|at| *at <= now) {
            self.resting.pop();
            self.free.push_back(rested);
        }
        let limit = limit.get() as usize;
        if self.busy + self.resting.len() >= limit {
            // What is left came from a phase with more slots.
            self.free.clear();
            return Err(self.resting.peek().map(|r| r.0));
        }
        self.busy += 1;
        Ok(self.free.pop_front().map_or(since, |free| free.max(since)))
    }

    /// Whether no request holds one.
    pub(super) fn are_free(&self) -> bool {
        self.busy == 0
    }

    pub(super) fn put_back(&mut self, slot: Return) {
        self.busy = self.busy.saturating_sub(1);
        let rested = slot.attempted + REST;
        if slot.failed && rested > slot.at {
            self.resting.push(Reverse(rested));
        } else {
            self.free.push_back(slot.at);
        }
    }
}

/// A slot in use, held by the request to each target. When the last of them has ended, however it
/// did, it comes back.
#[derive(Debug)]
pub struct Slot {
    attempted: Instant,
    failed: AtomicBool,
    mailbox: Arc<Mailbox>,
}

impl Slot {
    pub(super) fn new(attempted: Instant, mailbox: &Arc<Mailbox>) -> Arc<Slot> {
        Arc::new(Slot { attempted, failed: AtomicBool::new(false), mailbox: Arc::clone(mailbox) })
    }

    /// An attempt in it failed or was refused.
    pub(super) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let failed = *self.failed.get_mut();
        self.mailbox.put_back(Return { at: Instant::now(), attempted: self.attempted, failed });
    }
}

/// A slot on its way back to the driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    at: Instant,
    attempted: Instant,
    failed: bool,
}
