//! What requests took in the last minutes, for people who look at the status page: quantiles, good to
//! a twentieth. For anything else there are the histograms.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Arrival, Event, Observe};

/// How far back it looks.
pub const WINDOW: Duration = Duration::from_mins(5);
/// It forgets by parts of this length.
const PART: Duration = Duration::from_secs(10);
const PARTS: usize = 30;

/// Each bucket ends a twentieth above its start.
const RATIO: f64 = 1.05;
/// The first starts here; what is below belongs to it.
const LEAST: f64 = 1e-4;
/// The last one ends beyond 10⁵, which no seconds and no tokens per second reach.
const BUCKETS: usize = 430;

/// The last minutes of one stream of load.
#[derive(Debug)]
pub struct Recent {
    begun: Instant,
    parts: Mutex<Vec<Part>>,
}

/// What was seen in one part of the window.
#[derive(Clone, Debug)]
struct Part {
    /// Its number since the beginning.
    number: u64,
    first_token: Counts,
    tokens_per_second: Counts,
}

/// How many values fell into each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts(Vec<u32>);

impl Default for Recent {
    fn default() -> Recent {
        let part =
            Part { number: 0, first_token: Counts::none(), tokens_per_second: Counts::none() };
        Recent { begun: Instant::now(), parts: Mutex::new(vec![part; PARTS]) }
    }
}

impl Recent {
    /// Times to the first token in seconds, and output tokens per second of each request.
    pub fn read(&self, now: Instant) -> (Counts, Counts) {
        let number = self.number(now);
        let (mut first_token, mut tokens_per_second) = (Counts::none(), Counts::none());
        // A part that was not used again since holds what is older than the window.
        for part in self.lock().iter().filter(|part| part.number + PARTS as u64 > number) {
            first_token.add(&part.first_token);
            tokens_per_second.add(&part.tokens_per_second);
        }
        (first_token, tokens_per_second)
    }

    fn enter(&self, enter: impl FnOnce(&mut Part)) {
        let number = self.number(Instant::now());
        let mut parts = self.lock();
        let place = usize::try_from(number % PARTS as u64).unwrap_or_default();
        if let Some(part) = parts.get_mut(place) {
            if part.number != number {
                part.number = number;
                part.first_token.0.fill(0);
                part.tokens_per_second.0.fill(0);
            }
            enter(part);
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_secs() / PART.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Recent {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::FirstToken { since_sent, .. } => {
                self.enter(|part| part.first_token.enter(since_sent.as_secs_f64()));
            }
            Event::Succeeded(measurement) => {
                if let Some(rate) = measurement.tokens_per_second() {
                    self.enter(|part| part.tokens_per_second.enter(rate));
                }
            }
            _ => {}
        }
    }
}

impl Counts {
    fn none() -> Counts {
        Counts(vec![0; BUCKETS])
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn enter(&mut self, value: f64) {
        // Below the first bucket and beyond the last, the conversion saturates.
        let bucket = ((value / LEAST).ln() / RATIO.ln()) as usize;
        if let Some(count) = self.0.get_mut(bucket.min(BUCKETS - 1)) {
            *count = count.saturating_add(1);
        }
    }

    fn add(&mut self, other: &Counts) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// The value that this share of all lies below; nothing where there are too few to tell it from
    /// the extreme.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count() as f64;
        if count * share.min(1.0 - share) < 1.0 - 1e-9 {
            return None;
        }
        let rank = (count * share).ceil() as u64;
        let mut passed = 0;
        let bucket = self.0.iter().position(|count| {
            passed += u64::from(*count);
            passed >= rank
        })?;
        let inside = f64::from(*self.0.get(bucket)?);
        // As if those inside it lay evenly: the middle of the part that is the one asked for.
        let part = 1.0 - ((passed - rank) as f64 + 0.5) / inside;
        Some(LEAST * RATIO.powf(bucket as f64 + part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_token(recent: &Recent, seconds: f64) {
        let since_sent = Duration::from_secs_f64(seconds);
        let arrival = Arrival { k: 0, due: Instant::now(), phase: None, lengths: None };
        recent.observe(&arrival, Event::FirstToken { since_sent, since_due: since_sent });
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_good_to_a_twentieth_and_old_ones_are_forgotten() {
        let recent = Recent::default();
        for i in 1..=1000 {
            first_token(&recent, f64::from(i) / 100.0);
        }
        let (counts, none) = recent.read(Instant::now());
        assert_eq!((counts.count(), none.count()), (1000, 0));
        for (share, exact) in [(0.1, 1.0), (0.5, 5.0), (0.9, 9.0), (0.99, 9.9)] {
            let quantile = counts.quantile(share).unwrap();
            assert!((quantile / exact - 1.0).abs() < 0.05, "{share}: {quantile}");
        }
        tokio::time::advance(PART * 29).await;
        first_token(&recent, 0.0);
        assert_eq!(recent.read(Instant::now()).0.count(), 1001);
        tokio::time::advance(PART).await;
        assert_eq!(recent.read(Instant::now()).0.count(), 1);
        // The place of a part that was left out for a whole turn is used again.
        tokio::time::advance(WINDOW * 2).await;
        first_token(&recent, 1.0);
        assert_eq!(recent.read(Instant::now()).0.count(), 1);
    }

    #[test]
    fn quantiles_stand_on_no_grid() {
        let quantile = |least: f64| {
            let mut counts = Counts::none();
            (0..10_000).for_each(|i| counts.enter(least + f64::from(i) * 1e-4));
            counts.quantile(0.5).unwrap()
        };
        for least in [1.0, 1.01, 1.02] {
            let exact = least + 0.5;
            assert!((quantile(least) / exact - 1.0).abs() < 0.001, "{exact}: {}", quantile(least));
        }
    }

    #[test]
    fn what_too_few_values_cannot_tell_is_not_told() {
        let mut counts = Counts::none();
        assert_eq!(counts.quantile(0.5), None);
        (0..99).for_each(|_| counts.enter(1e9));
        assert!(counts.quantile(0.5).is_some() && counts.quantile(0.9).is_some());
        assert_eq!(counts.quantile(0.99), None);
        counts.enter(0.0);
        assert!(counts.quantile(0.99).is_some());
    }
}
