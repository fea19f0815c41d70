//! Random marks of a cycle. A pacer can start at any of them.
//!
//! A daemon can join a cycle that began a month ago. It would take long to draw each gap of a
//! month. So this module draws from the top down: the length of a *block* of 256³ gaps, then its
//! 256 parts, then the 256 parts of a part, down to single gaps. One draw skips a complete part.
//!
//! The gaps have the exact distribution. The sum of n independent gaps with the gamma shape a has
//! the gamma shape n·a. The module draws this sum first. Then it draws 256 gamma values and scales
//! them to the sum. The results are distributed like 256 independent gaps, because the ratios of
//! gamma draws do not depend on their sum.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use super::gaps::MEAN_GAP;

/// The number of parts of a block, and of each part.
const PARTS: u64 = 256;
/// The number of divisions from a block to single gaps.
const DIVISIONS: usize = 3;

#[derive(Clone, Debug)]
pub(super) struct RandomMarks {
    random: ChaCha8Rng,
    /// The distributions of the lengths of 1, 256, 256² and 256³ gaps, in arrivals.
    lengths: [Gamma<f64>; DIVISIONS + 1],
    blocks: ChaCha8Rng,
    /// The parts that contain the current mark. The parts of the first division are single gaps.
    divisions: [Option<Division>; DIVISIONS],
    block: Part,
    /// The gap before the current mark.
    gap: Part,
}

/// An interval on the axis of Λ with 256ⁿ gaps, from n = 0 to n = 3.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The index among all parts of the same size. For a single gap, this is the number of its
    /// mark.
    number: u64,
    start: u64,
    end: u64,
}

impl RandomMarks {
    /// Returns marks with gamma gaps of this shape and a mean of one arrival. The current mark is
    /// the first one after `after`. `None` if the shape is not positive and finite.
    pub(super) fn new(shape: f64, random: ChaCha8Rng, after: u64) -> Option<RandomMarks> {
        // If the area of a cycle overflows, this limit still ends the loop below.
        let after = after.min(u64::MAX / 2);
        let lengths = |gaps: f64| Gamma::new(shape * gaps, shape.recip()).ok();
        let nothing = Part { number: 0, start: 0, end: 0 };
        let mut marks = RandomMarks {
            lengths: [lengths(1.0)?, lengths(256.0)?, lengths(65_536.0)?, lengths(16_777_216.0)?],
            blocks: at_part(&random, DIVISIONS, 0),
            random,
            divisions: [const { None }; DIVISIONS],
            block: nothing,
            gap: nothing,
        };
        marks.draw_block();
        while marks.block.end <= after {
            marks.block.number += 1;
            marks.draw_block();
        }
        marks.enter(DIVISIONS, marks.block, after);
        Some(marks)
    }

    pub(super) fn position(&self) -> u64 {
        self.gap.end
    }

    /// The number of earlier marks.
    pub(super) fn number(&self) -> u64 {
        self.gap.number
    }

    pub(super) fn advance(&mut self) {
        let passed = self.gap.end;
        for size in 0..DIVISIONS {
            if let Some(part) = self.divisions[size].as_mut().and_then(Division::next_part) {
                return self.enter(size, part, passed);
            }
        }
        self.block.number += 1;
        self.draw_block();
        self.enter(DIVISIONS, self.block, passed);
    }

    fn draw_block(&mut self) {
        let start = self.block.end;
        let length = micro(self.lengths[DIVISIONS].sample(&mut self.blocks));
        let end = start.saturating_add(length.max(shortest(DIVISIONS)));
        self.block = Part { start, end, ..self.block };
    }

    /// Finds the first mark after `after` in a part of 256^`size` gaps. The part must end after
    /// `after`.
    fn enter(&mut self, size: usize, mut part: Part, after: u64) {
        for size in (0..size).rev() {
            let random = at_part(&self.random, size, part.number);
            let mut division = Division::new(part, self.lengths[size], random, shortest(size));
            while let Some(next) = division.next_part() {
                part = next;
                if part.end > after {
                    break;
                }
            }
            self.divisions[size] = Some(division);
        }
        self.gap = part;
    }
}

/// Divides a part into 256 random parts.
#[derive(Clone, Debug)]
struct Division {
    divided: Part,
    lengths: Gamma<f64>,
    random: ChaCha8Rng,
    /// The sum of the 256 draws, before they are scaled to the length of `divided`.
    total: f64,
    drawn: f64,
    /// The shortest allowed length of a part.
    shortest: u64,
    count: u64,
    /// The end of the last drawn part.
    end: u64,
}

