//! The open loop, and the closed loop of a concurrency phase: arrivals become requests, at once or
//! not at all.
//!
//! [`Driver`] decides what happens next. A [`Route`] leads from a scenario to a target and holds what
//! all requests there have in common: what cannot be sent at once is dropped. A reload puts another
//! lane in its place; the [`RouteState`], which is the books and what is in flight, goes on.

mod alarm;
mod driver;
mod mailbox;
mod slots;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::endpoint::{Endpoint, Request};
use crate::event::{AbortReason, Arrival, Event, Observe};
use crate::exchange::{RequestSpec, exchange};
use crate::guard::Guard;
use crate::ledger::{Ledger, Started};
use crate::measurement::{Failure, FailureDetail};
use crate::pairing::{PairedDifference, Timing};
use crate::plan::{RequestParameters, Timeouts};
use crate::prompts::Prompts;
use crate::protocol::{Dialect, Terminal, Trace};
use crate::random::unique_number;

pub use alarm::Alarm;
pub use driver::Driver;
pub use mailbox::Mailbox;
pub use slots::Slot;

/// Who takes an arrival.
pub trait Launch {
    /// Sends it on `runtime` or drops it, at once; in a closed loop it holds the slot until it ends.
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle);
}

/// What a request has beside its lane: the slot of a closed loop, and the others of its arrival.
#[derive(Debug, Default)]
struct RequestContext {
    slot: Option<Arc<Slot>>,
    pair: Option<(Arc<PairedRequests>, usize)>,
}

impl RequestContext {
    /// The request has ended: what it took, if it succeeded.
    fn done(self, timing: Option<Timing>) {
        if let (Some(slot), None) = (&self.slot, timing) {
            slot.failed();
        }
        if let Some((pair, index)) = self.pair {
            pair.ended(index, timing);
        }
    }
}

/// The requests of one arrival to several targets. When the last of them has ended, those that the
/// first target finished too are compared with it.
#[derive(Debug)]
struct PairedRequests {
    timing: Mutex<Vec<Option<Timing>>>,
    differences: Arc<[Arc<PairedDifference>]>,
}

impl PairedRequests {
    fn ended(&self, index: usize, timing: Option<Timing>) {
        if let Some(context) =
            self.timing.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index)
        {
            *context = timing;
        }
    }
}

impl Drop for PairedRequests {
    fn drop(&mut self) {
        let timing = self.timing.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(Some(baseline)) = timing.first().copied() else { return };
        for (timing, difference) in timing.iter().skip(1).zip(self.differences.iter()) {
            if let Some(timing) = timing {
                difference.enter(baseline, *timing);
            }
        }
    }
}

/// The way from a scenario to a target: what all requests on it have in common.
#[derive(Debug)]
pub struct Route<E, O> {
    /// The name of the target.
    pub target: String,
    /// Where they go.
    pub endpoint: Arc<E>,
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
    /// How the target wants to be spoken to.
    pub dialect: Dialect,
    /// Whether each of them carries a trace context.
    pub traceparent: bool,
    /// Which end proves an answer complete.
    pub terminal: Terminal,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Every reason not to send.
    pub guard: Guard,
    /// Who is told.
    pub observer: O,
    /// The books, and what is in flight.
    pub state: Arc<RouteState>,
}

/// What is counted and in flight of one stream of load, whatever becomes of the terms it is sent on.
#[derive(Debug, Default)]
pub struct RouteState {
    /// The books.
    pub ledger: Arc<Ledger>,
    /// The requests in flight.
    pub tasks: TaskTracker,
    /// Cuts them off.
    pub cancellation: Cancellation,
}

impl<E: Endpoint, O: Observe + 'static> Launch for Arc<Route<E, O>> {
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle) {
        self.send(arrival, RequestContext { slot, pair: None }, runtime);
    }
}

impl<E: Endpoint, O: Observe + 'static> Route<E, O> {
    fn send(self: &Arc<Self>, arrival: Arrival, context: RequestContext, runtime: &Handle) {
        let now = Instant::now();
        let admit = |in_flight| self.guard.admit(arrival.due, now, in_flight);
        match self.state.ledger.arrive(admit) {
            Ok(started) => {
                let request = Arc::clone(self).request(arrival, started, context);
                self.state.tasks.spawn_on(request, runtime);
            }
            Err(reason) => {
                context.done(None);
                self.observer.observe(&arrival, Event::Dropped(reason));
            }
        }
    }

    async fn request(self: Arc<Self>, arrival: Arrival, started: Started, context: RequestContext) {
        let cancellation = &self.state.cancellation;
        let finished = tokio::select! {
            biased;
            finished = exchange(&*self.endpoint, arrival, || self.request_spec(arrival), &self.observer) => finished,
            reason = cancellation.cancelled() => return started.abort(reason),
        };
        // Entered before the slot is free, so that whoever takes it does not find the place taken.
        started.finish(finished.outcome.map(|_| ()));
        context.done(finished.outcome.ok());
        tokio::select! {
            () = finished.drain_body() => {}
            _ = cancellation.cancelled() => {}
        }
    }
}

