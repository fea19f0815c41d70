//! The observer of a route (one scenario on one target). It passes each event to everything that
//! measures or displays the route.

use std::sync::Arc;

use crate::event::{Arrival, Event, Observe};
use crate::incidents::Incidents;
use crate::launch::ReadinessGate;
use crate::metrics::RouteMetrics;
use crate::recent::Recent;
use crate::tally::Tally;

/// All receivers of the events of one route.
#[derive(Debug)]
pub struct RouteObserver {
    /// The Prometheus series of the route.
    pub metrics: RouteMetrics,
    /// The latest failures.
    pub incidents: Arc<Incidents>,
    /// The measurements of the last minutes.
    pub recent: Arc<Recent>,
    /// Holds the next cycle while the target is away.
    pub readiness: Arc<ReadinessGate>,
    /// Aggregates the measurements of a run for its report. `None` in a daemon.
    pub tally: Option<Arc<Tally>>,
}

impl Observe for RouteObserver {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        self.metrics.observe(arrival, event);
        self.incidents.observe(arrival, event);
        self.recent.observe(arrival, event);
        match event {
            Event::ResponseHead { status } => self.readiness.target_responded(status),
            Event::Failed { detail, .. } if detail.failure.is_connecting() => {
                self.readiness.connection_failed();
            }
            _ => {}
        }
        if let Some(tally) = &self.tally {
            tally.observe(arrival, event);
        }
    }
}
