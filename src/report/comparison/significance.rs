//! The statistics of a comparison: confidence intervals of one run, and tests of two runs.
//!
//! | value | 95 % interval of one run | test of two runs |
//! |---|---|---|
//! | quantile | the values of two ranks | exact test of the counts above a common value |
//! | success rate | Wilson's score interval | exact test of the counts of failures |
//! | rate | batch means and Student's t | Welch's t-test of the batch means |
//! | mean of pairs | normal distribution of the mean | t-test of the mean difference |
//!
//! The exact test is that of Fisher and Irwin: if both runs draw from the same distribution, the
//! number of values of the new run above any common value is hypergeometric. So the first two rows
//! need no assumption about the shape of the distribution. All tests assume that the values are
//! independent.

/// The half-width of a 95 % confidence interval in standard deviations.
const Z_95: f64 = 1.96;

/// The value of a metric, with the bounds of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    pub value: f64,
    /// `None`, like `high`, if there are too few values for an interval.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Estimate {
    pub(super) fn without_interval(value: f64) -> Estimate {
        Estimate { value, low: None, high: None }
    }

    pub(super) fn has_interval(&self) -> bool {
        self.low.is_some() && self.high.is_some()
    }
}

/// Sorted values with counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    values: &'a [(f64, u64)],
    count: f64,
    /// The number of independent values divided by `count`. The gaps between the chunks of one
    /// request depend on each other, so each request counts once.
    weight: f64,
}

#[allow(clippy::cast_precision_loss)]
impl<'a> Sample<'a> {
    /// `None` without values. `independent` is the number of independent values.
    pub(super) fn new(values: &'a [(f64, u64)], independent: Option<u64>) -> Option<Sample<'a>> {
        let count = values.iter().map(|value| value.1).sum::<u64>() as f64;
        let independent = independent.map_or(count, |number| (number as f64).min(count));
        let weight = independent / count;
        (independent >= 1.0).then_some(Sample { values, count, weight })
    }

    /// Returns the quantile `q`. The bounds of its interval are the values of the ranks
    /// n·q ± 1.96·√(n·q·(1−q)), the normal approximation of the binomial distribution. `None` if
    /// the quantile cannot be distinguished from the lowest or the highest value.
    pub(super) fn quantile(self, q: f64) -> Option<Estimate> {
        let independent = self.count * self.weight;
        if independent * q.min(1.0 - q) < 1.0 - 1e-9 {
            return None;
        }
        let value = self.at_rank((self.count * q).ceil())?;
        let reach = Z_95 * (independent * q * (1.0 - q)).sqrt();
        let (low, high) = ((independent * q - reach).floor(), (independent * q + reach).ceil());
        if low < 1.0 || high > independent {
            return Some(Estimate::without_interval(value));
        }
        let at = |rank: f64| self.at_rank((rank / self.weight).clamp(1.0, self.count));
        Some(Estimate { value, low: at(low), high: at(high) })
    }

    fn at_rank(self, rank: f64) -> Option<f64> {
        let mut passed = 0.0;
        let reached = self.values.iter().find(|value| {
            passed += value.1 as f64;
            passed >= rank
        });
        reached.map(|value| value.0)
    }

    /// Returns the number of independent values, and the number of them above `limit`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn above(self, limit: f64) -> (u64, u64) {
        let above = self.values.iter().filter(|value| value.0 > limit).map(|value| value.1);
        let above = above.sum::<u64>() as f64 * self.weight;
        ((self.count * self.weight).round() as u64, above.round() as u64)
    }
}

/// Returns the probability of a difference of the quantile `q` that is at least as large, if both
/// samples are from the same distribution.
#[allow(clippy::cast_precision_loss)]
pub(super) fn quantiles_differ(base: Sample<'_>, new: Sample<'_>, q: f64) -> f64 {
    let all = (base.count * base.weight) + (new.count * new.weight);
    let mut merged: Vec<(f64, f64)> = [base, new]
        .iter()
        .flat_map(|sample| sample.values.iter().map(|v| (v.0, v.1 as f64 * sample.weight)))
        .collect();
    merged.sort_by(|one, other| one.0.total_cmp(&other.0));
    // The limit is the quantile of both samples together. If many values are equal, it is the
    // nearest value that has values on both sides.
    let (mut passed, mut limit, mut distance) = (0.0, None, f64::INFINITY);
    for (index, (value, count)) in merged.iter().enumerate() {
        passed += count;
        let is_last_of_its_value = merged.get(index + 1).is_some_and(|next| next.0 > *value);
        if is_last_of_its_value && (passed - all * q).abs() < distance {
            distance = (passed - all * q).abs();
            limit = Some(*value);
        }
    }
    let Some(limit) = limit else { return 1.0 };
    let ((n, above), (n_new, above_new)) = (base.above(limit), new.above(limit));
    shares_differ((above, n), (above_new, n_new))
}

