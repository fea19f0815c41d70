//! The form of a distribution in a file. Only buckets with values are in it, so it is as bounded as
//! the histogram, and mostly much smaller.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Distribution, MAX_STEP};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredDistribution {
    /// The number of significant digits.
    digits: u8,
    /// The value of one step.
    unit: f64,
    count: u64,
    sum: f64,
    /// The minimum and the maximum; `None` without values, because JSON has no infinity.
    extremes: Option<(f64, f64)>,
    /// The steps and their counts, such as `1200:3 1210:1`.
    steps: String,
}

#[derive(Debug, thiserror::Error)]
#[error("a distribution is damaged")]
pub(super) struct DamagedDistribution;

impl From<Distribution> for StoredDistribution {
    fn from(distribution: Distribution) -> StoredDistribution {
        let mut steps = String::new();
        for step in distribution.counts.iter().flat_map(Histogram::iter_recorded) {
            let separator = if steps.is_empty() { "" } else { " " };
            let (value, count) = (step.value_iterated_to(), step.count_at_value());
            // Writing to a string cannot fail.
            let _ = write!(steps, "{separator}{value}:{count}");
        }
        StoredDistribution {
            digits: distribution.counts.as_ref().map_or(3, Histogram::sigfig),
            unit: distribution.unit,
            count: distribution.count,
            sum: distribution.sum,
            extremes: distribution.extremes(),
            steps,
        }
    }
}

impl TryFrom<StoredDistribution> for Distribution {
    type Error = DamagedDistribution;

    fn try_from(stored: StoredDistribution) -> Result<Distribution, DamagedDistribution> {
        let StoredDistribution { digits, unit, count, sum, extremes, steps } = stored;
        let is_known = (1..=3).contains(&digits) && unit > 0.0 && unit <= 1.0;
        if !is_known {
            return Err(DamagedDistribution);
        }
        let mut distribution = Distribution::new(digits, unit);
        let counts = distribution.counts.as_mut().ok_or(DamagedDistribution)?;
        let mut all = 0_u64;
        for pair in steps.split_ascii_whitespace() {
            let (step, count) = pair.split_once(':').ok_or(DamagedDistribution)?;
            let (step, count): (u64, u32) =
                step.parse().ok().zip(count.parse().ok()).ok_or(DamagedDistribution)?;
            // The value of a bucket is its highest, which can exceed the highest step.
            let _recorded = counts.record_n(step.clamp(1, MAX_STEP), count);
            all += u64::from(count);
        }
        // Only a bucket with four billion values has lost some of them.
        if all > count || (all < count && !steps.contains(&u32::MAX.to_string())) {
            return Err(DamagedDistribution);
        }
        (distribution.count, distribution.sum) = (count, sum);
        if let Some((min, max)) = extremes {
            (distribution.min, distribution.max) = (min, max);
        }
        Ok(distribution)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_distribution_survives_its_stored_form(
            values in prop::collection::vec(1e-7..1e5_f64, 0..200),
            is_coarse in any::<bool>(),
        ) {
            let mut original =
                if is_coarse { Distribution::for_coarse_times() } else { Distribution::for_times() };
            for value in &values {
                original.record(*value);
            }
            let text = serde_json::to_string(&original).unwrap();
            let read: Distribution = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &original);
            prop_assert_eq!(read.quantile(0.5), original.quantile(0.5));
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_distribution_is_an_error() {
        let mut original = Distribution::for_counts();
        (0..3).for_each(|_| original.record(7.0));
        let good = serde_json::to_string(&original).unwrap();
        assert!(good.contains(r#""steps":"7:3""#), "{good}");
        for (part, damaged) in [
            (r#""steps":"7:3""#, r#""steps":"7:4""#),
            (r#""steps":"7:3""#, r#""steps":"7""#),
            (r#""steps":"7:3""#, r#""steps":"x:3""#),
            (r#""digits":3"#, r#""digits":9"#),
            (r#""unit":1.0"#, r#""unit":0.0"#),
        ] {
            let text = good.replace(part, damaged);
            assert_ne!(text, good);
            assert!(serde_json::from_str::<Distribution>(&text).is_err(), "{text}");
        }
    }
}
