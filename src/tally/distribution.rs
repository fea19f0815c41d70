//! A distribution of values in bounded memory. Values keep three digits, whatever their number.

use hdrhistogram::Histogram;

/// A histogram with exact count, sum and extremes.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// Always `Some`: `Histogram::new` fails only for more than five digits.
    counts: Option<Histogram<u32>>,
    /// The value of one step of the histogram.
    unit: f64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// The highest step, more than two hours in microseconds. Larger values count as this step.
const HIGHEST: u64 = 1 << 33;

impl Distribution {
    /// A distribution of times in seconds, to a microsecond.
    pub fn of_times() -> Distribution {
        Distribution::new(3, 1e-6)
    }

    /// A distribution of numbers, to a thousandth.
    pub fn of_numbers() -> Distribution {
        Distribution::new(3, 1e-3)
    }

    /// A distribution of times in seconds to one digit, in a tenth of the memory.
    pub fn of_rough_times() -> Distribution {
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
        let steps = ((value / self.unit).round() as u64).clamp(1, HIGHEST);
        // The histogram grows as needed; `HIGHEST` bounds it.
        let _recorded = self.counts.as_mut().map(|counts| counts.record(steps));
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds the values of another distribution of the same unit.
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

    /// The minimum and the maximum.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        (self.count > 0).then_some((self.min, self.max))
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The value that a share of all values does not exceed. `None` if there are too few values to
    /// distinguish it from the minimum or the maximum.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let is_known = self.count as f64 * share.min(1.0 - share) >= 1.0 - 1e-9;
        let steps = self.counts.as_ref().filter(|_| is_known)?.value_at_quantile(share);
        Some((steps as f64 * self.unit).clamp(self.min, self.max))
    }

    /// Each distinct value, to the precision of the histogram, and its count.
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
        fn quantiles_are_right_to_a_thousandth_also_after_a_merge(
            micros in prop::collection::vec(1_u32..4_000_000_000, 1..300),
            share in 0.01..0.99_f64,
            cut in 0_usize..300,
        ) {
            let (mut whole, mut parts) = (Distribution::of_times(), [Distribution::of_times(), Distribution::of_times()]);
            for (index, value) in micros.iter().enumerate() {
                whole.record(f64::from(*value) * 1e-6);
                parts[usize::from(index < cut)].record(f64::from(*value) * 1e-6);
            }
            let [mut sum, other] = parts;
            sum.add(&other);
            prop_assert_eq!(sum.count(), whole.count());
            prop_assert_eq!(sum.quantile(share), whole.quantile(share));
            let mut sorted = micros.clone();
            sorted.sort_unstable();
            let n = sorted.len() as f64;
            if let Some(quantile) = whole.quantile(share) {
                let exact = f64::from(sorted[((n * share).ceil() as usize).clamp(1, sorted.len()) - 1]) * 1e-6;
                prop_assert!((quantile / exact - 1.0).abs() < 1.1e-3, "{} {}", quantile, exact);
            } else {
                prop_assert!(n * share.min(1.0 - share) < 1.0);
            }
            prop_assert_eq!(whole.values().map(|value| value.1).sum::<u64>(), micros.len() as u64);
        }
    }

    #[test]
    fn a_quantile_of_too_few_values_is_none() {
        let mut values = Distribution::of_numbers();
        assert_eq!((values.mean(), values.extremes(), values.quantile(0.5)), (None, None, None));
        (0..99).for_each(|_| values.record(2.5));
        assert_eq!((values.quantile(0.5), values.quantile(0.99)), (Some(2.5), None));
        values.record(f64::MAX);
        assert!((values.quantile(0.99).unwrap() - 2.5).abs() < 2.5e-3);
        assert_eq!(values.extremes(), Some((2.5, f64::MAX)));
    }
}