impl Division {
    fn new(divided: Part, lengths: Gamma<f64>, random: ChaCha8Rng, shortest: u64) -> Division {
        // The sum is needed before the first part, so draw everything twice.
        let mut first_pass = random.clone();
        let total = (0..PARTS).map(|_| lengths.sample(&mut first_pass)).sum();
        let end = divided.start;
        Division { divided, lengths, random, total, drawn: 0.0, shortest, count: 0, end }
    }

    /// Returns the next part. The last part ends at the end of `divided`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn next_part(&mut self) -> Option<Part> {
        let remaining = (PARTS - self.count).checked_sub(1)?;
        let Part { number, start, end } = self.divided;
        self.drawn += self.lengths.sample(&mut self.random);
        // With a very low shape, all draws can be so small that their sum is 0. The quotient is
        // then NaN, which converts to 0.
        let offset = (self.drawn / self.total * (end - start) as f64).round() as u64;
        // `divided` has room for 256 shortest parts, so the limits never cross.
        let part_end = (start + offset)
            .max(self.end + self.shortest)
            .min(end - remaining * self.shortest)
            .max(if remaining == 0 { end } else { 0 });
        let part = Part { number: number * PARTS + self.count, start: self.end, end: part_end };
        (self.count, self.end) = (self.count + 1, part_end);
        Some(part)
    }
}

/// Returns the generator of one part. Each part has a separate range of random numbers.
fn at_part(random: &ChaCha8Rng, size: usize, number: u64) -> ChaCha8Rng {
    let mut random = random.clone();
    // The draws of a part need some thousand random numbers, and each range has 2²⁴.
    random.set_word_pos(u128::from(size as u64) << 64 | u128::from(number << 24));
    random
}

/// The shortest length of 256^`size` gaps. The shortest gap is a millionth of an arrival.
fn shortest(size: usize) -> u64 {
    (0..size).fold(1, |length, _| length * PARTS)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn micro(arrivals: f64) -> u64 {
    (arrivals * MEAN_GAP as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn marks(shape: f64, seed: u64, after: u64) -> RandomMarks {
        RandomMarks::new(shape, ChaCha8Rng::seed_from_u64(seed), after).unwrap()
    }

    /// With a shape of 0.01, many marks are close to an edge of a part.
    #[test]
    fn marks_joined_anywhere_are_the_marks_of_the_full_sequence() {
        for shape in [0.01, 0.5, 1.0, 100.0] {
            let mut walked = marks(shape, 3, 0);
            let all: Vec<u64> = std::iter::repeat_with(|| {
                let position = walked.position();
                walked.advance();
                position
            })
            .take(70_000)
            .collect();
            assert!(all.is_sorted_by(|one, other| one < other), "{shape}: marks rise");
            let joins = (0..all.len()).step_by(997).chain([255, 256, 257, 65_535, 65_536]);
            for index in joins {
                let mut joined = marks(shape, 3, all[index] - 1);
                for (number, mark) in (index as u64..).zip(&all[index..]).take(300) {
                    assert_eq!((joined.number(), joined.position()), (number, *mark), "{shape}");
                    joined.advance();
                }
            }
        }
    }

    /// A cycle of 366 days at the highest rate has 3·10¹² arrivals.
    #[test]
    fn a_join_after_a_year_at_the_highest_rate_needs_few_draws() {
        let after = 366 * 86_400 * 100_000 * MEAN_GAP;
        let joined = marks(1.0, 1, after);
        assert!(joined.position() > after);
        let expected = after / MEAN_GAP;
        // The standard deviation is 1.8 million.
        assert!(joined.number().abs_diff(expected) < 10_000_000, "{}", joined.number());
        assert!(joined.block.number < 200_000, "{} blocks", joined.block.number);
    }

    /// A wrong scale would correlate the parts of one division.
    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn gaps_are_independent_within_a_part_and_between_parts() {
        let mut marks = marks(1.0, 7, 0);
        let mut last = 0;
        let gaps: Vec<f64> = (0..200_000)
            .map(|_| {
                let gap = (marks.position() - last) as f64 / MEAN_GAP as f64 - 1.0;
                last = marks.position();
                marks.advance();
                gap
            })
            .collect();
        for distance in [1, 2, 255, 256] {
            let pairs = gaps.iter().zip(&gaps[distance..]).map(|(one, other)| one * other);
            let correlation = pairs.sum::<f64>() / gaps.len() as f64;
            // The standard deviation is 0.0022.
            assert!(correlation.abs() < 0.01, "{distance}: {correlation}");
        }
        // 256 independent gaps have the variance 256. If each part had its mean length, the
        // variance would be 0.
        let sums: Vec<f64> = gaps.chunks_exact(256).map(|part| part.iter().sum()).collect();
        let variance = sums.iter().map(|sum| sum * sum).sum::<f64>() / sums.len() as f64;
        assert!((variance / 256.0 - 1.0).abs() < 0.2, "{variance}");
    }
}
