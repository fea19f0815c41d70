//! A mix: several sources of prompts with weights.
//!
//! In sequential order, the members take turns in a fixed pattern, spread as evenly as their weights
//! allow. Each member continues after its prompt of the turn before. The member and its prompt follow
//! from the number of the arrival alone, so there is no state. The shares are exact after each
//! complete pattern.

use std::sync::Arc;

use super::PromptOrder;

/// A repeated pattern of turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightedRoundRobin {
    /// The member at each position, and the number of its turns before that position.
    pattern: Arc<[(u16, u32)]>,
    /// The number of turns of each member in one pattern.
    weights: Arc<[u32]>,
}

impl WeightedRoundRobin {
    /// The pattern for members with these weights, none of which is 0.
    pub(super) fn new(weights: &[u32]) -> WeightedRoundRobin {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
        let total: u32 = weights.iter().sum();
        // Smooth weighted round robin, as in nginx: the member with the highest credit is next.
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

    /// The share of arrivals of each member.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let total: u32 = self.weights.iter().sum();
        self.weights.iter().map(move |weight| f64::from(*weight) / f64::from(total.max(1)))
    }

    /// Returns the member whose turn is arrival `k`, and the number of its own prompt, from 0.
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
        let own = match order {
            PromptOrder::Sequential => {
                let weight = self.weights.get(member).copied().unwrap_or(1);
                (k / length.max(1))
                    .saturating_mul(u64::from(weight))
                    .saturating_add(u64::from(before))
            }
            // The number of earlier turns would need all earlier draws. `k` reaches all prompts of
            // the member over time.
            PromptOrder::Random => k,
        };
        (member, own)
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
    fn turns_are_spread_evenly_and_repeat() {
        let turns = WeightedRoundRobin::new(&[50, 10, 10]);
        let order: Vec<_> = (0..9).map(|k| sequential(&turns, k)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (0, 4), (0, 5), (0, 6)]);
        assert_eq!(turns.pattern.len(), 7);
    }

    proptest! {
        #[test]
        fn each_member_has_its_share_and_counts_its_own_turns(
            weights in proptest::collection::vec(1_u32..50, 1..6),
            patterns in 1_u64..4,
        ) {
            let turns = WeightedRoundRobin::new(&weights);
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let mut counts = vec![0_u64; weights.len()];
            for k in 0..total * patterns {
                let (member, own) = sequential(&turns, k);
                prop_assert_eq!(own, counts[member]);
                counts[member] += 1;
            }
            let shares: Vec<_> = weights.iter().map(|w| u64::from(*w) * patterns).collect();
            prop_assert_eq!(counts, shares);
        }
    }
}
