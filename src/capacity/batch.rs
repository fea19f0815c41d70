//! The judged requests of a step, in batches of requests that were due one after the other, and the
//! dependence between them.
//!
//! Requests of one run are not independent: the requests behind a slow request are slow too. Then
//! the batches differ by more than chance, and a sample contains less information than its number
//! of requests suggests. The design effect is the factor between the two (Kish, "Survey Sampling",
//! 1965, section 8.2).

use crate::slo::ObjectiveCounts;

/// A number of blocks below this says too little about the variance between blocks.
const FEWEST_BLOCKS: usize = 8;
/// The dispersion of independent values exceeds its mean by more than this many standard
/// deviations only by rare chance.
const SIGNIFICANT: f64 = 2.0;

/// The requests of one batch, judged by one objective.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    pub counts: ObjectiveCounts,
    /// The latencies that the objective limits.
    latencies: Moments,
}

/// The sums from which a mean and a variance follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, other: Moments) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }
}

impl Batch {
    /// Counts one request. `latency` is in seconds. `None` if the request failed, or if the
    /// objective limits no latency.
    pub fn record(&mut self, met: bool, latency: Option<f64>) {
        self.counts.record(met);
        if let Some(value) = latency {
            self.latencies.add(Moments { count: 1.0, sum: value, squares: value * value });
        }
    }

    fn add(&mut self, other: &Batch) {
        self.counts.add(other.counts);
        self.latencies.add(other.latencies);
    }
}

impl From<ObjectiveCounts> for Batch {
    fn from(counts: ObjectiveCounts) -> Batch {
        Batch { counts, latencies: Moments::default() }
    }
}

/// The batches of one objective.
pub type Batches = Vec<Batch>;

/// Returns the counts of all batches.
pub fn total(batches: &[Batch]) -> ObjectiveCounts {
    sum(batches).counts
}

fn sum(batches: &[Batch]) -> Batch {
    let mut total = Batch::default();
    for batch in batches {
        total.add(batch);
    }
    total
}

/// Returns the design effect that the misses show, at least 1.
pub(super) fn effect_of_misses(batches: &[Batch]) -> f64 {
    largest_effect(batches, of_misses)
}

/// Returns the design effect that the latencies show, at least 1. If no request misses the
/// objective, only the latencies show that requests depend on each other.
pub(super) fn effect_of_latencies(batches: &[Batch]) -> f64 {
    largest_effect(batches, of_latencies)
}

/// A queue can remember its past for longer than one batch. Then larger blocks have a larger
/// effect, so the result is the largest effect of all sizes.
fn largest_effect(batches: &[Batch], effect: fn(&[Batch]) -> f64) -> f64 {
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2));
    let sizes = sizes.take_while(|size| size * FEWEST_BLOCKS <= batches.len());
    let effects = sizes.map(|size| {
        let blocks: Batches = batches.chunks(size).map(sum).collect();
        effect(&blocks)
    });
    effects.fold(1.0, f64::max)
}

/// The dispersion statistic of Pearson, divided by its degrees of freedom. With few blocks, the
/// statistic is uncertain. The test then uses the normal distribution although the distribution of
/// Student applies, so the result contains the square of the quotient of their quantiles.
fn of_misses(blocks: &[Batch]) -> f64 {
    let ObjectiveCounts { judged, met } = total(blocks);
    let used = blocks.iter().map(|block| block.counts).filter(|counts| counts.judged > 0);
    let used: Vec<ObjectiveCounts> = used.collect();
    if used.len() < FEWEST_BLOCKS || met == 0 || met == judged {
        return 1.0;
    }
    let fraction = real(met) / real(judged);
    let deviation = |counts: &ObjectiveCounts| {
        let expected = real(counts.judged) * fraction;
        (real(counts.met) - expected).powi(2) / (expected * (1.0 - fraction))
    };
    let degrees = degrees(used.len());
    used.iter().map(deviation).sum::<f64>() / degrees * student_factor(degrees)
}

/// The variance between the means of the blocks, divided by the variance that it would have if all
/// latencies were independent. 1 if chance explains the difference.
fn of_latencies(blocks: &[Batch]) -> f64 {
    let used = blocks.iter().map(|block| block.latencies).filter(|block| block.count > 0.0);
    let used: Vec<Moments> = used.collect();
    let all = sum(blocks).latencies;
    if used.len() < FEWEST_BLOCKS || all.count < 2.0 {
        return 1.0;
    }
    let mean = all.sum / all.count;
    let variance = (all.squares - all.count * mean * mean) / (all.count - 1.0);
    // Below this, the variance is an error of rounding.
    if variance <= 1e-12 * mean * mean {
        return 1.0;
    }
    let degrees = degrees(used.len());
    let between = |block: &Moments| block.count * (block.sum / block.count - mean).powi(2);
    let ratio = used.iter().map(between).sum::<f64>() / degrees / variance;
    let is_chance = ratio <= 1.0 + SIGNIFICANT * (2.0 / degrees).sqrt();
    if is_chance { 1.0 } else { ratio }
}

#[allow(clippy::cast_precision_loss)]
fn degrees(blocks: usize) -> f64 {
    (blocks - 1) as f64
}

/// The square of the quotient of the quantiles of Student's distribution and of the normal
/// distribution at the error of a look, by the first terms of the expansion of Cornish and Fisher
/// (Abramowitz and Stegun, 26.7.5).
fn student_factor(degrees: f64) -> f64 {
    /// The quantile of the normal distribution at 1 − the error of a look.
    const Z: f64 = 2.394;
    let first = (Z.powi(2) + 1.0) / 4.0;
    let second = (5.0 * Z.powi(4) + 16.0 * Z.powi(2) + 3.0) / 96.0;
    (1.0 + first / degrees + second / degrees.powi(2)).powi(2)
}

#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}
