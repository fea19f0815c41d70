//! The distances between arrivals, in millionths of a mean distance.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Gamma};

use super::Shard;
use crate::random::{self, Purpose};

/// A mean distance.
pub const MEAN_GAP: u64 = 1_000_000;

/// How arrivals are spread about the rate. Any open-loop shape takes any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Arrivals {
    /// Evenly: each distance is the mean.
    #[default]
    Constant,
    /// As those of many independent users: distances are exponential.
    Poisson,
    /// Distances follow a gamma distribution of this shape, as vLLM defines burstiness: below 1 they
    /// come in bursts, 1 is Poisson, above 1 they are more even than that.
    Burstiness(f64),
}

/// How the arrivals of a scenario are spread, and which of them are ours: what they are a function of
/// beside the schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrivalSpec {
    /// Evenly or at random.
    pub arrivals: Arrivals,
    /// The seed of the configuration.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// Which of them are ours.
    pub shard: Shard,
}

/// The distances of one cycle, as a function of (seed, scenario, cycle).
#[derive(Clone, Debug)]
pub struct ArrivalGaps {
    source: Source,
    shard: Shard,
    /// How many arrivals, all shards taken together, the next distance spans.
    stride: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Even,
    Exponential(ChaCha8Rng),
    Gamma(Gamma<f64>, ChaCha8Rng),
}

impl ArrivalGaps {
    /// The distances of a cycle that so many arrivals came before.
    pub fn new(spread: &ArrivalSpec, cycle: u64, before: u64) -> ArrivalGaps {
        let random = || {
            let mut random = random::seeded_rng(spread.seed, &spread.scenario, Purpose::Arrivals);
            random.set_stream(cycle);
            random
        };
        let source = match spread.arrivals {
            Arrivals::Constant => Source::Even,
            Arrivals::Poisson => Source::Exponential(random()),
            // A shape that the distribution refuses is not burstiness; configuration has said so.
            Arrivals::Burstiness(shape) => match Gamma::new(shape, shape.recip()) {
                Ok(gamma) => Source::Gamma(gamma, random()),
                Err(_) => Source::Even,
            },
        };
        let shard = spread.shard;
        ArrivalGaps { source, shard, stride: shard.arrivals_to_skip(before) + 1 }
    }

    /// Whether distances are all the same, so that only a fraction is carried from cycle to cycle.
    pub fn is_even(&self) -> bool {
        matches!(self.source, Source::Even)
    }

    /// The distance to the next arrival of this shard; at least 1.
    pub fn next_gap(&mut self) -> u64 {
        let stride = std::mem::replace(&mut self.stride, u64::from(self.shard.count()));
        match self.source {
            Source::Even => stride * MEAN_GAP,
            _ => (0..stride).map(|_| self.draw()).sum(),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn draw(&mut self) -> u64 {
        let mean_distances: f64 = match &mut self.source {
            Source::Even => return MEAN_GAP,
            Source::Exponential(random) => Exp1.sample(random),
            Source::Gamma(gamma, random) => gamma.sample(random),
        };
        ((mean_distances * MEAN_GAP as f64).round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss)]

    use super::*;

    fn distances(arrivals: Arrivals, seed: u64, n: usize) -> Vec<f64> {
        let spread = ArrivalSpec { arrivals, seed, scenario: "s".into(), shard: Shard::ALL };
        let mut series = ArrivalGaps::new(&spread, 0, 0);
        (0..n).map(|_| series.next_gap() as f64 / MEAN_GAP as f64).collect()
    }

    /// The coefficient of variation.
    fn cv(distances: &[f64]) -> f64 {
        let n = distances.len() as f64;
        let mean = distances.iter().sum::<f64>() / n;
        let variance = distances.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / n;
        variance.sqrt() / mean
    }

    #[test]
    fn the_same_seed_gives_the_same_series_and_another_another() {
        let poisson = |seed, scenario, cycle| {
            let spread = ArrivalSpec {
                arrivals: Arrivals::Poisson,
                seed,
                scenario: String::from(scenario),
                shard: Shard::ALL,
            };
            let mut series = ArrivalGaps::new(&spread, cycle, 0);
            std::iter::repeat_with(|| series.next_gap()).take(8).collect::<Vec<_>>()
        };
        assert_eq!(poisson(1, "a", 0), poisson(1, "a", 0));
        for other in [poisson(2, "a", 0), poisson(1, "b", 0), poisson(1, "a", 1)] {
            assert_ne!(poisson(1, "a", 0), other);
        }
    }

    #[test]
    fn shards_are_the_one_series_dealt_out() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Burstiness(0.5)] {
            let marks = |shard: Shard, n: usize| {
                let mut series = ArrivalGaps::new(
                    &ArrivalSpec { arrivals, seed: 5, scenario: "s".into(), shard },
                    3,
                    600,
                );
                let marks = (0..n).scan(0, move |at, _| {
                    *at += series.next_gap();
                    Some(*at)
                });
                marks.collect::<Vec<u64>>()
            };
            let whole = marks(Shard::ALL, 30);
            for index in 0..3 {
                let dealt: Vec<_> = whole.iter().copied().skip(index as usize).step_by(3).collect();
                assert_eq!(marks(Shard::new(index, 3).unwrap(), 10), dealt);
            }
        }
    }

    #[test]
    fn burstiness_is_the_shape_of_a_gamma_distribution_with_a_mean_of_one() {
        for shape in [0.25, 1.0, 4.0] {
            let distances = distances(Arrivals::Burstiness(shape), 3, 200_000);
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            assert!((mean - 1.0).abs() < 0.02, "{shape}: {mean}");
            assert!(
                (cv(&distances) * shape.sqrt() - 1.0).abs() < 0.03,
                "{shape}: {}",
                cv(&distances)
            );
        }
    }

    /// Kolmogorov and Smirnov's distance of 1,000 gaps from the exponential distribution stays below
    /// the critical value at p = 0.01 for at least 95 of 100 seeds.
    #[test]
    fn poisson_gaps_are_exponential() {
        let n = 1000;
        let critical = 1.628 / (n as f64).sqrt();
        let passes = |seed: u64| {
            let mut gaps = distances(Arrivals::Poisson, seed, n);
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
        // The test can tell: even gaps fail it.
        let even = distances(Arrivals::Constant, 0, n);
        assert!(even.iter().all(|gap| (gap - 1.0).abs() < 1e-9));
    }
}