/// Returns the two-sided probability of the exact test of Fisher and Irwin. Each pair is a number
/// of hits and the number of all values.
#[allow(clippy::cast_precision_loss, clippy::many_single_char_names)]
pub(super) fn shares_differ(base: (u64, u64), new: (u64, u64)) -> f64 {
    let (a, n) = (base.0 as f64, base.1 as f64);
    let (hits, all) = (a + new.0 as f64, n + new.1 as f64);
    if hits < 1.0 || hits >= all || n < 1.0 || n >= all {
        return 1.0;
    }
    let others = all - n;
    // P(k + 1) / P(k) of the hypergeometric distribution.
    let ratio = |k: f64| (n - k) * (hits - k) / ((k + 1.0) * (others - hits + k + 1.0));
    let (lowest, highest) = ((hits - others).max(0.0), n.min(hits));
    let mode = ((n + 1.0) * (hits + 1.0) / (all + 2.0)).floor().clamp(lowest, highest);
    let is_upper = a >= hits * n / all;
    let is_in_tail = |k: f64| if is_upper { k >= a } else { k <= a };
    // The terms start at the mode with 1, so that no term is too large or too small for a float.
    let (mut total, mut tail) = (1.0, f64::from(u8::from(is_in_tail(mode))));
    let mut add = |k: f64, term: f64| {
        total += term;
        if is_in_tail(k) {
            tail += term;
        }
        term > total * 1e-18
    };
    let (mut k, mut term) = (mode, 1.0);
    while k < highest {
        term *= ratio(k);
        k += 1.0;
        if !add(k, term) {
            break;
        }
    }
    (k, term) = (mode, 1.0);
    while k > lowest {
        k -= 1.0;
        term /= ratio(k);
        if !add(k, term) {
            break;
        }
    }
    (2.0 * tail / total).min(1.0)
}

/// Returns a share with Wilson's score interval. If all values are hits, the upper bound is 1, and
/// if none is, the lower bound is 0.
#[allow(clippy::cast_precision_loss)]
pub(super) fn share(hits: u64, all: u64) -> Option<Estimate> {
    if all == 0 {
        return None;
    }
    let n = all as f64;
    let (rate, z) = (hits as f64 / n, Z_95 * Z_95);
    let middle = (rate + z / (2.0 * n)) / (1.0 + z / n);
    let reach = Z_95 * (rate * (1.0 - rate) / n + z / (4.0 * n * n)).sqrt() / (1.0 + z / n);
    let low = if hits == 0 { 0.0 } else { (middle - reach).max(0.0) };
    let high = if hits >= all { 1.0 } else { (middle + reach).min(1.0) };
    Some(Estimate { value: rate, low: Some(low), high: Some(high) })
}

/// The values of one rate in batches of equal length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Batches {
    number: f64,
    /// The square of the standard error of the mean of all batches.
    variance_of_mean: f64,
}

/// The most batches. More batches would be shorter, so that neighbours depend on each other more.
const MOST_BATCHES: usize = 20;
/// The fewest batches.
const FEWEST_BATCHES: usize = 5;

#[allow(clippy::cast_precision_loss)]
impl Batches {
    /// Merges intervals to batches of at least `shortest` intervals. `None` if there are too few
    /// intervals.
    pub(super) fn new(intervals: &[f64], shortest: usize) -> Option<Batches> {
        let size = intervals.len().div_ceil(MOST_BATCHES).max(shortest).max(1);
        let means: Vec<f64> = intervals
            .chunks_exact(size)
            .map(|batch| batch.iter().sum::<f64>() / size as f64)
            .collect();
        if means.len() < FEWEST_BATCHES {
            return None;
        }
        let number = means.len() as f64;
        let mean = means.iter().sum::<f64>() / number;
        let squares: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Batches { number, variance_of_mean: squares / (number - 1.0) / number })
    }

    pub(super) fn interval(self, value: f64) -> Estimate {
        let reach = critical_t(self.number - 1.0) * self.variance_of_mean.sqrt();
        Estimate { value, low: Some((value - reach).max(0.0)), high: Some(value + reach) }
    }
}

/// Returns the two-sided probability of Welch's t-test for a difference of two rates.
pub(super) fn rates_differ(difference: f64, base: Batches, new: Batches) -> f64 {
    let (one, other) = (base.variance_of_mean, new.variance_of_mean);
    if one + other <= 0.0 {
        return if difference == 0.0 { 1.0 } else { 0.0 };
    }
    let freedom = (one + other).powi(2)
        / (one.powi(2) / (base.number - 1.0) + other.powi(2) / (new.number - 1.0));
    two_sided_t(difference.abs() / (one + other).sqrt(), freedom)
}

