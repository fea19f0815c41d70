//! The values of one kind, in bounded room: three digits of each are kept, whatever their number.

use hdrhistogram::Histogram;

/// How many values of which size there were.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// There, since no number of digits that is asked for here is refused.
    counts: Option<Histogram<u32>>,
    /// What one step of the counts is worth.
    unit: f64,
    count: u64,
    sum: f64,
    least: f64,
    most: f64,
}

/// Steps beyond this are not told apart: an hour in microseconds, and then some.
const HIGHEST: u64 = 1 << 33;

impl Distribution {
    /// Of times in seconds, to a microsecond.
    pub fn of_times() -> Distribution {
        Distribution::new(3, 1e-6)
    }

    /// Of numbers, to a thousandth.
    pub fn of_numbers() -> Distribution {
        Distribution::new(3, 1e-3)
    }

    /// Of times in seconds, one digit of them: a tenth of the room.
    pub fn of_rough_times() -> Distribution {
        Distribution::new(1, 1e-6)
    }

    fn new(digits: u8, unit: f64) -> Distribution {
        Distribution {
            counts: Histogram::new(digits).ok(),
            unit,
            count: 0,
            sum: 0.0,
            least: f64::INFINITY,
            most: 0.0,
        }
    }

    /// One more.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn enter(&mut self, value: f64) {
        let steps = ((value / self.unit).round() as u64).clamp(1, HIGHEST);
        // It grows as it has to, and `HIGHEST` bounds that.
        let _entered = self.counts.as_mut().map(|counts| counts.record(steps));
        self.count += 1;
        self.sum += value;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    /// Those of another, of the same unit.
    pub fn add(&mut self, other: &Distribution) {
        if let (Some(counts), Some(others)) = (&mut self.counts, &other.counts) {
            let _added = counts.add(others);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The least and the greatest.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        (self.count > 0).then_some((self.least, self.most))
    }

    /// Their mean.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The value that this share of all is at or below; nothing where there are too few to tell it from
    /// the extreme.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let told = self.count as f64 * share.min(1.0 - share) >= 1.0 - 1e-9;
        let steps = self.counts.as_ref().filter(|_| told)?.value_at_quantile(share);
        Some((steps as f64 * self.unit).clamp(self.least, self.most))
    }

    /// Each value that occurs, as far as values are told apart, and how often it does.
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
        fn quantiles_are_good_to_a_thousandth_however_values_were_dealt_out(
            micros in prop::collection::vec(1_u32..4_000_000_000, 1..300),
            share in 0.01..0.99_f64,
            cut in 0_usize..300,
        ) {
            let (mut whole, mut parts) = (Distribution::of_times(), [Distribution::of_times(), Distribution::of_times()]);
            for (index, value) in micros.iter().enumerate() {
                whole.enter(f64::from(*value) * 1e-6);
                parts[usize::from(index < cut)].enter(f64::from(*value) * 1e-6);
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
    fn what_too_few_values_cannot_tell_is_not_told() {
        let mut values = Distribution::of_numbers();
        assert_eq!((values.mean(), values.extremes(), values.quantile(0.5)), (None, None, None));
        (0..99).for_each(|_| values.enter(2.5));
        assert_eq!((values.quantile(0.5), values.quantile(0.99)), (Some(2.5), None));
        values.enter(f64::MAX);
        assert!((values.quantile(0.99).unwrap() - 2.5).abs() < 2.5e-3);
        assert_eq!(values.extremes(), Some((2.5, f64::MAX)));
    }
}
