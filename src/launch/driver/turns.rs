//! The later turns of sessions. A turn is due when its think time has passed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Driver, Source, Step};
use crate::event::{Arrival, SessionEnd};
use crate::launch::session::{DueTurn, Session, TurnQueue};

/// The sessions of the driver that are in their think time.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BinaryHeap<Reverse<WaitingTurn>>,
    /// The number of turns so far. Of two turns with the same due time, the older one is first.
    collected: u64,
    queue: Arc<TurnQueue>,
}

#[derive(Debug)]
struct WaitingTurn {
    due: Instant,
    number: u64,
    session: Box<Session>,
}

impl Turns {
    /// The queue through which sessions return to the driver.
    pub(super) fn queue(&self) -> Arc<TurnQueue> {
        Arc::clone(&self.queue)
    }

    pub(super) fn collect_returned(&mut self) {
        for DueTurn { due, session } in self.queue.take() {
            let number = self.collected;
            self.collected += 1;
            self.waiting.push(Reverse(WaitingTurn { due, number, session }));
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|turn| turn.0.due)
    }

    fn take_due(&mut self, until: Instant) -> Option<WaitingTurn> {
        self.next_due().filter(|due| *due <= until)?;
        self.waiting.pop().map(|turn| turn.0)
    }

    /// Ends all sessions: those in their think time now, and each other one after its current turn.
    pub(super) fn end_all(&mut self, reason: SessionEnd) {
        std::mem::take(&mut self.queue).close(reason);
        for turn in self.waiting.drain() {
            turn.0.session.end_early(reason);
        }
    }
}

impl Driver {
    /// Ends all sessions. No turn follows any more.
    pub fn end_sessions(&mut self, reason: SessionEnd) {
        self.turns.end_all(reason);
    }

    /// Returns the step that launches the next turn that was due until the instant `until`.
    pub(super) fn step_turn(&mut self, until: Instant) -> Option<Step> {
        let WaitingTurn { due, session, .. } = self.turns.take_due(until)?;
        let phase = match &self.source {
            Some(Source::Schedule(pacer)) => pacer.phase_at(due),
            Some(Source::Override(_)) | None => None,
        };
        let Session { k, lengths, turn, .. } = *session;
        let arrival = Arrival { k, due, phase, lengths, turn };
        Some(Step::Launch(arrival, None, Some(session)))
    }
}

impl PartialEq for WaitingTurn {
    fn eq(&self, other: &WaitingTurn) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WaitingTurn {}

impl PartialOrd for WaitingTurn {
    fn partial_cmp(&self, other: &WaitingTurn) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WaitingTurn {
    fn cmp(&self, other: &WaitingTurn) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
