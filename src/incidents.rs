//! Logs failures, dropped arrivals, outages and used-up budgets, and keeps the last failure of each
//! class for the status page.
//!
//! A log line contains the message of the server, which often names the problem, such as a wrong
//! model. For ten seconds after it, failures of the same class are counted but not logged.

mod availability;
mod budgets;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::config::HumanDuration;
use crate::event::{Arrival, BreakerChange, DropReason, Event, Observe, RequestIds};
use crate::measurement::{Failure, FailureDetail};
use crate::protocol::Trace;
use availability::{Availability, Change};
pub use budgets::watch_budgets;

/// The shortest time between two log lines about the same failure class or drop reason.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The last failure of each class on one route (one scenario on one target). As an [`Observe`], it
/// logs failures, dropped arrivals and outages.
#[derive(Debug)]
pub struct Incidents {
    scenario: String,
    target: String,
    failures: Mutex<[Option<Entry>; Failure::ALL.len()]>,
    drops: Mutex<[Drops; DropReason::ALL.len()]>,
    availability: Mutex<Availability>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    logged_at: Option<Instant>,
    /// The arrivals dropped since the last log line.
    not_logged: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    detail: FailureDetail,
    first_at: SystemTime,
    at: SystemTime,
    logged_at: Instant,
    /// The failures since the last log line.
    not_logged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    pub detail: FailureDetail,
    /// The time of the first failure of the class.
    pub first_at: SystemTime,
    pub at: SystemTime,
}

impl Incidents {
    pub fn new(scenario: &str, target: &str) -> Incidents {
        Incidents {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            failures: Mutex::new([const { None }; Failure::ALL.len()]),
            drops: Mutex::default(),
            availability: Mutex::default(),
        }
    }

    /// Returns the last failure of each class that had one.
    pub fn last_failures(&self) -> Vec<LastFailure> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |entry: &Entry| LastFailure {
            detail: entry.detail.clone(),
            first_at: entry.first_at,
            at: entry.at,
        };
        failures.iter().flatten().map(last).collect()
    }

    /// Reports a response below status 500 to a request outside of the schedule, such as a
    /// readiness check.
    pub fn target_answered(&self) {
        self.note_availability(true);
    }

    fn failed(&self, detail: &FailureDetail, ids: &RequestIds) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut failures[detail.failure as usize];
        let before = slot.take();
        let due = before
            .as_ref()
            .is_none_or(|entry| now.saturating_duration_since(entry.logged_at) >= LOG_INTERVAL);
        let not_logged = before.as_ref().map_or(0, |entry| entry.not_logged);
        let at = SystemTime::now();
        let first_at = before.as_ref().map_or(at, |entry| entry.first_at);
        let logged_at = before.filter(|_| !due).map_or(now, |entry| entry.logged_at);
        *slot = Some(Entry {
            detail: detail.clone(),
            first_at,
            at,
            logged_at,
            not_logged: if due { 0 } else { not_logged + 1 },
        });
        drop(failures);
        if due {
            self.log_failure(detail, ids, not_logged);
        }
    }

    fn log_failure(&self, detail: &FailureDetail, ids: &RequestIds, not_logged: u64) {
        let (scenario, target) = (&self.scenario, &self.target);
        let (reason, error) = (detail.failure.as_str(), &detail.message);
        let blame = detail.failure.blame().as_str();
        let trace_id = ids.trace.map(Trace::id);
        let request_id = ids.request_id.as_deref();
        let not_logged = (not_logged > 0).then_some(not_logged);
        tracing::warn!(
            scenario,
            target,
            reason,
            blame,
            error,
            trace_id,
            request_id,
            not_logged,
            "request failed"
        );
    }

    fn note_availability(&self, reachable: bool) {
        let mut availability = self.availability.lock().unwrap_or_else(PoisonError::into_inner);
        let change = availability.record(reachable, Instant::now());
        drop(availability);
        let (scenario, target) = (&self.scenario, &self.target);
        match change {
            Some(Change::Unavailable) => tracing::warn!(
                scenario,
                target,
                "target unavailable: requests get a server error or no connection"
            ),
            Some(Change::Available { after, unreachable }) => {
                tracing::info!(
                    scenario,
                    target,
                    away_for = ?after,
                    requests_failed = unreachable,
                    "target available again"
                );
            }
            None => {}
        }
    }

    fn breaker_changed(&self, change: BreakerChange) {
        let (scenario, target) = (&self.scenario, &self.target);
        match change {
            BreakerChange::Opened { cause, pause } => tracing::warn!(
                scenario,
                target,
                "breaker open: {cause}; llmload drops all arrivals, and sends a probe request after {}",
                HumanDuration(pause)
            ),
            BreakerChange::Closed { after } => tracing::info!(
                scenario,
                target,
                open_for = ?after,
                "breaker closed, because its probe request succeeded"
            ),
        }
    }

    fn dropped(&self, reason: DropReason) {
        let now = Instant::now();
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let drops = &mut drops[reason as usize];
        drops.not_logged += 1;
        let too_soon = drops
            .logged_at
            .is_some_and(|logged| now.saturating_duration_since(logged) < LOG_INTERVAL);
        if too_soon {
            return;
        }
        let arrivals = std::mem::take(&mut drops.not_logged);
        drops.logged_at = Some(now);
        let (scenario, target, reason) = (&self.scenario, &self.target, reason.as_str());
        tracing::warn!(scenario, target, reason, arrivals, "arrivals dropped");
    }
}

impl Observe for Incidents {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::ResponseHead { status } => self.note_availability(status < 500),
            Event::Failed { detail, ids, .. } => {
                self.failed(detail, ids);
                if detail.failure.is_connecting() {
                    self.note_availability(false);
                }
            }
            Event::Dropped(reason) => self.dropped(reason),
            Event::BreakerChanged(change) => self.breaker_changed(change),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_failure_of_each_class_is_kept() {
        let incidents = Incidents::new("s", "t");
        for message in ["first", "second"] {
            incidents.failed(&FailureDetail::new(Failure::Auth, message), &RequestIds::default());
        }
        let no_host = FailureDetail::new(Failure::Dns, "no such host");
        incidents.failed(&no_host, &RequestIds::default());
        let last = incidents.last_failures().into_iter().map(|last| last.detail);
        let last: Vec<_> = last.map(|detail| (detail.failure, detail.message)).collect();
        assert_eq!(
            last,
            [(Failure::Dns, "no such host".to_owned()), (Failure::Auth, "second".to_owned())]
        );
    }
}