/// Returns the two-sided probability of the t-test for a mean difference over pairs. `margin` is
/// the half-width of its 95 % confidence interval. `None` without a pair.
#[allow(clippy::cast_precision_loss)]
pub(super) fn mean_differs(mean: f64, margin: f64, pairs: u64) -> Option<f64> {
    /// With more degrees of freedom, the t distribution is almost the normal distribution.
    const MOST_FREEDOM: u64 = 10_000;
    let freedom = pairs.checked_sub(1)?.min(MOST_FREEDOM) as f64;
    let error = margin / Z_95;
    if error <= 0.0 {
        return Some(if mean == 0.0 { 1.0 } else { 0.0 });
    }
    Some(two_sided_t(mean.abs() / error, freedom))
}

/// Returns the probability that the absolute value of Student's t is at least `t`, for a whole
/// number of degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4). A fraction is rounded
/// down, so that the probability is not too low.
fn two_sided_t(t: f64, freedom: f64) -> f64 {
    let freedom = freedom.floor().max(1.0);
    let angle = (t / freedom.sqrt()).atan();
    let is_odd = freedom % 2.0 > 0.5;
    // The factors are 2/3, 4/5, … for an odd number, and 1/2, 3/4, … for an even number.
    let first = if is_odd { 2.0 } else { 1.0 };
    let (mut sum, mut term) = (0.0, if is_odd { angle.cos() } else { 1.0 });
    let mut step = first;
    let last = if is_odd { freedom - 1.0 } else { freedom };
    while step <= last {
        sum += term;
        term *= step / (step + 1.0) * angle.cos().powi(2);
        step += 2.0;
    }
    let inside = if is_odd {
        (angle + angle.sin() * sum) * 2.0 / std::f64::consts::PI
    } else {
        angle.sin() * sum
    };
    (1.0 - inside).clamp(0.0, 1.0)
}

