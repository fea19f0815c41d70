//! A shard: one of N daemons that divide one schedule.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Shard i of N sends every N-th arrival, from arrival i. All shards compute the same sequence of
/// arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: NonZeroU32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a shard; write its number from 0 and the number of shards, such as `0/3`")]
pub struct ParseShardError(String);

impl Shard {
    /// All arrivals.
    pub const ALL: Shard = Shard { index: 0, count: NonZeroU32::MIN };

    /// `None` if `index` is not below `count`.
    pub fn new(index: u32, count: u32) -> Option<Shard> {
        let count = NonZeroU32::new(count)?;
        (index < count.get()).then_some(Shard { index, count })
    }

    /// From 0.
    pub fn index(self) -> u32 {
        self.index
    }

    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// The part of a total for this shard. The parts add up to the total. For example, the parts of
    /// 10 for three shards are 4, 3 and 3.
    pub fn part(self, total: u64) -> u64 {
        let count = u64::from(self.count.get());
        total / count + u64::from(u64::from(self.index) < total % count)
    }

    /// Returns the number of arrivals of other shards before the next arrival of this shard, after
    /// `earlier` arrivals of all shards. The numbers continue from cycle to cycle, so that short
    /// cycles are also divided evenly.
    pub fn arrivals_to_skip(self, earlier: u64) -> u64 {
        let count = u64::from(self.count.get());
        (u64::from(self.index) + count - earlier % count) % count
    }

    /// The number of this shard's n-th arrival, among the arrivals of all shards.
    pub fn arrival_number(self, n: u64) -> u64 {
        n.wrapping_mul(u64::from(self.count.get())).wrapping_add(u64::from(self.index))
    }
}

impl Default for Shard {
    fn default() -> Shard {
        Shard::ALL
    }
}

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Shard, ParseShardError> {
        let read = |part: &str| part.trim().parse().ok();
        let (index, count) = text.split_once('/').unwrap_or((text, ""));
        let shard =
            read(index).zip(read(count)).and_then(|(index, count)| Shard::new(index, count));
        shard.ok_or_else(|| ParseShardError(text.to_owned()))
    }
}

/// Formats the shard as in `LLMLOAD_SHARD`, such as `0/3`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_shards_add_up_to_the_total() {
        for total in 0..50 {
            for count in 1..8 {
                let parts = (0..count).map(|index| Shard::new(index, count).unwrap().part(total));
                assert_eq!(parts.sum::<u64>(), total);
            }
        }
    }

    #[test]
    fn each_arrival_belongs_to_exactly_one_shard() {
        for earlier in 0..20 {
            for count in 1..5 {
                let first = |index| Shard::new(index, count).unwrap().arrivals_to_skip(earlier);
                let mut firsts: Vec<u64> = (0..count).map(first).collect();
                firsts.sort_unstable();
                assert_eq!(firsts, (0..u64::from(count)).collect::<Vec<_>>());
                assert!(
                    (0..count).all(
                        |index| (earlier + first(index)) % u64::from(count) == u64::from(index)
                    )
                );
            }
        }
    }

    #[test]
    fn the_number_of_a_shard_is_below_the_number_of_shards() {
        assert_eq!("1/3".parse(), Ok(Shard::new(1, 3).unwrap()));
        assert_eq!(Shard::new(1, 3).unwrap().to_string(), "1/3");
        for wrong in ["3/3", "0/0", "1", "a/b", "-1/3", "", "1/2/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
