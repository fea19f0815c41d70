//! Quantiles of the last five minutes for the status page, accurate within 5 %. For graphs and
//! alerts, use the histograms of `/metrics`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Arrival, Event, Observe};

/// The time before now that the quantiles cover.
pub const WINDOW: Duration = Duration::from_mins(5);
/// The window moves in steps of this length.
const STEP: Duration = Duration::from_secs(10);
const STEPS: usize = 30;

/// The upper bound of a bucket divided by its lower bound.
const RATIO: f64 = 1.05;
/// The lower bound of the first bucket, which also counts smaller values.
const LOWEST: f64 = 1e-4;
/// With this number of buckets, the last upper bound is above 10⁵. No duration in seconds and no
/// speed in tokens per second is as high.
const BUCKETS: usize = 430;

/// The values of one route (one scenario on one target) in the last five minutes.
#[derive(Debug)]
pub struct Recent {
    started: Instant,
    /// A ring buffer: step N is at position N modulo [`STEPS`].
    steps: Mutex<Vec<Step>>,
}

#[derive(Clone, Debug)]
struct Step {
    /// Counts from the creation of [`Recent`].
    number: u64,
    values: RecentValues,
}

#[derive(Clone, Debug)]
pub struct RecentValues {
    /// TTFT in seconds.
    pub first_token: LogHistogram,
    /// Output tokens per second after the first token, for each success.
    pub tokens_per_second: LogHistogram,
}

/// A histogram with logarithmic buckets. Each upper bound is `RATIO` times the lower bound.
#[derive(Clone, Debug, PartialEq)]
pub struct LogHistogram(Vec<u32>);

impl Default for Recent {
    fn default() -> Recent {
        let step = Step { number: 0, values: RecentValues::new() };
        Recent { started: Instant::now(), steps: Mutex::new(vec![step; STEPS]) }
    }
}

impl Recent {
    pub fn read(&self, now: Instant) -> RecentValues {
        let number = self.step_number(now);
        let mut sum = RecentValues::new();
        // The ring still contains steps before the window, if no new value has replaced them.
        for step in self.lock().iter().filter(|step| step.number + STEPS as u64 > number) {
            sum.first_token.add(&step.values.first_token);
            sum.tokens_per_second.add(&step.values.tokens_per_second);
        }
        sum
    }

    fn record(&self, record: impl FnOnce(&mut RecentValues)) {
        let number = self.step_number(Instant::now());
        let mut steps = self.lock();
        let position = usize::try_from(number % STEPS as u64).unwrap_or_default();
        if let Some(step) = steps.get_mut(position) {
            if step.number != number {
                step.number = number;
                step.values.first_token.clear();
                step.values.tokens_per_second.clear();
            }
            record(&mut step.values);
        }
    }

    fn step_number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / STEP.as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observe for Recent {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::FirstToken { since_sent, .. } => {
                self.record(|values| values.first_token.record(since_sent.as_secs_f64()));
            }
            Event::Succeeded(measurement) => {
                if let Some(speed) = measurement.tokens_per_second() {
                    self.record(|values| values.tokens_per_second.record(speed));
                }
            }
            _ => {}
        }
    }
}

impl RecentValues {
    fn new() -> RecentValues {
        RecentValues { first_token: LogHistogram::new(), tokens_per_second: LogHistogram::new() }
    }
}

impl LogHistogram {
    pub(crate) fn new() -> LogHistogram {
        LogHistogram(vec![0; BUCKETS])
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn record(&mut self, value: f64) {
        // A value below the first bucket becomes 0.
        let bucket = ((value / LOWEST).ln() / RATIO.ln()) as usize;
        if let Some(count) = self.0.get_mut(bucket.min(BUCKETS - 1)) {
            *count = count.saturating_add(1);
        }
    }

    pub(crate) fn add(&mut self, other: &LogHistogram) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum = sum.saturating_add(*count);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Returns the value below which this fraction (0 to 1) of all values is. `None` for too few
    /// values: with fewer than 100 values, a p99 would be the highest value.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, fraction: f64) -> Option<f64> {
        let count = self.count() as f64;
        if count * fraction.min(1.0 - fraction) < 1.0 - 1e-9 {
            return None;
        }
        let rank = (count * fraction).ceil() as u64;
        let mut passed = 0;
        let bucket = self.0.iter().position(|count| {
            passed += u64::from(*count);
            passed >= rank
        })?;
        let in_bucket = f64::from(*self.0.get(bucket)?);
        // The values are assumed to be spread evenly over the bucket.
        let position = 1.0 - ((passed - rank) as f64 + 0.5) / in_bucket;
        Some(LOWEST * RATIO.powf(bucket as f64 + position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_token(recent: &Recent, seconds: f64) {
        let since_sent = Duration::from_secs_f64(seconds);
        let arrival = Arrival { k: 0, due: Instant::now(), phase: None, lengths: None, turn: 0 };
        recent.observe(&arrival, Event::FirstToken { since_sent, since_due: since_sent });
    }

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_accurate_within_five_percent_and_old_values_are_forgotten() {
        let recent = Recent::default();
        for i in 1..=1000 {
            first_token(&recent, f64::from(i) / 100.0);
        }
        let RecentValues { first_token: ttft, tokens_per_second } = recent.read(Instant::now());
        assert_eq!((ttft.count(), tokens_per_second.count()), (1000, 0));
        for (fraction, exact) in [(0.1, 1.0), (0.5, 5.0), (0.9, 9.0), (0.99, 9.9)] {
            let quantile = ttft.quantile(fraction).unwrap();
            assert!((quantile / exact - 1.0).abs() < 0.05, "{fraction}: {quantile}");
        }
        tokio::time::advance(STEP * 29).await;
        first_token(&recent, 0.0);
        assert_eq!(recent.read(Instant::now()).first_token.count(), 1001);
        tokio::time::advance(STEP).await;
        assert_eq!(recent.read(Instant::now()).first_token.count(), 1);
        // The ring uses the position of an old step again.
        tokio::time::advance(WINDOW * 2).await;
        first_token(&recent, 1.0);
        assert_eq!(recent.read(Instant::now()).first_token.count(), 1);
    }

    #[test]
    fn quantiles_are_interpolated_within_a_bucket() {
        let quantile = |lowest: f64| {
            let mut histogram = LogHistogram::new();
            (0..10_000).for_each(|i| histogram.record(lowest + f64::from(i) * 1e-4));
            histogram.quantile(0.5).unwrap()
        };
        for lowest in [1.0, 1.01, 1.02] {
            let exact = lowest + 0.5;
            assert!(
                (quantile(lowest) / exact - 1.0).abs() < 0.001,
                "{exact}: {}",
                quantile(lowest)
            );
        }
    }

    #[test]
    fn a_quantile_of_too_few_values_is_left_out() {
        let mut histogram = LogHistogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        (0..99).for_each(|_| histogram.record(1e9));
        assert!(histogram.quantile(0.5).is_some() && histogram.quantile(0.9).is_some());
        assert_eq!(histogram.quantile(0.99), None);
        histogram.record(0.0);
        assert!(histogram.quantile(0.99).is_some());
    }
}
