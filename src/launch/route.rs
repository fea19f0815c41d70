//! A route (one scenario on one target). It sends each arrival at once, or drops the arrival.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Launch;
use super::paired::RequestContext;
use super::route_state::RouteState;
use super::slots::Slot;
use super::template::RequestTemplate;
use crate::endpoint::Endpoint;
use crate::event::{Arrival, Event, Observe};
use crate::exchange::exchange;
use crate::guard::{Demand, Guard, Permit};
use crate::ledger::InFlightGuard;

/// Everything that sends the requests of one scenario to one target. A reload replaces the route,
/// but the [`RouteState`] continues.
#[derive(Debug)]
pub struct Route<E, O> {
    /// The name of the target.
    pub target: String,
    /// The client of the target.
    pub endpoint: Arc<E>,
    /// Builds the request of each arrival.
    pub template: RequestTemplate,
    /// Decides which arrivals to drop.
    pub guard: Guard,
    /// Receives an event for everything that happens to an arrival.
    pub observer: O,
    /// The counts of the arrivals (the ledger), and the requests in flight.
    pub state: Arc<RouteState>,
}

impl<E: Endpoint, O: Observe + 'static> Launch for Arc<Route<E, O>> {
    fn launch(&self, arrival: Arrival, slot: Option<Arc<Slot>>, runtime: &Handle) {
        self.send(arrival, RequestContext { slot, pair: None }, runtime);
    }

    fn has_requests_in_flight(&self) -> bool {
        self.state.ledger.counts().in_flight > 0
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
        // Before the lock of the ledger, because no other arrival must wait for the estimate.
        let needs_demand = self.guard.needs_demand();
        let demand = if needs_demand { self.template.demand(&arrival) } else { Demand::NONE };
        let time = (now, SystemTime::now());
        let admit = |in_flight| self.guard.admit(&arrival, demand, time, in_flight);
        match self.state.ledger.record_arrival(admit) {
            Ok((in_flight, permit)) => {
                let request = Arc::clone(self).request(arrival, (in_flight, permit), context);
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
        (in_flight, permit): (InFlightGuard, Permit),
        context: RequestContext,
    ) {
        let cancellation = &self.state.cancellation;
        let build = || self.template.request_spec(arrival);
        let finished = tokio::select! {
            biased;
            finished = exchange(&*self.endpoint, arrival, build, &self.observer) => finished,
            reason = cancellation.cancelled() => return in_flight.abort(reason),
        };
        // The limits must know the outcome before the next arrival in this slot.
        let change = permit.finish(&finished.request_outcome(), Instant::now());
        if let Some(change) = change {
            self.observer.observe(&arrival, Event::BreakerChanged(change));
        }
        // The ledger must count the end before the slot is free. In the other order, the next
        // arrival in this slot could be dropped at `max_concurrency`, because this request would
        // still count as in flight.
        in_flight.finish(finished.outcome.map(|_| ()));
        context.end(finished.outcome.ok());
        if !self.guard.can_drain(self.state.tasks.len()) {
            // A fast server that leaves its responses open could otherwise use up all files.
            return;
        }
        tokio::select! {
            () = finished.drain_body() => {}
            _ = cancellation.cancelled() => {}
        }
    }
}
