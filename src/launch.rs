//! The open loop, and the closed loop of a concurrency phase.
//!
//! [`Driver`] decides what happens next and is a synchronous value. Two thin shells obey it: a
//! thread of its own, which sleeps to a tenth of a millisecond where tokio's timer wheel knows
//! whole ones, and a task on tokio's clock, for tests on paused time. Either waits for the clock
//! and for the stop signal, and for nothing else: what cannot be sent at once is dropped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoint::{Endpoint, Request};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::{Order, exchange};
use crate::guard::Guard;
use crate::ledger::{Ledger, Started};
use crate::measurement::{Failure, FailureDetail};
use crate::pacer::{Next, Pacer};
use crate::plan::{RequestParameters, Timeouts};
use crate::prompts::Prompts;
use crate::protocol::{Terminal, chat};

/// A slot of a closed loop whose attempt failed or was refused is not used again before this long
/// after that attempt, so that a target that refuses everything is not hammered.
const REST: Duration = Duration::from_secs(1);

/// How many launches the task shell makes before it lets others run.
const BATCH: u32 = 64;

/// What all requests of one stream of load have in common.
#[derive(Debug)]
pub struct Lane<E, O> {
    /// Where they go.
    pub endpoint: E,
    /// The model they name.
    pub model: String,
    /// What they ask.
    pub prompts: Prompts,
    /// The scenario's name: each draws its own prompts.
    pub scenario: String,
    /// The seed that prompts follow from.
    pub seed: u64,
    /// Their parameters.
    pub parameters: RequestParameters,
    /// Which end proves an answer complete.
    pub terminal: Terminal,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Every reason not to send.
    pub guard: Guard,
    /// The books.
    pub ledger: Arc<Ledger>,
    /// Who is told.
    pub observer: O,
    /// Cut off what is still in flight.
    pub cut: CancellationToken,
    /// The requests in flight.
    pub tasks: TaskTracker,
}

impl<E: Endpoint, O: Observe + 'static> Lane<E, O> {
    /// Sends an arrival on `runtime` or drops it, at once.
    fn launch(self: &Arc<Self>, arrival: Arrival, slot: Option<Slot>, runtime: &Handle) {
        let now = Instant::now();
        let admit = |in_flight| self.guard.admit(arrival.due, now, in_flight);
        match self.ledger.arrive(admit) {
            Ok(started) => {
                let request = Arc::clone(self).request(arrival, started, slot);
                self.tasks.spawn_on(request, runtime);
            }
            Err(reason) => self.observer.observe(Event::Dropped(reason)),
        }
    }

    async fn request(self: Arc<Self>, arrival: Arrival, started: Started, slot: Option<Slot>) {
        let asked = match self.prompts.pick(self.seed, &self.scenario, arrival.k, None) {
            Ok(asked) => asked,
            Err(unavailable) => {
                let detail = FailureDetail::new(Failure::ClientResource, &unavailable.to_string());
                let detail = self.endpoint.redact(detail);
                self.observer.observe(Event::Failed { detail: &detail, duration: Duration::ZERO });
                return started.finish(Err(detail.failure));
            }
        };
        let order = Order {
            due: arrival.due,
            request: Request {
                path: chat::PATH,
                body: chat::encode(&self.model, &self.parameters, &asked).into(),
                stream: self.parameters.stream,
            },
            model: self.model.clone(),
            terminal: self.terminal,
            timeouts: self.timeouts,
        };
        let finished = tokio::select! {
            biased;
            finished = exchange(&self.endpoint, order, &self.observer) => finished,
            () = self.cut.cancelled() => return drop(started),
        };
        // Entered before the slot is free, so that whoever takes it does not find the place taken.
        started.finish(finished.outcome);
        if let Some(mut slot) = slot {
            slot.succeeded = finished.outcome.is_ok();
        }
        tokio::select! {
            () = finished.farewell() => {}
            () = self.cut.cancelled() => {}
        }
    }
}

/// What happens next.
#[derive(Debug)]
enum Step {
    /// Send this one; in a closed loop, for this slot.
    Launch(Arrival, Option<Slot>),
    /// Nothing before this instant, unless a slot becomes free.
    Wait(Instant),
    /// Nothing ever again.
    End,
}

/// Arrivals by the schedule, and by the slots that become free in a closed-loop phase.
#[derive(Debug)]
pub struct Driver {
    pacer: Pacer,
    slots: Slots,
    returned: Arc<Returned>,
    next: u64,
}

impl Driver {
    /// A driver whose arrivals are those of `pacer`.
    pub fn new(pacer: Pacer) -> Driver {
        Driver { pacer, slots: Slots::default(), returned: Arc::default(), next: 0 }
    }

