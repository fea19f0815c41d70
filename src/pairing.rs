//! How two targets differ that are sent the same requests at the same instants: of each pair that
//! both finished, the difference, and of all of them the mean and how sure it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one request took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// To its first token, where it was streamed.
    pub first_token: Option<Duration>,
    /// To its end.
    pub duration: Duration,
}

/// The differences of a target from the one that it is held against.
#[derive(Debug, Default)]
pub struct PairedDifference(Mutex<PairedDifferences>);

/// A copy of them; each is this target's less the other's, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairedDifferences {
    /// Time to the first token.
    pub first_token: Sums,
    /// Time to the end.
    pub duration: Sums,
}

/// What mean and margin follow from. Each of them only rises: two copies, or those of two processes,
/// tell the mean and margin of what lies between, or of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many pairs there were.
    pub count: u64,
    /// By how much this one was slower, wherever it was.
    pub slower: f64,
    /// By how much it was faster, wherever it was.
    pub faster: f64,
    /// The squares of the differences.
    pub squares: f64,
}

impl PairedDifference {
    /// Enters a pair.
    pub fn enter(&self, baseline: Timing, other: Timing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.duration.enter(other.duration.as_secs_f64() - baseline.duration.as_secs_f64());
        if let (Some(baseline), Some(other)) = (baseline.first_token, other.first_token) {
            all.first_token.enter(other.as_secs_f64() - baseline.as_secs_f64());
        }
    }

    /// They are held against another from now on.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = PairedDifferences::default();
    }

    /// A copy of them.
    pub fn read(&self) -> PairedDifferences {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    fn enter(&mut self, difference: f64) {
        self.count += 1;
        *(if difference < 0.0 { &mut self.faster } else { &mut self.slower }) += difference.abs();
        self.squares += difference * difference;
    }

    /// The mean difference; nothing without a pair.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.slower - self.faster) / self.count as f64)
    }

    /// Half of the interval in which the true mean lies with a probability of 95 %: 1.96 standard
    /// errors, as the normal distribution has it. Nothing for fewer than 30 pairs, of which it would
    /// promise too much.
    #[allow(clippy::cast_precision_loss)]
    pub fn margin(&self) -> Option<f64> {
        let (count, mean) = (self.count as f64, self.mean().filter(|_| self.count >= 30)?);
        // Where all are alike, rounding may leave less than nothing.
        let variance = (self.squares - count * mean * mean).max(0.0) / (count - 1.0);
        Some(1.96 * (variance / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_mean_of_pairs_and_knows_how_sure_it_is() {
        let difference = PairedDifference::default();
        let timing = |first: u64, whole: u64| Timing {
            first_token: Some(Duration::from_millis(first)),
            duration: Duration::from_millis(whole),
        };
        for i in 0..40 {
            // 10 ms slower to the first token, give or take 2; a tenth of a second faster at the end.
            difference.enter(timing(50, 900), timing(58 + 4 * (i % 2), 800));
        }
        let without = Timing { first_token: None, duration: Duration::from_millis(800) };
        difference.enter(timing(50, 900), without);
        let PairedDifferences { first_token, duration } = difference.read();
        assert_eq!((first_token.count, duration.count), (40, 41));
        let mean = |sums: Sums| sums.mean().unwrap();
        assert!((mean(first_token) - 0.010).abs() < 1e-9 && (mean(duration) + 0.1).abs() < 1e-9);
        // A standard deviation of 2.026 ms over the root of 40.
        assert!((first_token.margin().unwrap() - 1.96 * 0.002_025_5 / 40_f64.sqrt()).abs() < 1e-6);
        assert_eq!(duration.margin().map(|margin| margin < 1e-9), Some(true), "all are alike");
        assert_eq!(Sums { count: 29, ..first_token }.margin(), None);
        assert_eq!(Sums::default().mean(), None);
    }
}
