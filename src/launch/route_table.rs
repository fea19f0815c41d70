//! The routes of a scenario, one for each target. A reload can replace the routes while the
//! schedule runs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::paired::{PairedRequests, RequestContext};
use super::route::Route;
use super::{Launch, LaunchContext};
use crate::endpoint::Endpoint;
use crate::event::{Arrival, Observe};
use crate::pairing::PairedComparison;

/// The routes of a scenario, and the comparisons of the other targets with the baseline target.
#[derive(Debug)]
pub struct RouteSet<E, O> {
    /// At least one route, in the order of the scenario's targets. The first target is the baseline
    /// target.
    pub routes: Vec<Arc<Route<E, O>>>,
    /// One comparison for each route except the first.
    pub differences: Arc<[Arc<PairedComparison>]>,
}

/// The current routes of a running scenario.
#[derive(Debug)]
pub struct RouteTable<E, O>(Mutex<Arc<RouteSet<E, O>>>);

impl<E, O> RouteTable<E, O> {
    pub fn new(routes: RouteSet<E, O>) -> RouteTable<E, O> {
        RouteTable(Mutex::new(Arc::new(routes)))
    }

    /// Replaces the routes. All later arrivals use the new routes.
    pub fn replace(&self, routes: RouteSet<E, O>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// Returns the current routes.
    pub fn current(&self) -> Arc<RouteSet<E, O>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<E: Endpoint, O: Observe + 'static> Launch for RouteTable<E, O> {
    fn launch(&self, arrival: Arrival, context: LaunchContext, runtime: &Handle) {
        let set = self.current();
        if let [only] = set.routes.as_slice() {
            return only.launch(arrival, context, runtime);
        }
        // The configuration allows no sessions with several targets.
        let pair = PairedRequests::new(set.routes.len(), arrival.phase, &set.differences);
        for (index, route) in set.routes.iter().enumerate() {
            let pair = Some((Arc::clone(&pair), index));
            let slot = context.slot.clone();
            route.send(arrival, RequestContext { slot, pair }, runtime);
        }
    }

    fn has_requests_in_flight(&self) -> bool {
        self.current().routes.iter().any(Launch::has_requests_in_flight)
    }
}
