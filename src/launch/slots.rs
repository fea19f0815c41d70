//! The slots of a closed loop. One slot allows one request in flight. This module knows which slots
//! are in use, and when a request can use a slot again.
//!
//! Each request holds a [`Slot`]. When the request ends, on any thread, it drops the slot. The drop
//! puts the slot into the [`ReturnQueue`]. The driver moves the slots from this queue back to
//! [`Slots`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The shortest time between two attempts in a slot, if the first attempt failed or was dropped.
/// Without this limit, llmload would flood a target that refuses every request.
const FAILURE_BACKOFF: Duration = Duration::from_secs(1);

/// All slots of a scenario. Slots are not reset between phases: a request that is still in flight
/// when the next closed-loop phase begins counts towards the limit of that phase.
#[derive(Debug, Default)]
pub(super) struct Slots {
    busy: usize,
    /// For each free slot that was used before: the instant at which the slot became free.
    free: VecDeque<Instant>,
    /// For each slot whose request failed or was dropped: the instant at which the backoff ends.
    backing_off: BinaryHeap<Reverse<Instant>>,
    returns: Arc<ReturnQueue>,
}

impl Slots {
    /// Returns the queue through which slots return to the driver.
    pub fn returns(&self) -> Arc<ReturnQueue> {
        Arc::clone(&self.returns)
    }

    /// Takes one of `limit` slots, in a phase that began at `phase_start`. Returns the slot, and
    /// the instant since which it has been free. If the slot became free before the phase began,
    /// this instant is `phase_start`.
    ///
    /// # Errors
    /// Fails if no slot is free. The error is the instant at which the first backoff ends, or
    /// `None` if no slot is in backoff.
    pub fn acquire(
        &mut self,
        limit: NonZeroU32,
        phase_start: Instant,
        now: Instant,
    ) -> Result<(Instant, Arc<Slot>), Option<Instant>> {
        while let Some(end) = self.next_backoff_end().filter(|end| *end <= now) {
            self.backing_off.pop();
            self.free.push_back(end);
        }
        if self.busy + self.backing_off.len() >= limit.get() as usize {
            // All `limit` slots are in use or in backoff. Any other free slots are left over from a
            // phase with a higher limit, so they are removed.
            self.free.clear();
            return Err(self.next_backoff_end());
        }
        self.busy += 1;
        let free_since = self.free.pop_front().map_or(phase_start, |free| free.max(phase_start));
        Ok((free_since, Slot::new(now, true, &self.returns)))
    }

    /// Takes a slot for an arrival of an open loop. No limit applies, and nobody uses the slot
    /// again.
    pub fn acquire_uncounted(&mut self, now: Instant) -> Arc<Slot> {
        self.busy += 1;
        Slot::new(now, false, &self.returns)
    }

    /// Returns true if a request holds a slot.
    pub fn has_busy(&self) -> bool {
        self.busy > 0
    }

    /// Takes back all slots whose requests have ended.
    pub fn collect_returned(&mut self) {
        for slot in self.returns.take() {
            self.busy = self.busy.saturating_sub(1);
            if !slot.is_reusable {
                continue;
            }
            let backoff_end = slot.attempted_at + FAILURE_BACKOFF;
            if slot.has_failed && backoff_end > slot.returned_at {
                self.backing_off.push(Reverse(backoff_end));
            } else {
                self.free.push_back(slot.returned_at);
            }
        }
    }

    fn next_backoff_end(&self) -> Option<Instant> {
        self.backing_off.peek().map(|end| end.0)
    }
}

/// A slot in use. If a scenario has several targets, an arrival is sent to each of them, and these
/// requests share one slot. When the last of these requests ends, `drop` returns the slot to the
/// driver.
#[derive(Debug)]
pub struct Slot {
    attempted_at: Instant,
    /// False for an arrival of an open loop, which only marks its request as in flight.
    is_reusable: bool,
    has_failed: AtomicBool,
    returns: Arc<ReturnQueue>,
}

impl Slot {
    fn new(attempted_at: Instant, is_reusable: bool, returns: &Arc<ReturnQueue>) -> Arc<Slot> {
        let has_failed = AtomicBool::new(false);
        Arc::new(Slot { attempted_at, is_reusable, has_failed, returns: Arc::clone(returns) })
    }

    /// Records that a request in this slot failed or was dropped.
    pub(super) fn set_failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.returns.put(ReturnedSlot {
            returned_at: Instant::now(),
            attempted_at: self.attempted_at,
            is_reusable: self.is_reusable,
            has_failed: *self.has_failed.get_mut(),
        });
    }
}

/// The slots that requests have returned and that the driver has not collected yet. The number of
/// slots limits the size of this queue.
#[derive(Debug, Default)]
pub(super) struct ReturnQueue {
    slots: Mutex<Vec<ReturnedSlot>>,
    notify: Notify,
}

#[derive(Debug)]
struct ReturnedSlot {
    returned_at: Instant,
    attempted_at: Instant,
    is_reusable: bool,
    has_failed: bool,
}

impl ReturnQueue {
    fn put(&self, slot: ReturnedSlot) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<ReturnedSlot> {
        std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a slot. Returns at once if a slot has returned since the last call.
    pub async fn returned(&self) {
        self.notify.notified().await;
    }
}
