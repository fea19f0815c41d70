//! The availability of a target, as seen by the requests that llmload sends to it. An outage causes
//! two log lines: one at its beginning and one at its end.
//!
//! This module calls a request unreachable if it could not connect to the server, or if the server
//! responded with a 5xx status. It calls all other requests reachable.

use std::time::Duration;

use tokio::time::Instant;

/// An outage begins after this number of consecutive unreachable requests. Occasional failures are
/// not an outage.
const OUTAGE: u64 = 3;
/// The shortest time between the beginnings of two logged outages. It prevents a flapping target
/// from filling the log.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The availability of one target.
#[derive(Debug, Default)]
pub(super) struct Availability {
    /// The number of unreachable requests since the last reachable request.
    unreachable: u64,
    /// The beginning of the current outage. `None` if there is no outage or it was not logged.
    outage_since: Option<Instant>,
    /// The beginning of the last logged outage.
    last_logged: Option<Instant>,
}

/// A change of the availability that must be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Unavailable,
    Available {
        /// The duration of the outage.
        after: Duration,
        /// The number of unreachable requests during the outage.
        unreachable: u64,
    },
}

impl Availability {
    /// Records one request, and returns the change if the request begins or ends a logged outage.
    pub(super) fn record(&mut self, reachable: bool, now: Instant) -> Option<Change> {
        if reachable {
            let unreachable = std::mem::take(&mut self.unreachable);
            let after = now.saturating_duration_since(self.outage_since.take()?);
            return Some(Change::Available { after, unreachable });
        }
        self.unreachable += 1;
        let too_soon = self
            .last_logged
            .is_some_and(|logged| now.saturating_duration_since(logged) < LOG_INTERVAL);
        if self.outage_since.is_some() || too_soon || self.unreachable < OUTAGE {
            return None;
        }
        self.outage_since = Some(now);
        self.last_logged = Some(now);
        Some(Change::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records one request for each character: `x` is an unreachable request, any other character
    /// is a reachable request. Returns the changes, each with the index of the request that caused
    /// it.
    fn changes(requests: &str, interval: Duration) -> Vec<(usize, Change)> {
        let (mut availability, mut now) = (Availability::default(), Instant::now());
        let mut changes = Vec::new();
        for (index, request) in requests.chars().enumerate() {
            changes.extend(availability.record(request != 'x', now).map(|change| (index, change)));
            now += interval;
        }
        changes
    }

    #[test]
    fn an_outage_is_logged_at_its_beginning_and_at_its_end() {
        let second = Duration::from_secs(1);
        let available = Change::Available { after: 3 * second, unreachable: 5 };
        let expected = [(4, Change::Unavailable), (7, available)];
        assert_eq!(changes("..xxxxx...", second), expected);
        assert_eq!(changes(&"xx.".repeat(1000), second), [], "occasional failures");
    }

    #[test]
    fn a_flapping_target_is_logged_once_a_minute() {
        let changes = changes(&"xxxx.".repeat(2400), Duration::from_millis(100));
        assert_eq!(changes.len(), 40, "in twenty minutes");
        assert!(
            changes
                .chunks(2)
                .all(|pair| pair[0].1 == Change::Unavailable && pair[1].1 != Change::Unavailable)
        );
    }
}
