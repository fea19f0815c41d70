//! The observer that passes the failed requests of one route (one scenario on one target) to the
//! archive.

use std::sync::Arc;
use std::time::SystemTime;

use super::Archive;
use super::record::{Draft, Mask, Origin};
use crate::event::{Arrival, Event, Observe};

/// The part of the archive that belongs to one route.
#[derive(Clone, Debug)]
pub struct RouteArchive {
    archive: Arc<Archive>,
    origin: Arc<Origin>,
}

/// The facts about a route that are in each of its records.
#[derive(Debug)]
pub struct RouteFacts<'a> {
    pub scenario: &'a str,
    pub target: &'a str,
    pub model: &'a str,
    /// The path of the requests below the base URL.
    pub path: &'static str,
    /// The names of the phases, in the order of the schedule.
    pub phases: Vec<String>,
}

impl RouteArchive {
    /// `mask` masks the secrets of the target in a text.
    pub fn new(archive: &Arc<Archive>, facts: RouteFacts<'_>, mask: Mask) -> RouteArchive {
        let RouteFacts { scenario, target, model, path, phases } = facts;
        let origin = Origin {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            model: model.to_owned(),
            path,
            phases,
            mask,
        };
        RouteArchive { archive: Arc::clone(archive), origin: Arc::new(origin) }
    }
}

impl Observe for RouteArchive {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        let Event::Failed { detail, duration, since_due, ids, evidence } = event else { return };
        let request_bytes = evidence.request.len();
        self.archive.offer(detail.failure, request_bytes, || Draft {
            origin: Arc::clone(&self.origin),
            time: SystemTime::now(),
            arrival: arrival.k,
            phase: arrival.phase,
            detail: detail.clone(),
            ids: ids.clone(),
            lag: since_due.saturating_sub(duration),
            duration,
            evidence: evidence.clone(),
        });
    }

    fn needs_evidence(&self) -> bool {
        self.archive.is_on()
    }
}
