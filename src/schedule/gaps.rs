//! The marks of arrivals, and the gaps between marks, in millionths of an arrival.
//!
//! Marks are on the axis of Λ, which counts expected arrivals. There, the mean gap is one arrival
//! at every rate.

use super::Shard;
use super::blocks::RandomMarks;
use crate::random::{self, Purpose};

/// One arrival.
pub const MEAN_GAP: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Arrivals {
    #[default]
    Constant,
    /// A Poisson process, which has exponential gaps, as with many independent users.
    Poisson,
    /// Gamma gaps with this shape, which vLLM calls burstiness. Below 1, arrivals form bursts. At
    /// 1, they are a Poisson process. Above 1, gaps are more even.
    Burstiness(f64),
}

impl Arrivals {
    /// Returns true if all gaps are equal. Equal gaps continue across the start of a cycle.
    pub fn is_even(self) -> bool {
        self == Arrivals::Constant
    }
}

/// The values that, with a schedule, determine the arrivals of a scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArrivalSpec {
    pub arrivals: Arrivals,
    pub seed: u64,
    pub scenario: String,
    pub shard: Shard,
}

/// The marks of one shard in one cycle. They depend only on the seed, the scenario and the cycle.
#[derive(Clone, Debug)]
pub struct ArrivalMarks {
    source: Source,
    /// The number of arrivals of all shards before this cycle.
    earlier: u64,
    /// The number of arrivals of all shards in this cycle before the current one.
    index: u64,
    /// The distance between two arrivals of one shard.
    shards: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Even,
    Random(Box<RandomMarks>),
}

impl ArrivalMarks {
    /// Returns the marks of a cycle, from the first mark of this shard after `after`. `earlier` is
    /// the number of arrivals of all shards before this cycle. This takes the same time for every
    /// `after`.
    pub fn new(spec: &ArrivalSpec, cycle: u64, earlier: u64, after: u64) -> ArrivalMarks {
        let random = |shape| {
            let mut random = random::seeded_rng(spec.seed, &spec.scenario, Purpose::Arrivals);
            random.set_stream(cycle);
            RandomMarks::new(shape, random, after)
        };
        let source = match spec.arrivals {
            Arrivals::Constant => None,
            Arrivals::Poisson => random(1.0),
            // The configuration rejects each shape for which this is `None`.
            Arrivals::Burstiness(shape) => random(shape),
        };
        let source = source.map_or(Source::Even, |marks| Source::Random(Box::new(marks)));
        let passed = match &source {
            Source::Even => after / MEAN_GAP,
            Source::Random(marks) => marks.number(),
        };
        let shards = u64::from(spec.shard.count());
        let first = spec.shard.arrivals_to_skip(earlier);
        let index = first + passed.saturating_sub(first).div_ceil(shards) * shards;
        let mut marks = ArrivalMarks { source, earlier, index, shards };
        marks.reach_index();
        marks
    }

    pub fn position(&self) -> u64 {
        match &self.source {
            Source::Even => (self.index + 1).saturating_mul(MEAN_GAP),
            Source::Random(marks) => marks.position(),
        }
    }

    /// The number of the current arrival, among the arrivals of all shards.
    pub fn number(&self) -> u64 {
        self.earlier.wrapping_add(self.index)
    }

    /// Advances to the next arrival of this shard.
    pub fn advance(&mut self) {
        self.index += self.shards;
        self.reach_index();
    }

    fn reach_index(&mut self) {
        if let Source::Random(marks) = &mut self.source {
            while marks.number() < self.index {
                marks.advance();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss)]

    use super::*;

    fn random_gaps(arrivals: Arrivals, seed: u64, n: usize) -> Vec<f64> {
        let spec = ArrivalSpec { arrivals, seed, scenario: "s".into(), shard: Shard::ALL };
        let mut last = 0;
        let gaps = marks(&spec, 0, 0, n).into_iter().map(|mark| {
            let gap = mark - std::mem::replace(&mut last, mark);
            gap as f64 / MEAN_GAP as f64
        });
        gaps.collect()
    }

    fn marks(spec: &ArrivalSpec, cycle: u64, earlier: u64, n: usize) -> Vec<u64> {
        let mut marks = ArrivalMarks::new(spec, cycle, earlier, 0);
        let all = std::iter::repeat_with(|| {
            let position = marks.position();
            marks.advance();
            position
        });
        all.take(n).collect()
    }

    /// The standard deviation divided by the mean.
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
            marks(&spec, cycle, 0, 8)
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
                let spec = ArrivalSpec { arrivals, seed: 5, scenario: "s".into(), shard };
                marks(&spec, 3, 600, n)
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

    /// A Kolmogorov–Smirnov test of 1,000 gaps. At the significance level of 0.01, about 99 of 100
    /// seeds pass.
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
        // Equal gaps must fail the same test.
        let even = random_gaps(Arrivals::Constant, 0, n);
        assert!(even.iter().all(|gap| (gap - 1.0).abs() < 1e-9));
    }
}
