//! Whether a target is there, judged by what becomes of the requests to it, so that the log tells of an
//! outage in two lines: when it begins, and when it is over.

use std::time::Duration;

use tokio::time::Instant;

/// So many in a row that met nobody are an outage. A server that fails now and then is there.
const IN_A_ROW: u64 = 3;
/// From one outage that is told of to the next: what comes and goes is not told each time.
const APART: Duration = Duration::from_mins(1);

/// What is remembered of one target.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Requests that met nobody since the last that met somebody.
    missed: u64,
    /// Since when it is away, where that was told.
    away: Option<Instant>,
    /// When that was told last.
    told: Option<Instant>,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is away.
    Away,
    /// It is there again.
    Back {
        /// For how long it was away.
        after: Duration,
        /// How many requests met nobody meanwhile.
        missed: u64,
    },
}

impl Presence {
    /// A request met somebody, or nobody.
    pub(super) fn note(&mut self, there: bool, now: Instant) -> Option<Change> {
        if there {
            let missed = std::mem::take(&mut self.missed);
            let after = now.saturating_duration_since(self.away.take()?);
            return Some(Change::Back { after, missed });
        }
        self.missed += 1;
        let early = self.told.is_some_and(|told| now.saturating_duration_since(told) < APART);
        if self.away.is_some() || early || self.missed < IN_A_ROW {
            return None;
        }
        (self.away, self.told) = (Some(now), Some(now));
        Some(Change::Away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of requests so far apart, `x` for those that met nobody.
    fn told(requests: &str, apart: Duration) -> Vec<(usize, Change)> {
        let (mut presence, mut now) = (Presence::default(), Instant::now());
        let mut told = Vec::new();
        for (index, request) in requests.chars().enumerate() {
            told.extend(presence.note(request != 'x', now).map(|change| (index, change)));
            now += apart;
        }
        told
    }

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
        let second = Duration::from_secs(1);
        let back = Change::Back { after: 3 * second, missed: 5 };
        assert_eq!(told("..xxxxx...", second), [(4, Change::Away), (7, back)]);
        assert_eq!(told(&"xx.".repeat(1000), second), [], "it fails now and then");
    }

    #[test]
    fn what_comes_and_goes_is_told_once_a_minute() {
        let told = told(&"xxxx.".repeat(2400), Duration::from_millis(100));
        assert_eq!(told.len(), 40, "of twenty minutes");
        assert!(told.chunks(2).all(|pair| pair[0].1 == Change::Away && pair[1].1 != Change::Away));
    }
}
