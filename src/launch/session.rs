//! A session in progress: a conversation of several turns, each of which is a request.
//!
//! Exactly one owner holds a [`Session`]: the request of its current turn, or the driver during the
//! think time. The owner passes it on, or ends it with a reason. The ledger counts a session whose
//! owner drops it.
//!
//! ```text
//! first turn is sent ─> request ─> TurnQueue ─> driver ─> request ─> … ─> completed
//! ```

mod history;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use self::history::{History, follow_calls};
use super::slots::Slot;
use crate::event::{Arrival, SessionEnd};
use crate::guard::SessionLimit;
use crate::ledger::{SessionGuard, SessionLedger};
use crate::plan;
use crate::prompts::{Prompts, Turn};
use crate::protocol::Answer;
use crate::protocol::prompt::Message;
use crate::random::Fnv;
use crate::schedule::Lengths;

/// The sessions of a route that follow the same conversations. After a reload with other
/// conversations, a session of the old ones cannot continue.
#[derive(Debug)]
pub struct Sessions {
    prompts: Prompts,
    seed: u64,
    state: Arc<SessionState>,
}

/// The state of all sessions of a route, which survives a reload.
#[derive(Debug, Default)]
pub struct SessionState {
    pub ledger: Arc<SessionLedger>,
    /// The length of all histories, in bytes.
    history_bytes: Arc<AtomicU64>,
}

impl SessionState {
    /// The length of all histories, in bytes.
    pub fn history_bytes(&self) -> u64 {
        self.history_bytes.load(Ordering::Relaxed)
    }
}

impl Sessions {
    pub(super) fn new(prompts: Prompts, seed: u64, state: &Arc<SessionState>) -> Sessions {
        Sessions { prompts, seed, state: Arc::clone(state) }
    }

    pub(super) fn has_same_conversations(&self, prompts: &Prompts, seed: u64) -> bool {
        self.seed == seed && self.prompts == *prompts
    }

    pub fn limit(&self, most: NonZeroU32) -> SessionLimit {
        SessionLimit { ledger: Arc::clone(&self.state.ledger), most }
    }
}

#[derive(Debug)]
pub struct Session {
    /// The number of the session in the schedule.
    pub(super) k: u64,
    pub(super) lengths: Option<Lengths>,
    /// The number of the current turn, from 0.
    pub(super) turn: u32,
    /// The value of the session header.
    id: u64,
    history: History,
    /// The current turn, after its request was built.
    current: Turn,
    /// In a closed loop, the slot of the session.
    slot: Option<Arc<Slot>>,
    sessions: Arc<Sessions>,
    queue: Arc<TurnQueue>,
    guard: SessionGuard,
}

impl Session {
    /// Starts the session of an arrival whose first turn llmload sends.
    pub(super) fn start(
        sessions: &Arc<Sessions>,
        scenario: &str,
        arrival: &Arrival,
        slot: Option<Arc<Slot>>,
        queue: Arc<TurnQueue>,
    ) -> Box<Session> {
        let mut id = Fnv::default();
        id.update(scenario.as_bytes());
        let phase = arrival.phase.map_or(u64::MAX, |phase| phase as u64);
        for number in [sessions.seed, phase, arrival.k] {
            id.update(&number.to_le_bytes());
        }
        Box::new(Session {
            k: arrival.k,
            lengths: arrival.lengths,
            turn: 0,
            id: id.0,
            history: History::new(&sessions.state.history_bytes),
            current: Turn::default(),
            slot,
            sessions: Arc::clone(sessions),
            queue,
            guard: sessions.state.ledger.start(),
        })
    }

    /// Returns true if the session follows these conversations.
    pub(super) fn is_of(&self, sessions: Option<&Arc<Sessions>>) -> bool {
        sessions.is_some_and(|sessions| Arc::ptr_eq(sessions, &self.sessions))
    }

    /// The value of the session header. It depends only on the seed, the scenario, the phase and
    /// the number of the session.
    pub fn id(&self) -> String {
        format!("{:016x}", self.id)
    }

