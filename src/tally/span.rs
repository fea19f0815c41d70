//! For how long something was on that comes and goes: the phases of one name.

use std::time::Duration;

use tokio::time::Instant;

/// From the first due instant to the last end, of all, and of each time that it was on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    whole: Option<(Instant, Instant)>,
    /// The time that it is on now, or was last.
    now: Option<(Instant, Instant)>,
    /// How long it was on before that, and when that ended.
    before: Duration,
    before_ended: Option<Instant>,
}

impl Span {
    /// It is on anew: what is due from here on is another time.
    pub(super) fn comes(&mut self) {
        if let Some((first, last)) = self.now.take() {
            self.before += last.saturating_duration_since(first);
            self.before_ended = Some(last);
        }
    }

    /// Something was due, and it lasted until then.
    pub(super) fn reach(&mut self, due: Instant, end: Instant) {
        let widen = |span: Option<(Instant, Instant)>| match span {
            Some((first, last)) => (first.min(due), last.max(end)),
            None => (due, end),
        };
        self.whole = Some(widen(self.whole));
        // What is slow may end when its time is over, and the next is on.
        match self.before_ended {
            Some(ended) if due < ended || self.now.is_some_and(|(first, _)| due < first) => {
                self.before += end.saturating_duration_since(ended);
                self.before_ended = Some(ended.max(end));
            }
            _ => self.now = Some(widen(self.now)),
        }
    }

    /// Others were on as well: from the first due instant of all to the last end.
    pub(super) fn embrace(&mut self, other: &Span) {
        if let Some((first, last)) = other.whole {
            self.reach(first, last);
        }
    }

    /// How long it was on, all times together.
    pub fn length(&self) -> Duration {
        self.before
            + self.now.map_or(Duration::ZERO, |(first, last)| last.saturating_duration_since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_three_times_was_on_for_the_sum_of_them() {
        let origin = Instant::now();
        let at = |seconds| origin + Duration::from_secs(seconds);
        let mut span = Span::default();
        for start in [0, 60, 120] {
            span.comes();
            span.reach(at(start), at(start + 1));
            span.reach(at(start + 9), at(start + 10));
        }
        assert_eq!(span.length(), Duration::from_secs(30));
        // One of the second time ends in the third: its time was that much longer.
        span.reach(at(69), at(75));
        assert_eq!(span.length(), Duration::from_secs(35));
        let mut whole = Span::default();
        whole.embrace(&span);
        assert_eq!(whole.length(), Duration::from_secs(130));
        assert_eq!(Span::default().length(), Duration::ZERO);
    }
}
