//! The route of a scenario to one target: it sends each arrival at once, or drops it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Launch;
use super::cancellation::Cancellation;
use super::paired::RequestContext;
use super::slots::Slot;
use super::template::RequestTemplate;
use crate::endpoint::Endpoint;
use crate::event::{Arrival, Event, Observe};
use crate::exchange::exchange;
use crate::guard::Guard;
use crate::ledger::{InFlightRequest, Ledger};

/// Everything that sends the requests of one scenario to one target. A reload replaces the route
/// and keeps its [`RouteState`].
#[derive(Debug)]
pub struct Route<E, O> {
    /// The name of the target.
    pub target: String,
    /// The client of the target.
    pub endpoint: Arc<E>,
    /// Builds the request of each arrival.
    pub template: RequestTemplate,
    /// Decides which arrivals are dropped.
    pub guard: Guard,
    /// Receives everything that happens to the arrivals.
    pub observer: O,
    /// The counts, and the requests in flight.
    pub state: Arc<RouteState>,
}

/// The part of a route that survives a reload.
#[derive(Debug, Default)]
pub struct RouteState {
    /// The counts of all arrivals.
    pub ledger: Arc<Ledger>,
    /// The tasks of the requests in flight. A task ends a little after its request, when the body
    /// is drained.
    pub tasks: TaskTracker,
    /// Aborts the requests in flight.
    pub cancellation: Cancellation,
}

impl<E: Endpoint, O: Observe + 'static> Launch for Arc<Route<E, O>> {
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle) {
        self.send(arrival, RequestContext { slot, pair: None }, runtime);
    }
}

impl<E: Endpoint, O: Observe + 'static> Route<E, O> {
    /// Sends the arrival as a new task, or drops it if the guard refuses it.
    pub(super) fn send(
        self: &Arc<Self>,
        arrival: Arrival,
        context: RequestContext,
        runtime: &Handle,
    ) {
        let now = Instant::now();
        let admit = |in_flight| self.guard.admit(arrival.due, now, in_flight);
        match self.state.ledger.record_arrival(admit) {
            Ok(token) => {
                let request = Arc::clone(self).request(arrival, token, context);
                self.state.tasks.spawn_on(request, runtime);
            }
            Err(reason) => {
                context.end(None);
                self.observer.observe(&arrival, Event::Dropped(reason));
            }
        }
    }

    async fn request(
        self: Arc<Self>,
        arrival: Arrival,
        token: InFlightRequest,
        context: RequestContext,
    ) {
        let cancellation = &self.state.cancellation;
        let build = || self.template.request_spec(arrival);
        let finished = tokio::select! {
            biased;
            finished = exchange(&*self.endpoint, arrival, build, &self.observer) => finished,
            reason = cancellation.cancelled() => return token.abort(reason),
        };
        // The ledger counts the end before the slot is free. In the other order, the next request
        // of the slot could find this one still in flight, and be dropped at `max_concurrency`.
        token.finish(finished.outcome.map(|_| ()));
        context.end(finished.outcome.ok());
        tokio::select! {
            () = finished.drain_body() => {}
            _ = cancellation.cancelled() => {}
        }
    }
}
