//! Passes each event of a route to the metrics, the status page and the report. A route is one
//! scenario on one target.

use std::sync::Arc;

use crate::archive::RouteArchive;
use crate::event::{Arrival, Event, Observe};
use crate::incidents::Incidents;
use crate::launch::ReadinessGate;
use crate::metrics::RouteMetrics;
use crate::recent::Recent;
use crate::tally::{StepMeter, Tally};

#[derive(Debug)]
pub struct RouteObserver {
    pub metrics: RouteMetrics,
    /// The latest failures.
    pub incidents: Arc<Incidents>,
    /// The measurements of the last minutes.
    pub recent: Arc<Recent>,
    /// Archives the failed requests.
    pub archive: RouteArchive,
    /// Holds the next cycle while the target is away.
    pub readiness: Arc<ReadinessGate>,
    /// The values for the report of a run; `None` in a daemon.
    pub tally: Option<Arc<Tally>>,
    /// Counts the requests of searches.
    pub steps: Arc<StepMeter>,
}

impl Observe for RouteObserver {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        self.metrics.observe(arrival, event);
        self.incidents.observe(arrival, event);
        self.recent.observe(arrival, event);
        self.archive.observe(arrival, event);
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
        self.steps.observe(arrival, event);
    }

    fn needs_evidence(&self) -> bool {
        self.archive.needs_evidence()
    }
}