impl<E, O> Route<E, O> {
    /// What an arrival sends.
    ///
    /// # Errors
    /// If its prompt cannot be read any more.
    pub fn request_spec(&self, arrival: Arrival) -> Result<RequestSpec, FailureDetail> {
        let asked = self.prompts.prompt_for(self.seed, &self.scenario, arrival.k, arrival.lengths);
        let asked = asked.map_err(|unavailable| {
            FailureDetail::new(Failure::ClientResource, &unavailable.to_string())
        })?;
        Ok(RequestSpec {
            request: Request {
                path: self.dialect.path(),
                body: self.dialect.encode(&self.model, &self.parameters, &asked).into(),
                stream: self.parameters.stream,
                trace: self
                    .traceparent
                    .then(|| Trace::new(unique_number(), unique_number(), unique_number())),
            },
            model: self.model.clone(),
            terminal: self.terminal,
            usage_asked: self.dialect.include_usage,
            timeouts: self.timeouts,
        })
    }
}

/// The lanes of a scenario, one to each of its targets. They may be exchanged while it runs.
#[derive(Debug)]
pub struct RouteTable<E, O>(Mutex<Arc<RouteSet<E, O>>>);

/// The lanes, and how each but the first differs from the first.
#[derive(Debug)]
pub struct RouteSet<E, O> {
    /// At least one.
    pub routes: Vec<Arc<Route<E, O>>>,
    /// One less.
    pub differences: Arc<[Arc<PairedDifference>]>,
}

impl<E, O> RouteTable<E, O> {
    /// These.
    pub fn new(routes: RouteSet<E, O>) -> RouteTable<E, O> {
        RouteTable(Mutex::new(Arc::new(routes)))
    }

    /// From now on, arrivals go to these.
    pub fn exchange(&self, routes: RouteSet<E, O>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Those that arrivals go to.
    pub fn now(&self) -> Arc<RouteSet<E, O>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<E: Endpoint, O: Observe + 'static> Launch for RouteTable<E, O> {
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle) {
        let routes = self.now();
        if let [only] = routes.routes.as_slice() {
            return only.launch(arrival, slot, runtime);
        }
        let timing = Mutex::new(vec![None; routes.routes.len()]);
        let pair =
            Arc::new(PairedRequests { timing, differences: Arc::clone(&routes.differences) });
        for (index, route) in routes.routes.iter().enumerate() {
            let pair = Some((Arc::clone(&pair), index));
            route.send(arrival, RequestContext { slot: slot.clone(), pair }, runtime);
        }
    }
}

/// Cuts off the requests of a lane, once, for a reason.
#[derive(Debug, Default)]
pub struct Cancellation {
    reason: OnceLock<AbortReason>,
    token: CancellationToken,
}

impl Cancellation {
    /// Cuts off what is in flight.
    pub fn cancel(&self, reason: AbortReason) {
        let _first = self.reason.set(reason);
        self.token.cancel();
    }

    async fn cancelled(&self) -> AbortReason {
        self.token.cancelled().await;
        *self.reason.get_or_init(|| AbortReason::Shutdown)
    }
}

/// Whether the cycles of a schedule may begin: shut while its target is away.
#[derive(Debug)]
pub struct ReadinessGate {
    open: AtomicBool,
    asked: Notify,
}

impl Default for ReadinessGate {
    fn default() -> ReadinessGate {
        ReadinessGate { open: AtomicBool::new(true), asked: Notify::new() }
    }
}

impl ReadinessGate {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Shuts it: what comes next waits.
    pub fn shut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Opens it.
    pub fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Somebody waits before it.
    fn ask(&self) {
        self.asked.notify_one();
    }

    /// Until somebody waits before it.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// It sees what becomes of requests: a target that cannot be connected to, or answers with a server
/// error, is away until it answers otherwise.
impl Observe for ReadinessGate {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Answered { status } => self.open.store(status < 500, Ordering::Relaxed),
            Event::Failed { detail, .. } if detail.failure.is_connecting() => {
                self.shut();
            }
            _ => {}
        }
    }
}