    /// The length of the history in bytes.
    pub(super) fn history_bytes(&self) -> u64 {
        self.history.bytes()
    }

    /// Begins a turn. With live answers, the messages of a recorded turn follow the tool calls that
    /// the model really made.
    pub(super) fn begin_turn(&mut self, mut turn: Turn, history: plan::History) {
        if history == plan::History::Live {
            let calls = self.history.last_calls();
            turn.messages = follow_calls(calls, std::mem::take(&mut turn.messages));
        }
        self.current = turn;
    }

    pub(super) fn current_turn(&self) -> &Turn {
        &self.current
    }

    pub(super) fn has_next_turn(&self) -> bool {
        self.current.think_time.is_some()
    }

    /// The messages of the current turn, after those of the earlier turns.
    pub(super) fn messages(&self) -> Vec<Message<'_>> {
        let all = self.history.messages().iter().chain(&self.current.messages);
        all.map(Message::borrowed).collect()
    }

    /// Ends the session before its last turn.
    pub(super) fn end_early(self, reason: SessionEnd) {
        let is_our_reason =
            matches!(reason, SessionEnd::ScheduleEnd | SessionEnd::Reload | SessionEnd::Shutdown);
        if let (Some(slot), false) = (&self.slot, is_our_reason) {
            slot.set_failed();
        }
        self.guard.end_early(reason);
        // The ledger counts the end before the slot is free.
        drop(self.slot);
    }

    /// Passes the session to the driver after a turn that succeeded at the instant `end`. After the
    /// last turn, the session is complete.
    pub(super) fn end_turn(
        mut self: Box<Self>,
        answer: Option<Answer>,
        end: Instant,
        settings: &plan::Sessions,
    ) {
        let turn = std::mem::take(&mut self.current);
        let Some(think_time) = turn.think_time else {
            self.guard.complete();
            drop(self.slot);
            return;
        };
        let answer = answer.unwrap_or_default();
        let is_cut = answer.is_cut;
        let answer = match settings.history {
            plan::History::Recorded => turn.recorded,
            plan::History::Live => vec![history::message(answer, self.turn)],
        };
        self.history.extend(turn.messages.into_iter().chain(answer));
        let is_cut = is_cut && settings.history == plan::History::Live;
        if is_cut || self.history.bytes_of_all() > settings.max_history {
            return self.end_early(SessionEnd::TooLarge);
        }
        self.turn += 1;
        let queue = Arc::clone(&self.queue);
        queue.put(DueTurn { due: end + think_time, session: self });
    }
}

/// The next turn of a session.
#[derive(Debug)]
pub struct DueTurn {
    pub(super) due: Instant,
    pub(super) session: Box<Session>,
}

/// The turns that requests have returned and that the driver has not collected yet. The number of
/// sessions limits the size of this queue.
#[derive(Debug, Default)]
pub struct TurnQueue {
    returned: Mutex<Returned>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Returned {
    turns: Vec<DueTurn>,
    /// The reason for which no turn can follow any more.
    closed: Option<SessionEnd>,
}

impl TurnQueue {
    /// Passes a turn to the driver. If the queue is closed, ends the session.
    fn put(&self, turn: DueTurn) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = returned.closed {
            drop(returned);
            return turn.session.end_early(reason);
        }
        returned.turns.push(turn);
        drop(returned);
        self.notify.notify_one();
    }

    pub(super) fn take(&self) -> Vec<DueTurn> {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut returned.turns)
    }

    /// Ends all sessions whose turns are in the queue, or arrive later.
    pub(super) fn close(&self, reason: SessionEnd) {
        let turns = {
            let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
            returned.closed.get_or_insert(reason);
            std::mem::take(&mut returned.turns)
        };
        for turn in turns {
            turn.session.end_early(reason);
        }
    }

    /// Waits for a turn. Returns at once if a turn has returned since the last call.
    pub(super) async fn returned(&self) {
        self.notify.notified().await;
    }
}