    fn step(&mut self, now: Instant) -> Step {
        for slot in self.returned.take() {
            self.slots.put_back(slot);
        }
        match self.pacer.poll(now) {
            Next::Due(due) => Step::Launch(self.arrival(due), None),
            Next::Closed { slots, since, until } => match self.slots.take(slots, since, now) {
                Ok(due) => {
                    let returned = Arc::clone(&self.returned);
                    let slot = Slot { attempted: now, succeeded: false, returned };
                    Step::Launch(self.arrival(due), Some(slot))
                }
                Err(rested) => Step::Wait(rested.map_or(until, |at| at.min(until))),
            },
            Next::Wait(until) => Step::Wait(until),
            Next::End => Step::End,
        }
    }

    fn arrival(&mut self, due: Instant) -> Arrival {
        let k = self.next;
        self.next += 1;
        Arrival { k, due }
    }

    /// Runs on the current thread until the schedule ends or `stop` is cancelled; wake the thread
    /// after cancelling. Requests run on `runtime`.
    pub fn run<E, O>(mut self, lane: &Arc<Lane<E, O>>, runtime: &Handle, stop: &CancellationToken)
    where
        E: Endpoint,
        O: Observe + 'static,
    {
        self.returned.wake(Wake::Thread(std::thread::current()));
        while !stop.is_cancelled() {
            let now = Instant::now();
            match self.step(now) {
                Step::Launch(arrival, slot) => lane.launch(arrival, slot, runtime),
                Step::Wait(until) => std::thread::park_timeout(until.saturating_duration_since(now)),
                Step::End => return,
            }
        }
    }

    /// The same on tokio's clock, in the current runtime.
    pub async fn run_on_tokio<E, O>(mut self, lane: &Arc<Lane<E, O>>, stop: &CancellationToken)
    where
        E: Endpoint,
        O: Observe + 'static,
    {
        let runtime = Handle::current();
        let woken = Arc::new(Notify::new());
        self.returned.wake(Wake::Task(Arc::clone(&woken)));
        let mut launched = 0;
        while !stop.is_cancelled() {
            match self.step(Instant::now()) {
                Step::Launch(arrival, slot) => {
                    lane.launch(arrival, slot, &runtime);
                    launched += 1;
                    if launched % BATCH == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Step::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = woken.notified() => {}
                    () = stop.cancelled() => {}
                },
                Step::End => return,
            }
        }
    }
}

/// The slots of a closed loop. They outlive their phase: a request that is still in flight when
/// the next closed phase begins holds one of its slots.
#[derive(Debug, Default)]
struct Slots {
    busy: usize,
    /// When each slot that was used and returned became free.
    free: VecDeque<Instant>,
    /// When each slot may be used again after a failure.
    resting: BinaryHeap<Reverse<Instant>>,
}

impl Slots {
    /// Takes one of `limit` slots in a phase that began at `since`: from when on it was free, or
    /// else when the next one has rested.
    fn take(&mut self, limit: NonZeroU32, since: Instant, now: Instant) -> Result<Instant, Option<Instant>> {
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

    fn put_back(&mut self, slot: Return) {
        self.busy = self.busy.saturating_sub(1);
        let rested = slot.attempted + REST;
        if slot.succeeded {
            self.free.push_back(slot.at);
        } else if rested > slot.at {
            self.resting.push(Reverse(rested));
        } else {
            self.free.push_back(slot.at);
        }
    }
}

/// A slot in use. However its request ends, it comes back.
#[derive(Debug)]
struct Slot {
    attempted: Instant,
    succeeded: bool,
    returned: Arc<Returned>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slot = Return { at: Instant::now(), attempted: self.attempted, succeeded: self.succeeded };
        self.returned.put(slot);
    }
}

#[derive(Clone, Copy, Debug)]
struct Return {
    at: Instant,
    attempted: Instant,
    succeeded: bool,
}

/// Slots on their way back to the driver; never more than are in use.
#[derive(Debug, Default)]
struct Returned(Mutex<(Vec<Return>, Wake)>);

impl Returned {
    fn put(&self, slot: Return) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.push(slot);
        match &inner.1 {
            Wake::Nobody => {}
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(task) => task.notify_one(),
        }
    }

    fn take(&self) -> Vec<Return> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn wake(&self, wake: Wake) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = wake;
    }
}

#[derive(Debug, Default)]
enum Wake {
    #[default]
    Nobody,
    Thread(Thread),
    Task(Arc<Notify>),
}
