//! The levels of a search, and the arithmetic between them.

use std::fmt;
use std::num::NonZeroU32;

use crate::schedule::{Rate, SearchRange};
use crate::slo::Share;

/// One level of load: a rate, or a number of requests in flight. All levels of a search are of the
/// same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Rate(Rate),
    Concurrency(NonZeroU32),
}

/// The text form for people: `31.6/s`, `47 at a time`.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Rate(rate) => rate.fmt(f),
            Level::Concurrency(slots) => write!(f, "{slots} at a time"),
        }
    }
}

impl Level {
    /// Returns the lowest and the highest level of a range.
    pub fn ends(range: SearchRange) -> (Level, Level) {
        match range {
            SearchRange::Rate { from, to } => (Level::Rate(from), Level::Rate(to)),
            SearchRange::Concurrency { from, to } => {
                (Level::Concurrency(from), Level::Concurrency(to))
            }
        }
    }

    /// The level as a number: arrivals per second, or requests in flight.
    pub fn value(self) -> f64 {
        match self {
            Level::Rate(rate) => rate.per_second(),
            Level::Concurrency(slots) => f64::from(slots.get()),
        }
    }

    /// Returns this rate, but not more than `per_second`. A concurrency does not change.
    pub(super) fn at_most(self, per_second: f64) -> Level {
        let Level::Rate(rate) = self else { return self };
        if per_second >= rate.per_second() || per_second <= 0.0 {
            return self;
        }
        // Three digits, because a count of requests is not more precise.
        let grid = 10_f64.powf(per_second.log10().floor() - 2.0);
        exact_rate((per_second / grid).floor() * grid).map_or(self, Level::Rate)
    }

    /// Returns the double of this level, but at most `limit`.
    pub(super) fn doubled(self, limit: Level) -> Level {
        let doubled = match self {
            Level::Rate(rate) => {
                Rate::from_micro_per_hour(rate.micro_per_hour().saturating_mul(2)).map(Level::Rate)
            }
            Level::Concurrency(slots) => slots.checked_mul(TWO).map(Level::Concurrency),
        };
        doubled.map_or(limit, |doubled| doubled.min(limit))
    }

    /// Returns a level about halfway between this level and a higher level, as a geometric mean.
    /// `None` if the two levels are as close as the resolution, or if no level is between them.
    pub(super) fn between(self, higher: Level, resolution: Share) -> Option<Level> {
        if higher.value() <= self.value() * (1.0 + resolution.as_f64()) {
            return None;
        }
        let middle = match (self, higher) {
            (Level::Rate(low), Level::Rate(high)) => {
                Level::Rate(middle_rate(low, high, resolution)?)
            }
            (Level::Concurrency(low), Level::Concurrency(high)) => {
                let middle = (u64::from(low.get()) * u64::from(high.get())).isqrt();
                // The root is rounded down, so it can equal the lower level.
                let middle = u32::try_from(middle).unwrap_or(u32::MAX).max(low.get() + 1);
                Level::Concurrency(NonZeroU32::new(middle)?)
            }
            // All levels of a search are of the same kind.
            _ => return None,
        };
        (self < middle && middle < higher).then_some(middle)
    }
}

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// Returns the geometric mean of two rates. It is rounded to a decimal number that is easy to read
/// and finer than the resolution.
fn middle_rate(low: Rate, high: Rate, resolution: Share) -> Option<Rate> {
    let mean = (low.per_second() * high.per_second()).sqrt();
    let grid = 10_f64.powf((low.per_second() * resolution.as_f64() / 4.0).log10().floor());
    let rounded = (mean / grid).round() * grid;
    exact_rate(rounded).filter(|rate| low < *rate && *rate < high).or_else(|| exact_rate(mean))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn exact_rate(per_second: f64) -> Option<Rate> {
    let micro = (per_second * 3.6e9).round();
    (micro > 0.0).then(|| Rate::from_micro_per_hour(micro as u64)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Level {
        Level::Rate(text.parse().unwrap())
    }

    fn slots(count: u32) -> Level {
        Level::Concurrency(NonZeroU32::new(count).unwrap())
    }

    #[test]
    fn a_level_between_two_rates_is_a_short_decimal_number() {
        let five = Share::percent(5);
        assert_eq!(rate("16/s").between(rate("32/s"), five), Some(rate("22.6/s")));
        assert_eq!(rate("0.5/s").between(rate("1/s"), five), Some(rate("0.707/s")));
        assert_eq!(rate("20/s").between(rate("21/s"), five), None);
        assert_eq!(rate("16/s").doubled(rate("20/s")), rate("20/s"));
        assert_eq!(rate("60000/s").doubled(rate("100000/s")), rate("100000/s"));
    }

    #[test]
    fn neighbouring_numbers_of_requests_in_flight_have_no_level_between_them() {
        let one = Share::PERCENT;
        assert_eq!(slots(1).between(slots(2), one), None);
        assert_eq!(slots(1).between(slots(3), one), Some(slots(2)));
        assert_eq!(slots(47).between(slots(48), one), None);
        assert_eq!(slots(32).between(slots(64), one), Some(slots(45)));
        assert_eq!(slots(100).between(slots(104), Share::percent(5)), None);
        assert_eq!(slots(3).doubled(slots(5)), slots(5));
    }

    proptest! {
        #[test]
        fn halving_a_gap_reaches_the_resolution_within_the_number_of_halvings(
            low in 1_u64..1_000_000_000_000, factor in 1.1..4.0_f64, percent in 1_u8..20,
        ) {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss
            )]
            let high = (low as f64 * factor) as u64;
            prop_assume!(high > low);
            let resolution = Share::percent(percent);
            let level = |micro| Level::Rate(Rate::from_micro_per_hour(micro).unwrap());
            let (low, mut high) = (level(low), level(high));
            let mut halvings = 0;
            while let Some(middle) = low.between(high, resolution) {
                prop_assert!(low < middle && middle < high);
                high = middle;
                halvings += 1;
            }
            let most = (factor.ln() / resolution.as_f64().ln_1p()).log2().ceil().max(0.0);
            prop_assert!(f64::from(halvings) <= most + 2.0, "{halvings} of {most}");
        }
    }
}
