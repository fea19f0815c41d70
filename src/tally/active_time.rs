//! The time in which a phase was active. A phase occurs in each cycle of the schedule, and
//! several times in a cycle if phases have the same name. This module adds the lengths of all
//! occurrences.

use std::time::Duration;

use tokio::time::Instant;

/// The total length of all occurrences of a phase. An occurrence lasts from its first due instant
/// to the last end of its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveTime {
    /// The start of the first occurrence, and the end of the last occurrence.
    span: Option<(Instant, Instant)>,
    /// The start and the end of the current occurrence. `None` before its first request.
    current: Option<(Instant, Instant)>,
    /// The total length of all earlier occurrences.
    earlier: Duration,
    /// The latest end of all earlier occurrences.
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
        self.span = Some(widen(self.span));
        // A slow request of an earlier occurrence can end after the new occurrence has started.
        match self.earlier_end {
            Some(ended) if due < ended || self.current.is_some_and(|(first, _)| due < first) => {
                self.earlier += end.saturating_duration_since(ended);
                self.earlier_end = Some(ended.max(end));
            }
            _ => self.current = Some(widen(self.current)),
        }
    }

    /// Extends the active time by another active time, from its first start to its last end.
    pub(super) fn merge(&mut self, other: &ActiveTime) {
        if let Some((first, last)) = other.span {
            self.extend(first, last);
        }
    }

    /// Returns the total length of all occurrences.
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
    fn the_active_time_is_the_sum_of_three_occurrences() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut active = ActiveTime::default();
        for start in [0, 60, 120] {
            active.start_occurrence();
            active.extend(at(start), at(start + 1));
            active.extend(at(start + 9), at(start + 10));
        }
        assert_eq!(active.length(), Duration::from_secs(30));
        // A request of the second occurrence ends during the third occurrence. Only the second
        // occurrence becomes longer.
        active.extend(at(69), at(75));
        assert_eq!(active.length(), Duration::from_secs(35));
        let mut total = ActiveTime::default();
        total.merge(&active);
        assert_eq!(total.length(), Duration::from_secs(130));
        assert_eq!(ActiveTime::default().length(), Duration::ZERO);
    }
}
