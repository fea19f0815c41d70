//! A mix: several sources of prompts with weights. These sources are its members.
//!
//! In sequential order, the members take turns in a pattern that repeats. For example, the weights
//! 2 and 1 give the pattern A, B, A. At each turn, a member sends its next prompt.
//!
//! The number of an arrival determines the member and the prompt, so a mix has no state.

use std::sync::Arc;

use super::PromptOrder;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightedRoundRobin {
    /// For each position of the pattern: the index of the member, and the number of its earlier
    /// turns in the pattern.
    pattern: Arc<[(u16, u32)]>,
    /// The number of turns of each member in the pattern.
    weights: Arc<[u32]>,
}

impl WeightedRoundRobin {
    /// No weight is 0.
    pub(super) fn new(weights: &[u32]) -> WeightedRoundRobin {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
        let total: u32 = weights.iter().sum();
        // The smooth weighted round robin of nginx: the member with the highest credit is next.
        let mut credit = vec![0_i64; weights.len()];
        let mut turns = vec![0; weights.len()];
        let mut pattern = Vec::new();
        for _ in 0..total {
            let mut next = 0;
            for (member, weight) in weights.iter().enumerate() {
                credit[member] += i64::from(*weight);
                if credit[member] > credit[next] {
                    next = member;
                }
            }
            credit[next] -= i64::from(total);
            pattern.push((u16::try_from(next).unwrap_or(u16::MAX), turns[next]));
            turns[next] += 1;
        }
        WeightedRoundRobin { pattern: pattern.into(), weights: weights.into() }
    }

    /// The fraction of the arrivals for each member.
    pub(super) fn fractions(&self) -> impl Iterator<Item = f64> + '_ {
        let total: u32 = self.weights.iter().sum();
        self.weights.iter().map(move |weight| f64::from(*weight) / f64::from(total.max(1)))
    }

    /// Returns the member that sends arrival `k`, and the number of its prompt, from 0. `draw`
    /// returns a random number below its argument.
    pub(super) fn turn_of(
        &self,
        k: u64,
        order: PromptOrder,
        draw: impl FnOnce(u64) -> u64,
    ) -> (usize, u64) {
        let length = self.pattern.len() as u64;
        let position = match order {
            PromptOrder::Sequential => k % length.max(1),
            PromptOrder::Random => draw(length),
        };
        let (member, before) = usize::try_from(position)
            .ok()
            .and_then(|position| self.pattern.get(position))
            .copied()
            .unwrap_or_default();
        let member = usize::from(member);
        let member_k = match order {
            PromptOrder::Sequential => {
                let weight = self.weights.get(member).copied().unwrap_or(1);
                (k / length.max(1))
                    .saturating_mul(u64::from(weight))
                    .saturating_add(u64::from(before))
            }
            // In random order, the number of earlier turns would need all earlier draws. So the
            // number of the prompt is `k`, which over time reaches all prompts of the member.
            PromptOrder::Random => k,
        };
        (member, member_k)
    }
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sequential(turns: &WeightedRoundRobin, k: u64) -> (usize, u64) {
        turns.turn_of(k, PromptOrder::Sequential, |_| {
            unreachable!("sequential order draws no number")
        })
    }

    #[test]
    fn the_turns_of_each_member_are_spread_evenly_and_repeat() {
        let turns = WeightedRoundRobin::new(&[50, 10, 10]);
        let order: Vec<_> = (0..9).map(|k| sequential(&turns, k)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (0, 4), (0, 5), (0, 6)]);
        assert_eq!(turns.pattern.len(), 7);
    }

    proptest! {
        #[test]
        fn each_member_gets_turns_by_its_weight(
            weights in proptest::collection::vec(1_u32..50, 1..6),
            patterns in 1_u64..4,
        ) {
            let turns = WeightedRoundRobin::new(&weights);
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let mut counts = vec![0_u64; weights.len()];
            for k in 0..total * patterns {
                let (member, member_k) = sequential(&turns, k);
                prop_assert_eq!(member_k, counts[member]);
                counts[member] += 1;
            }
            let expected: Vec<_> = weights.iter().map(|w| u64::from(*w) * patterns).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
