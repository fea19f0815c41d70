//! A distribution of values in bounded memory. Precision is three significant digits (one for
//! coarse times), however many values are recorded.

mod stored;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use self::stored::StoredDistribution;

/// A histogram with an exact count, sum, minimum and maximum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "StoredDistribution", try_from = "StoredDistribution")]
pub struct Distribution {
    /// Always `Some`, because `Histogram::new` fails only for more than five significant digits.
    counts: Option<Histogram<u32>>,
    /// The histogram counts integer steps. This is the value of one step.
    unit: f64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// The highest step of a histogram. For times, a step is a microsecond, so this is more than two
/// hours. A larger value counts as this step.
const MAX_STEP: u64 = 1 << 33;

impl Distribution {
    /// Creates a distribution of times in seconds, with steps of a microsecond.
    pub fn for_times() -> Distribution {
        Distribution::new(3, 1e-6)
    }

    /// Creates a distribution of rates, with steps of a thousandth.
    pub fn for_rates() -> Distribution {
        Distribution::new(3, 1e-3)
    }

    /// Creates a distribution of whole numbers.
    pub fn for_counts() -> Distribution {
        Distribution::new(3, 1.0)
    }

    /// Creates a distribution of times in seconds with one significant digit. Such a
    /// distribution takes a tenth of the memory.
    pub fn for_coarse_times() -> Distribution {
        Distribution::new(1, 1e-6)
    }

    fn new(digits: u8, unit: f64) -> Distribution {
        Distribution {
            counts: Histogram::new(digits).ok(),
            unit,
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: 0.0,
        }
    }

    /// Records one value.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn record(&mut self, value: f64) {
        let steps = ((value / self.unit).round() as u64).clamp(1, MAX_STEP);
        // The histogram grows as needed, and `MAX_STEP` limits its size.
        let _recorded = self.counts.as_mut().map(|counts| counts.record(steps));
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds the values of another distribution with the same unit.
    pub fn add(&mut self, other: &Distribution) {
        if let (Some(counts), Some(others)) = (&mut self.counts, &other.counts) {
            let _added = counts.add(others);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the minimum and the maximum.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        (self.count > 0).then_some((self.min, self.max))
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Returns the quantile `q`, for example 0.99 for the p99. `None` if there are too few values
    /// to distinguish the quantile from the minimum or the maximum.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let is_known = self.count as f64 * q.min(1.0 - q) >= 1.0 - 1e-9;
        let steps = self.counts.as_ref().filter(|_| is_known)?.value_at_quantile(q);
        Some((steps as f64 * self.unit).clamp(self.min, self.max))
    }

    /// Returns the value of a rank, from 1 for the lowest value. `None` without values, or if there
    /// are fewer values.
    #[allow(clippy::cast_precision_loss)]
    pub fn at_rank(&self, rank: u64) -> Option<f64> {
        if rank == 0 || rank > self.count {
            return None;
        }
        let steps = self.counts.as_ref()?.value_at_quantile(rank as f64 / self.count as f64);
        Some((steps as f64 * self.unit).clamp(self.min, self.max))
    }

    /// Returns each distinct value and its count. Values are rounded to the precision of the
    /// histogram.
    #[allow(clippy::cast_precision_loss)]
    pub fn values(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let recorded = self.counts.iter().flat_map(Histogram::iter_recorded);
        let rounded = |value: f64| (value * 1e6).round() / 1e6;
        recorded.map(move |step| {
            (rounded(step.value_iterated_to() as f64 * self.unit), step.count_at_value().into())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_right_to_a_thousandth_even_after_a_merge(
            micros in prop::collection::vec(1_u32..4_000_000_000, 1..300),
            q in 0.01..0.99_f64,
            cut in 0_usize..300,
        ) {
            let (mut total, mut parts) = (Distribution::for_times(), [Distribution::for_times(), Distribution::for_times()]);
            for (index, value) in micros.iter().enumerate() {
                total.record(f64::from(*value) * 1e-6);
                parts[usize::from(index < cut)].record(f64::from(*value) * 1e-6);
            }
            let [mut sum, other] = parts;
            sum.add(&other);
            prop_assert_eq!(sum.count(), total.count());
            prop_assert_eq!(sum.quantile(q), total.quantile(q));
            let mut sorted = micros.clone();
            sorted.sort_unstable();
            let n = sorted.len() as f64;
            if let Some(quantile) = total.quantile(q) {
                let exact = f64::from(sorted[((n * q).ceil() as usize).clamp(1, sorted.len()) - 1]) * 1e-6;
                prop_assert!((quantile / exact - 1.0).abs() < 1.1e-3, "{} {}", quantile, exact);
            } else {
                prop_assert!(n * q.min(1.0 - q) < 1.0);
            }
            prop_assert_eq!(total.values().map(|value| value.1).sum::<u64>(), micros.len() as u64);
        }
    }

    #[test]
    fn a_quantile_of_too_few_values_is_none() {
        let mut values = Distribution::for_rates();
        assert_eq!((values.mean(), values.extremes(), values.quantile(0.5)), (None, None, None));
        (0..99).for_each(|_| values.record(2.5));
        assert_eq!((values.quantile(0.5), values.quantile(0.99)), (Some(2.5), None));
        values.record(f64::MAX);
        assert!((values.quantile(0.99).unwrap() - 2.5).abs() < 2.5e-3);
        assert_eq!(values.extremes(), Some((2.5, f64::MAX)));
    }
}