/// Returns the half-width of a 95 % confidence interval in standard errors.
fn critical_t(freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 100.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if two_sided_t(middle, freedom) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// Returns, for each probability, whether it is significant if all tests together may have a false
/// alarm with the probability `error` (the method of Holm).
#[allow(clippy::cast_precision_loss)]
pub(super) fn significant(probabilities: &[f64], error: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let at = |index: usize| probabilities.get(index).copied().unwrap_or(1.0);
    order.sort_by(|one, other| at(*one).total_cmp(&at(*other)));
    let mut found = vec![false; probabilities.len()];
    for (rank, index) in order.iter().enumerate() {
        if at(*index) > error / (order.len() - rank) as f64 {
            break;
        }
        if let Some(found) = found.get_mut(*index) {
            *found = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss, clippy::float_cmp)]

    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    /// The values 0.01, 0.02, … n/100. Each value has the count 1.
    fn values(n: u64) -> Vec<(f64, u64)> {
        (1..=n).map(|i| (i as f64 / 100.0, 1)).collect()
    }

    #[test]
    fn an_interval_contains_the_true_quantile_in_about_95_of_100_samples() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for q in [0.5, 0.9, 0.99] {
            let held = (0..400).filter(|_| {
                let mut sample: Vec<(f64, u64)> =
                    (0..1000).map(|_| (random.random::<f64>(), 1)).collect();
                sample.sort_by(|a, b| a.0.total_cmp(&b.0));
                let Estimate { low, high, .. } =
                    Sample::new(&sample, None).unwrap().quantile(q).unwrap();
                (low.unwrap()..=high.unwrap()).contains(&q)
            });
            let held = held.count();
            assert!((368..=400).contains(&held), "p{q}: {held} of 400");
        }
    }

    #[test]
    fn an_interval_of_a_share_holds_the_share() {
        for (hits, all) in [(0, 7), (7, 7), (10_000, 10_000), (1, 3), (999, 1000)] {
            let Estimate { value, low, high } = share(hits, all).unwrap();
            let (low, high) = (low.unwrap(), high.unwrap());
            assert!(low <= value && value <= high && low < high, "{hits} of {all}: {low} {high}");
            assert!(hits < all || high == 1.0);
            assert!(hits > 0 || low == 0.0);
        }
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, method 3.
        for (hits, all, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (1, 29, 0.0061, 0.1718)]
        {
            let found = share(hits, all).unwrap();
            assert!((found.low.unwrap() - low).abs() < 1e-4, "{found:?}");
            assert!((found.high.unwrap() - high).abs() < 1e-4, "{found:?}");
        }
    }

    #[test]
    fn a_quantile_of_too_few_values_has_no_interval() {
        let quantile = |values: &[(f64, u64)], q| Sample::new(values, None)?.quantile(q);
        assert!(quantile(&values(5), 0.5).is_some_and(|estimate| !estimate.has_interval()));
        assert!(quantile(&values(30), 0.5).is_some_and(|estimate| estimate.has_interval()));
        assert!(quantile(&values(300), 0.99).is_some_and(|estimate| !estimate.has_interval()));
        assert!(quantile(&values(1000), 0.99).is_some_and(|estimate| estimate.has_interval()));
        assert_eq!((quantile(&values(99), 0.99), quantile(&[], 0.5)), (None, None));
        // One value with a high count is as good as many values.
        let one = quantile(&[(0.2, 1000)], 0.99).unwrap();
        assert_eq!(one, Estimate { value: 0.2, low: Some(0.2), high: Some(0.2) });
        // 1,000 gaps of 10 requests count as 10 values.
        let gaps = values(1000);
        let gaps = Sample::new(&gaps, Some(10)).unwrap();
        assert!(gaps.quantile(0.5).is_some() && gaps.quantile(0.99).is_none());
    }

    #[test]
    fn the_exact_test_agrees_with_published_values() {
        // Fisher's lady tasting tea, "The Design of Experiments", 1935: one side has 17/70.
        assert!((shares_differ((3, 4), (1, 4)) - 2.0 * 17.0 / 70.0).abs() < 1e-12);
        assert!((shares_differ((4, 4), (0, 4)) - 2.0 / 70.0).abs() < 1e-12);
        assert!((shares_differ((5, 10), (50, 100)) - 1.0).abs() < 1e-9);
        assert_eq!(shares_differ((0, 10), (0, 10)), 1.0);
        assert_eq!(shares_differ((10, 10), (10, 10)), 1.0);
        assert!(shares_differ((0, 1 << 30), (1 << 29, 1 << 30)) < 1e-300);
    }

    #[test]
    fn students_t_agrees_with_its_tables() {
        for (freedom, t) in
            [(1.0, 12.706), (2.0, 4.303), (5.0, 2.571), (10.0, 2.228), (38.0, 2.024)]
        {
            assert!((critical_t(freedom) - t).abs() < 1e-3, "{freedom}: {}", critical_t(freedom));
        }
        assert!((two_sided_t(4.587, 10.0) - 0.001).abs() < 1e-5);
    }

    #[test]
    fn a_mean_difference_is_judged_by_its_standard_error() {
        let probability = mean_differs(0.0223, 0.0196, 11).unwrap();
        assert!((probability - 0.05).abs() < 1e-3, "{probability}");
        let many = mean_differs(-0.0196, 0.0196, u64::MAX).unwrap();
        assert!((many - 0.05).abs() < 1e-3, "{many}");
        assert_eq!((mean_differs(0.0, 0.0, 9), mean_differs(1.0, 0.0, 9)), (Some(1.0), Some(0.0)));
        assert_eq!(mean_differs(1.0, 1.0, 0), None);
    }

    #[test]
    fn a_quantile_test_sees_a_shift_even_if_all_values_of_a_run_are_equal() {
        let (base, new) = ([(5.0, 1000)], [(5.5, 1000)]);
        let sample = |values| Sample::new(values, None).unwrap();
        for q in [0.5, 0.9, 0.99] {
            assert!(quantiles_differ(sample(&base), sample(&new), q) < 1e-9, "p{q}");
            assert_eq!(quantiles_differ(sample(&base), sample(&base), q), 1.0);
        }
    }

    #[test]
    fn the_method_of_holm_compares_the_kth_lowest_with_its_part_of_the_error() {
        assert_eq!(significant(&[0.04, 0.01, 0.02], 0.05), [true, true, true]);
        assert_eq!(significant(&[0.04, 0.01, 0.03], 0.05), [false, true, false]);
        assert_eq!(significant(&[0.02, 0.03, 0.04], 0.05), [false, false, false]);
    }

    #[test]
    fn batch_means_need_enough_intervals() {
        let noisy: Vec<f64> = (0..100_u32).map(|i| f64::from(10 + i % 3)).collect();
        let batches = Batches::new(&noisy, 1).unwrap();
        assert!((batches.number - 20.0).abs() < 1e-9);
        assert_eq!(Batches::new(&noisy, 21), None);
        assert_eq!(Batches::new(&noisy[..4], 1), None);
        let interval = batches.interval(11.0);
        assert!(interval.low.unwrap() < 11.0 && interval.high.unwrap() > 11.0);
        assert!(rates_differ(5.0, batches, batches) < 1e-9);
        assert!(rates_differ(0.02, batches, batches) > 0.5);
    }
}
