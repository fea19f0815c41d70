//! The difference between two targets that receive the same requests at the same instants.
//!
//! The two requests of one arrival are a pair. A pair counts only if both requests succeed. The
//! mean difference of all pairs has a 95 % confidence interval.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The timing of a successful request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// TTFT. `None` if the response was not streamed.
    pub first_token: Option<Duration>,
    /// From the sending to the end of the response.
    pub duration: Duration,
}

/// The differences between a target and the baseline target, the first target of the scenario.
#[derive(Debug, Default)]
pub struct PairedComparison(Mutex<PairedSnapshot>);

/// The differences at one instant, in seconds: this target minus the baseline target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairedSnapshot {
    pub first_token: DifferenceSums,
    pub duration: DifferenceSums,
}

/// The sums from which the mean and its margin are computed. Each sum only rises. So Prometheus can
/// subtract two instants for the pairs between them, and add two processes for the pairs of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DifferenceSums {
    pub count: u64,
    /// The sum of the positive differences, in which this target was slower.
    pub slower: f64,
    /// The sum of the negative differences, without their sign. In these pairs, this target was
    /// faster.
    pub faster: f64,
    /// The sum of the squares of all differences.
    pub squares: f64,
}

impl PairedComparison {
    pub fn record(&self, baseline: Timing, other: Timing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.duration.add(other.duration.as_secs_f64() - baseline.duration.as_secs_f64());
        if let (Some(baseline), Some(other)) = (baseline.first_token, other.first_token) {
            all.first_token.add(other.as_secs_f64() - baseline.as_secs_f64());
        }
    }

    /// Removes all pairs, because another target has become the baseline target.
    pub fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = PairedSnapshot::default();
    }

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

    /// In seconds. `None` without a pair.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.slower - self.faster) / self.count as f64)
    }

    /// Returns half of the width of the 95 % confidence interval, in seconds: 1.96 standard errors.
    /// `None` below 30 pairs, because this interval would be too narrow.
    #[allow(clippy::cast_precision_loss)]
    pub fn margin(&self) -> Option<f64> {
        let (count, mean) = (self.count as f64, self.mean().filter(|_| self.count >= 30)?);
        // If all differences are equal, rounding can make the variance negative.
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
            // TTFT is higher by 10 ± 2 ms, and the duration is lower by 100 ms.
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
