//! The gaps between arrivals on the Λ axis, in millionths of an arrival.
//!
//! The Λ axis counts expected arrivals, not time. On this axis the mean gap is always one arrival,
//! so the distribution of the gaps does not depend on the rate.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma};

use super::Shard;
use crate::random::{self, Purpose};

/// The mean gap, which is one arrival.
pub const MEAN_GAP: u64 = 1_000_000;

/// The distribution of the gaps between arrivals. Every open-loop load works with every
/// distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Arrivals {
    /// All gaps are equal.
    #[default]
    Constant,
    /// A Poisson process: the gaps are exponentially distributed, as if many independent users sent
    /// the requests.
    Poisson,
    /// The gaps have a gamma distribution with this shape parameter, which vLLM calls burstiness.
    /// Below 1, arrivals form bursts. At 1, they are a Poisson process. Above 1, the gaps are more
    /// even.
    Burstiness(f64),
}

/// The values that determine the arrivals of a scenario, in addition to its schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrivalSpec {
    pub arrivals: Arrivals,
    /// The seed of the configuration.
    pub seed: u64,
    /// The name of the scenario.
    pub scenario: String,
    /// The shard that sends the arrivals.
    pub shard: Shard,
}

/// The gaps of one cycle. They are a function of the seed, the scenario and the number of the
/// cycle.
#[derive(Clone, Debug)]
pub struct ArrivalGaps {
    source: Source,
    shard: Shard,
    /// The number of gaps in the common sequence of all shards up to the next arrival of this
    /// shard. It is 1 if the next arrival of the common sequence belongs to this shard.
    stride: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Even,
    Exponential(ChaCha8Rng),
    Gamma(Gamma<f64>, ChaCha8Rng),
}

impl ArrivalGaps {
    /// Creates the gaps of a cycle. `earlier` is the number of arrivals of all shards in the cycles
    /// before it.
    pub fn new(spec: &ArrivalSpec, cycle: u64, earlier: u64) -> ArrivalGaps {
        let random = || {
            let mut random = random::seeded_rng(spec.seed, &spec.scenario, Purpose::Arrivals);
            random.set_stream(cycle);
            random
        };
        let source = match spec.arrivals {
            Arrivals::Constant => Source::Even,
            Arrivals::Poisson => Source::Exponential(random()),
            // The configuration rejects every shape for which the distribution returns an error, so
            // this call never returns an error.
            Arrivals::Burstiness(shape) => match Gamma::new(shape, shape.recip()) {
                Ok(gamma) => Source::Gamma(gamma, random()),
                Err(_) => Source::Even,
            },
        };
        let shard = spec.shard;
        ArrivalGaps { source, shard, stride: shard.arrivals_to_skip(earlier) + 1 }
    }

    /// Returns true if all gaps are equal. Only in this case do the gaps continue from one cycle
    /// to the next: the first gap of a cycle begins at the last arrival of the previous cycle.
    pub fn is_even(&self) -> bool {
        matches!(self.source, Source::Even)
    }

    /// Returns the gap to the next arrival of this shard. The gap is at least a millionth of an
    /// arrival.
    pub fn next_gap(&mut self) -> u64 {
        let stride = std::mem::replace(&mut self.stride, u64::from(self.shard.count()));
        match self.source {
            Source::Even => stride * MEAN_GAP,
            _ => (0..stride).map(|_| self.draw()).sum(),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn draw(&mut self) -> u64 {
        let gap: f64 = match &mut self.source {
            Source::Even => return MEAN_GAP,
            Source::Exponential(random) => Exp1.sample(random),
            Source::Gamma(gamma, random) => gamma.sample(random),
        };
        ((gap * MEAN_GAP as f64).round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss)]

    use super::*;

    fn random_gaps(arrivals: Arrivals, seed: u64, n: usize) -> Vec<f64> {
        let spec = ArrivalSpec { arrivals, seed, scenario: "s".into(), shard: Shard::ALL };
        let mut gaps = ArrivalGaps::new(&spec, 0, 0);
        (0..n).map(|_| gaps.next_gap() as f64 / MEAN_GAP as f64).collect()
    }

    /// The coefficient of variation: the standard deviation divided by the mean.
    fn cv(gaps: &[f64]) -> f64 {
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / n;
        variance.sqrt() / mean
    }

    #[test]
    fn the_seed_the_scenario_and_the_cycle_determine_the_gaps() {
        let poisson = |seed, scenario, cycle| {
            let spec = ArrivalSpec {
                arrivals: Arrivals::Poisson,
                seed,
                scenario: String::from(scenario),
                shard: Shard::ALL,
            };
            let mut gaps = ArrivalGaps::new(&spec, cycle, 0);
            std::iter::repeat_with(|| gaps.next_gap()).take(8).collect::<Vec<_>>()
        };
        assert_eq!(poisson(1, "a", 0), poisson(1, "a", 0));
        for other in [poisson(2, "a", 0), poisson(1, "b", 0), poisson(1, "a", 1)] {
            assert_ne!(poisson(1, "a", 0), other);
        }
    }

    #[test]
    fn shards_divide_one_sequence_of_arrivals() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Burstiness(0.5)] {
            let marks = |shard: Shard, n: usize| {
                let mut gaps = ArrivalGaps::new(
                    &ArrivalSpec { arrivals, seed: 5, scenario: "s".into(), shard },
                    3,
                    600,
                );
                let marks = (0..n).scan(0, move |at, _| {
                    *at += gaps.next_gap();
                    Some(*at)
                });
                marks.collect::<Vec<u64>>()
            };
            let unsharded = marks(Shard::ALL, 30);
            for index in 0..3 {
                let expected: Vec<_> =
                    unsharded.iter().copied().skip(index as usize).step_by(3).collect();
                assert_eq!(marks(Shard::new(index, 3).unwrap(), 10), expected);
            }
        }
    }

    #[test]
    fn burstiness_is_the_shape_of_a_gamma_distribution_with_a_mean_of_one() {
        for shape in [0.25, 1.0, 4.0] {
            let gaps = random_gaps(Arrivals::Burstiness(shape), 3, 200_000);
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            assert!((mean - 1.0).abs() < 0.02, "{shape}: {mean}");
            assert!((cv(&gaps) * shape.sqrt() - 1.0).abs() < 0.03, "{shape}: {}", cv(&gaps));
        }
    }

    /// A Kolmogorov–Smirnov test of 1,000 gaps against the exponential distribution. At the
    /// significance level of 0.01, about 99 of 100 seeds pass. At least 95 must pass.
    #[test]
    fn poisson_gaps_are_exponential() {
        let n = 1000;
        let critical = 1.628 / (n as f64).sqrt();
        let passes = |seed: u64| {
            let mut gaps = random_gaps(Arrivals::Poisson, seed, n);
            gaps.sort_by(f64::total_cmp);
            let steps = gaps.iter().enumerate().map(|(i, gap)| {
                let exact = 1.0 - (-gap).exp();
                let (below, above) = (i as f64 / n as f64, (i as f64 + 1.0) / n as f64);
                (exact - below).abs().max((above - exact).abs())
            });
            steps.fold(0.0, f64::max) < critical
        };
        let passed = (0..100).filter(|seed| passes(*seed)).count();
        assert!(passed >= 95, "{passed}");
        // Constant arrivals have equal gaps, so they are not exponential.
        let even = random_gaps(Arrivals::Constant, 0, n);
        assert!(even.iter().all(|gap| (gap - 1.0).abs() < 1e-9));
    }
}
