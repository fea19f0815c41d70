//! Several sources in one, by weight.
//!
//! In sequence they take turns in a fixed pattern, spread as evenly as the weights allow, and each
//! goes on where it was at its last turn. Place and turn follow from k alone, so that there is still
//! no state, and the shares are exact from the first pattern on.

use std::sync::Arc;

use super::PromptOrder;

/// Whose turn it is, over and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    /// The member at each place, and how many of its turns come before that place.
    pattern: Arc<[(u16, u32)]>,
    /// Turns of each member in one pattern.
    weights: Arc<[u32]>,
}

impl Turns {
    /// Of members with these weights, none of them 0.
    pub(super) fn new(weights: &[u32]) -> Turns {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
        let total: u32 = weights.iter().sum();
        // Smooth weighted round robin, as nginx has it: whoever is owed most is next.
        let mut owed = vec![0_i64; weights.len()];
        let mut taken = vec![0; weights.len()];
        let mut pattern = Vec::new();
        for _ in 0..total {
            let mut next = 0;
            for (member, weight) in weights.iter().enumerate() {
                owed[member] += i64::from(*weight);
                if owed[member] > owed[next] {
                    next = member;
                }
            }
            owed[next] -= i64::from(total);
            pattern.push((u16::try_from(next).unwrap_or(u16::MAX), taken[next]));
            taken[next] += 1;
        }
        Turns { pattern: pattern.into(), weights: weights.into() }
    }

    /// The share of each member.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> + '_ {
        let total: u32 = self.weights.iter().sum();
        self.weights.iter().map(move |weight| f64::from(*weight) / f64::from(total.max(1)))
    }

    /// Who answers for arrival `k`, and with the how-manieth of its own.
    pub(super) fn at(
        &self,
        k: u64,
        order: PromptOrder,
        draw: impl FnOnce(u64) -> u64,
    ) -> (usize, u64) {
        let length = self.pattern.len() as u64;
        let place = match order {
            PromptOrder::Sequential => k % length.max(1),
            PromptOrder::Random => draw(length),
        };
        let (member, before) = usize::try_from(place)
            .ok()
            .and_then(|at| self.pattern.get(at))
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
            // Nobody knows without looking at all the draws before; over time k meets all of them.
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

    fn sequential(turns: &Turns, k: u64) -> (usize, u64) {
        turns.at(k, PromptOrder::Sequential, |_| unreachable!("nothing is drawn"))
    }

    #[test]
    fn turns_are_spread_and_go_on() {
        let turns = Turns::new(&[50, 10, 10]);
        let places: Vec<_> = (0..9).map(|k| sequential(&turns, k)).collect();
        assert_eq!(
            places,
            [(0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (0, 3), (0, 4), (0, 5), (0, 6)]
        );
        assert_eq!(turns.pattern.len(), 7);
    }

    proptest! {
        #[test]
        fn each_member_gets_its_share_and_counts_its_own_turns(
            weights in proptest::collection::vec(1_u32..50, 1..6),
            patterns in 1_u64..4,
        ) {
            let turns = Turns::new(&weights);
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
