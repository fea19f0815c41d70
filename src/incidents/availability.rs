//! The availability of a target, judged by the requests to it. An outage makes two log lines: one
//! at its beginning and one at its end.

use std::time::Duration;

use tokio::time::Instant;

/// The number of consecutive unreachable requests that make an outage. A server that fails now and
/// then is available.
const OUTAGE: u64 = 3;
/// The shortest time between two logged outages: a flapping target must not fill the log.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The availability of one target.
#[derive(Debug, Default)]
pub(super) struct Availability {
    /// Unreachable requests since the last reachable one.
    unreachable: u64,
    /// The beginning of the outage, if it was logged and has not ended.
    outage_since: Option<Instant>,
    /// The beginning of the last logged outage.
    last_logged: Option<Instant>,
}

/// A change to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Unavailable,
    Available {
        /// The duration of the outage.
        after: Duration,
        /// The number of unreachable requests of the outage.
        unreachable: u64,
    },
}

impl Availability {
    /// Notes a request. It is unreachable if no connection was made or the status was 5xx.
    pub(super) fn note(&mut self, reachable: bool, now: Instant) -> Option<Change> {
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

    /// Notes one request per character, `x` for an unreachable one, and returns the changes with
    /// the index of their request.
    fn changes(requests: &str, interval: Duration) -> Vec<(usize, Change)> {
        let (mut availability, mut now) = (Availability::default(), Instant::now());
        let mut changes = Vec::new();
        for (index, request) in requests.chars().enumerate() {
            changes.extend(availability.note(request != 'x', now).map(|change| (index, change)));
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
