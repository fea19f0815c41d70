//! The time in which a phase was active, over all its occurrences in the cycles of a schedule.

use std::time::Duration;

use tokio::time::Instant;

/// The time in which a phase was active, summed over its occurrences. An occurrence lasts from its
/// first due instant to the last end of its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveTime {
    whole: Option<(Instant, Instant)>,
    /// The current occurrence, or the last one.
    current: Option<(Instant, Instant)>,
    /// The total length of all earlier occurrences, and the end of the latest of them.
    earlier: Duration,
    earlier_end: Option<Instant>,
}

impl ActiveTime {
    /// Starts a new occurrence.
    pub(super) fn start_occurrence(&mut self) {
        if let Some((first, last)) = self.current.take() {
            self.earlier += last.saturating_duration_since(first);
            self.earlier_end = Some(last);
        }
    }

    /// Extends the active time by a request from its due instant to its end.
    pub(super) fn extend(&mut self, due: Instant, end: Instant) {
        let widen = |span: Option<(Instant, Instant)>| match span {
            Some((first, last)) => (first.min(due), last.max(end)),
            None => (due, end),
        };
        self.whole = Some(widen(self.whole));
        // A slow request of an earlier occurrence can end after a new one has started.
        match self.earlier_end {
            Some(ended) if due < ended || self.current.is_some_and(|(first, _)| due < first) => {
                self.earlier += end.saturating_duration_since(ended);
                self.earlier_end = Some(ended.max(end));
            }
            _ => self.current = Some(widen(self.current)),
        }
    }

    /// Extends the active time by the whole span of another.
    pub(super) fn merge(&mut self, other: &ActiveTime) {
        if let Some((first, last)) = other.whole {
            self.extend(first, last);
        }
    }

    /// The sum of all occurrences.
    pub fn length(&self) -> Duration {
        self.earlier
            + self
                .current
                .map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_time_of_three_occurrences_is_their_sum() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut active = ActiveTime::default();
        for start in [0, 60, 120] {
            active.start_occurrence();
            active.extend(at(start), at(start + 1));
            active.extend(at(start + 9), at(start + 10));
        }
        assert_eq!(active.length(), Duration::from_secs(30));
        // A request of the second occurrence ends during the third and extends the second.
        active.extend(at(69), at(75));
        assert_eq!(active.length(), Duration::from_secs(35));
        let mut whole = ActiveTime::default();
        whole.merge(&active);
        assert_eq!(whole.length(), Duration::from_secs(130));
        assert_eq!(ActiveTime::default().length(), Duration::ZERO);
    }
}
