//! A route (one scenario on one target). It sends each arrival at once, or drops the arrival.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Launch;
use super::LaunchContext;
use super::paired::RequestContext;
use super::route_state::RouteState;
use super::session::{Session, Sessions};
use super::template::RequestTemplate;
use crate::endpoint::Endpoint;
use crate::event::{Arrival, DropReason, Event, Observe, SessionEnd};
use crate::exchange::{Finished, RequestSpec, exchange};
use crate::guard::{Demand, Guard, Permit};
use crate::ledger::InFlightGuard;
use crate::measurement::FailureDetail;
use crate::plan;

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
    /// The sessions, and their settings. `None` if each arrival is a single request.
    pub sessions: Option<(Arc<Sessions>, plan::Sessions)>,
    /// The counts of the arrivals (the ledger), and the requests in flight.
    pub state: Arc<RouteState>,
}

impl<E: Endpoint, O: Observe + 'static> Launch for Arc<Route<E, O>> {
    fn launch(&self, arrival: Arrival, context: LaunchContext, runtime: &Handle) {
        if self.sessions.is_some() || context.session.is_some() {
            self.send_turn(arrival, context, runtime);
        } else {
            self.send(arrival, RequestContext { slot: context.slot, pair: None }, runtime);
        }
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
        match self.admit(&arrival, 0) {
            Ok(admitted) => {
                let request = Arc::clone(self).request(arrival, admitted, context);
                self.state.tasks.spawn_on(request, runtime);
            }
            Err(reason) => {
                context.end(None);
                self.observer.observe(&arrival, Event::Dropped(reason));
            }
        }
    }

    /// Sends a turn of a session as a new task, or drops it and ends the session.
    fn send_turn(self: &Arc<Self>, arrival: Arrival, context: LaunchContext, runtime: &Handle) {
        let LaunchContext { slot, session, turns } = context;
        let sessions = self.sessions.as_ref();
        let session = match session {
            // A reload has replaced the conversations.
            Some(session) if !session.is_of(sessions.map(|(sessions, _)| sessions)) => {
                return session.end_early(SessionEnd::Reload);
            }
            session => session,
        };
        let Some((sessions, _)) = sessions else { return };
        let history = session.as_ref().map_or(0, |session| session.history_bytes());
        match self.admit(&arrival, history) {
            Ok(admitted) => {
                let scenario = &self.template.prompts.scenario;
                let start = || Session::start(sessions, scenario, &arrival, slot, turns);
                let session = session.unwrap_or_else(start);
                let request = Arc::clone(self).turn(arrival, admitted, session);
                self.state.tasks.spawn_on(request, runtime);
            }
            Err(reason) => {
                match session {
                    Some(session) => session.end_early(SessionEnd::Dropped),
                    None => RequestContext { slot, pair: None }.end(None),
                }
                self.observer.observe(&arrival, Event::Dropped(reason));
            }
        }
    }

    /// Counts the arrival. Returns its places in the ledger and at the guard, or the reason to drop
    /// it.
    fn admit(
        &self,
        arrival: &Arrival,
        history: u64,
    ) -> Result<(InFlightGuard, Permit), DropReason> {
        let now = Instant::now();
        // Before the lock of the ledger, because no other arrival must wait for the estimate.
        let needs_demand = self.guard.needs_demand();
        let demand =
            if needs_demand { self.template.demand(arrival, history) } else { Demand::NONE };
        let time = (now, SystemTime::now());
        let admit = |in_flight| self.guard.admit(arrival, demand, time, in_flight);
        self.state.ledger.record_arrival(admit)
    }

    async fn request(
        self: Arc<Self>,
        arrival: Arrival,
        admitted: (InFlightGuard, Permit),
        context: RequestContext,
    ) {
        let build = || self.template.request_spec(arrival);
        let Ok(finished) = self.exchange(arrival, admitted, build).await else { return };
        context.end(finished.outcome.ok());
        self.drain(finished).await;
    }

    async fn turn(
        self: Arc<Self>,
        arrival: Arrival,
        admitted: (InFlightGuard, Permit),
        mut session: Box<Session>,
    ) {
        let Some((_, settings)) = &self.sessions else { return };
        let build = || self.template.turn_spec(&mut session, settings);
        let Ok(mut finished) = self.exchange(arrival, admitted, build).await else {
            return session.end_early(SessionEnd::Aborted);
        };
        match finished.outcome {
            Ok(_) => session.end_turn(finished.answer.take(), finished.end, settings),
            Err(_) => session.end_early(SessionEnd::Failed),
        }
        self.drain(finished).await;
    }

    /// Executes one request.
    ///
    /// # Errors
    /// llmload aborted the request.
    async fn exchange(
        &self,
        arrival: Arrival,
        (in_flight, permit): (InFlightGuard, Permit),
        build: impl FnOnce() -> Result<RequestSpec, FailureDetail>,
    ) -> Result<Finished<E::Response>, Aborted> {
        let cancellation = &self.state.cancellation;
        let finished = tokio::select! {
            biased;
            finished = exchange(&*self.endpoint, arrival, build, &self.observer) => finished,
            reason = cancellation.cancelled() => {
                in_flight.abort(reason);
                return Err(Aborted);
            }
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
        Ok(finished)
    }

    async fn drain(&self, finished: Finished<E::Response>) {
        if !self.guard.can_drain(self.state.tasks.len()) {
            // A fast server that leaves its responses open could otherwise use up all files.
            return;
        }
        tokio::select! {
            () = finished.drain_body() => {}
            _ = self.state.cancellation.cancelled() => {}
        }
    }
}

/// llmload aborted the request.
struct Aborted;
