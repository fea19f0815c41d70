//! What went wrong last, in words: for the log, with its repeats limited, and for the status page, so
//! that a wrong model or path explains itself.

mod presence;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::event::{Arrival, DropReason, Event, Observe, RequestIds};
use crate::measurement::{Failure, FailureDetail};
use crate::protocol::Trace;
use presence::{Change, Presence};

/// A class is logged at most this often; what comes in between is counted.
const QUIET: Duration = Duration::from_secs(10);

/// The last failure of each class of one stream of load.
#[derive(Debug)]
pub struct Incidents {
    scenario: String,
    target: String,
    last: Mutex<[Option<Entry>; Failure::ALL.len()]>,
    drops: Mutex<[Drops; DropReason::ALL.len()]>,
    presence: Mutex<Presence>,
}

/// Arrivals that were dropped for one reason.
#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    logged: Option<Instant>,
    unlogged: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    detail: FailureDetail,
    at: SystemTime,
    logged: Instant,
    unlogged: u64,
}

/// What is remembered of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The last failure of the class.
    pub detail: FailureDetail,
    /// When that was.
    pub at: SystemTime,
}

impl Incidents {
    /// None so far.
    pub fn new(scenario: &str, target: &str) -> Incidents {
        Incidents {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            last: Mutex::new([const { None }; Failure::ALL.len()]),
            drops: Mutex::default(),
            presence: Mutex::default(),
        }
    }

    /// The last of each class that occurred.
    pub fn last(&self) -> Vec<Incident> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let incident = |entry: &Entry| Incident { detail: entry.detail.clone(), at: entry.at };
        last.iter().flatten().map(incident).collect()
    }

    fn note(&self, detail: &FailureDetail, names: &RequestIds) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut last[detail.failure as usize];
        let before = slot.take();
        let due = before
            .as_ref()
            .is_none_or(|entry| now.saturating_duration_since(entry.logged) >= QUIET);
        let unlogged = before.as_ref().map_or(0, |entry| entry.unlogged);
        let logged = before.filter(|_| !due).map_or(now, |entry| entry.logged);
        *slot = Some(Entry {
            detail: detail.clone(),
            at: SystemTime::now(),
            logged,
            unlogged: if due { 0 } else { unlogged + 1 },
        });
        drop(last);
        if due {
            let (scenario, target) = (&self.scenario, &self.target);
            let (reason, error) = (detail.failure.as_str(), &detail.message);
            let blame = detail.failure.blame().as_str();
            let trace_id = names.trace.map(Trace::id);
            let request_id = names.request_id.as_deref();
            tracing::warn!(
                scenario,
                target,
                reason,
                blame,
                error,
                trace_id,
                request_id,
                not_logged = unlogged,
                "request failed"
            );
        }
    }
}

impl Incidents {
    /// The target answered below 500.
    pub fn answered(&self) {
        self.met(true);
    }

    fn met(&self, somebody: bool) {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let change = presence.note(somebody, Instant::now());
        drop(presence);
        let (scenario, target) = (&self.scenario, &self.target);
        match change {
            Some(Change::Away) => tracing::warn!(
                scenario,
                target,
                "the target is away: requests meet nothing but server errors, or nobody"
            ),
            Some(Change::Back { after, missed }) => {
                tracing::info!(scenario, target, away_for = ?after, requests_failed = missed, "the target answers again");
            }
            None => {}
        }
    }

    fn dropped(&self, reason: DropReason) {
        let now = Instant::now();
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let drops = &mut drops[reason as usize];
        drops.unlogged += 1;
        if drops.logged.is_some_and(|logged| now.saturating_duration_since(logged) < QUIET) {
            return;
        }
        let arrivals = std::mem::take(&mut drops.unlogged);
        drops.logged = Some(now);
        let (scenario, target, reason) = (&self.scenario, &self.target, reason.as_str());
        tracing::warn!(scenario, target, reason, arrivals, "arrivals dropped");
    }
}

impl Observe for Incidents {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::ResponseHead { status } => self.met(status < 500),
            Event::Failed { detail, ids, .. } => {
                self.note(detail, ids);
                if detail.failure.is_connecting() {
                    self.met(false);
                }
            }
            Event::Dropped(reason) => self.dropped(reason),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_each_class_are_kept() {
        let incidents = Incidents::new("s", "t");
        for words in ["first", "second"] {
            incidents.note(&FailureDetail::new(Failure::Auth, words), &RequestIds::default());
        }
        incidents.note(&FailureDetail::new(Failure::Dns, "no such host"), &RequestIds::default());
        let last = incidents.last().into_iter().map(|incident| incident.detail);
        let last: Vec<_> = last.map(|detail| (detail.failure, detail.message)).collect();
        assert_eq!(
            last,
            [(Failure::Dns, "no such host".to_owned()), (Failure::Auth, "second".to_owned())]
        );
    }
}
