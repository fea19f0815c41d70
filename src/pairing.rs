//! The difference between two targets that receive the same requests at the same instants.
//!
//! The requests that both targets receive for the same arrival are a pair. A pair counts only if
//! both its requests succeed. The mean difference over all pairs has a 95 % confidence interval.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The timing of one request that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// TTFT, if the response was streamed.
    pub first_token: Option<Duration>,
    /// The time from sending to the end.
    pub duration: Duration,
}

/// The differences between a target and the baseline target, which is the first target of the
/// scenario. Requests can add pairs while Prometheus reads the differences.
#[derive(Debug, Default)]
pub struct PairedComparison(Mutex<PairedSnapshot>);

/// A copy of the differences at one instant. Each difference is the value of this target minus the
/// value of the baseline target, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairedSnapshot {
    /// The difference in TTFT.
    pub first_token: DifferenceSums,
    /// The difference in total duration.
    pub duration: DifferenceSums,
}

/// The sums from which the mean and its margin are computed. Each sum only rises. So Prometheus can
/// subtract the sums at two instants to describe the pairs between these instants, and can add the
/// sums of two processes to describe the pairs of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DifferenceSums {
    /// The number of pairs.
    pub count: u64,
    /// The sum of all positive differences. In these pairs, this target was slower.
    pub slower: f64,
    /// The sum of the absolute values of all negative differences. In these pairs, this target was
    /// faster.
    pub faster: f64,
    /// The sum of the squares of all differences.
    pub squares: f64,
}

impl PairedComparison {
    /// Adds a pair.
    pub fn record(&self, baseline: Timing, other: Timing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.duration.add(other.duration.as_secs_f64() - baseline.duration.as_secs_f64());
        if let (Some(baseline), Some(other)) = (baseline.first_token, other.first_token) {
            all.first_token.add(other.as_secs_f64() - baseline.as_secs_f64());
        }
    }

    /// Removes all pairs. This is necessary when another target becomes the baseline target.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = PairedSnapshot::default();
    }

    /// Returns a copy of the differences.
    pub fn snapshot(&self) -> PairedSnapshot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DifferenceSums {
    fn add(&mut self, difference: f64) {
        self.count += 1;
        *(if difference < 0.0 { &mut self.faster } else { &mut self.slower }) += difference.abs();
        self.squares += difference * difference;
    }

    /// Returns the mean difference in seconds, or `None` if there is no pair.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.slower - self.faster) / self.count as f64)
    }

    /// Returns half of the width of the 95 % confidence interval of the mean, in seconds. This is
    /// 1.96 standard errors, as for a normal distribution. `None` for fewer than 30 pairs, for
    /// which this interval would be too narrow.
    #[allow(clippy::cast_precision_loss)]
    pub fn margin(&self) -> Option<f64> {
        let (count, mean) = (self.count as f64, self.mean().filter(|_| self.count >= 30)?);
        // If all differences are equal, rounding can make the variance slightly negative.
        let variance = (self.squares - count * mean * mean).max(0.0) / (count - 1.0);
        Some(1.96 * (variance / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_has_the_mean_of_its_pairs_and_a_confidence_interval() {
        let difference = PairedComparison::default();
        let timing = |first: u64, total: u64| Timing {
            first_token: Some(Duration::from_millis(first)),
            duration: Duration::from_millis(total),
        };
        for i in 0..40 {
            // TTFT is slower by 10 ± 2 ms, and the total duration is shorter by 100 ms.
            difference.record(timing(50, 900), timing(58 + 4 * (i % 2), 800));
        }
        let unstreamed = Timing { first_token: None, duration: Duration::from_millis(800) };
        difference.record(timing(50, 900), unstreamed);
        let PairedSnapshot { first_token, duration } = difference.snapshot();
        assert_eq!((first_token.count, duration.count), (40, 41));
        let mean = |sums: DifferenceSums| sums.mean().unwrap();
        assert!((mean(first_token) - 0.010).abs() < 1e-9 && (mean(duration) + 0.1).abs() < 1e-9);
        // A standard deviation of 2.0255 ms, divided by the square root of 40.
        assert!((first_token.margin().unwrap() - 1.96 * 0.002_025_5 / 40_f64.sqrt()).abs() < 1e-6);
        assert_eq!(
            duration.margin().map(|margin| margin < 1e-9),
            Some(true),
            "all differences are equal"
        );
        assert_eq!(DifferenceSums { count: 29, ..first_token }.margin(), None);
        assert_eq!(DifferenceSums::default().mean(), None);
    }
}
