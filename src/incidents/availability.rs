//! The availability of a target. An outage causes two log lines: at its start and at its end.
//!
//! A request is *unreachable* if llmload could not connect, or if the server responded with a 5xx
//! status. Any other request is *reachable*.

use std::time::Duration;

use tokio::time::Instant;

/// An outage begins after this many unreachable requests in a row.
const OUTAGE: u64 = 3;
/// The shortest time between the starts of two logged outages, so that a flapping target does not
/// fill the log.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Availability {
    /// The unreachable requests since the last reachable one.
    unreachable: u64,
    /// The start of the current outage. `None` without an outage, and if it was not logged.
    outage_since: Option<Instant>,
    /// The start of the last logged outage.
    last_logged: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Unavailable,
    Available {
        after: Duration,
        /// The unreachable requests during the outage.
        unreachable: u64,
    },
}

impl Availability {
    /// Records a request, and returns the change if it begins or ends a logged outage.
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

    /// Records a request for each character: `x` is unreachable, any other character is reachable.
    /// Returns the changes with the index of the request.
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
