//! A shard: one of N daemons that divide the arrivals of one schedule among themselves.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// One of N shards. All shards compute the same sequence of arrivals. Shard i sends every N-th
/// arrival of this sequence, beginning with arrival i.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: NonZeroU32,
}

/// An error in the text of a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a shard; write its number from 0 and the number of shards, such as `0/3`")]
pub struct ParseShardError(String);

impl Shard {
    /// The only shard of an undivided schedule, which sends all arrivals.
    pub const ALL: Shard = Shard { index: 0, count: NonZeroU32::MIN };

    /// Creates shard `index` of `count` shards; `None` if `index` is not below `count`.
    pub fn new(index: u32, count: u32) -> Option<Shard> {
        let count = NonZeroU32::new(count)?;
        (index < count.get()).then_some(Shard { index, count })
    }

    /// The number of the shard, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// The number of shards.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// Returns this shard's part of a total. The parts of all shards add up to the total. If the
    /// total does not divide evenly, the first shards get one more each.
    pub fn part(self, total: u64) -> u64 {
        let count = u64::from(self.count.get());
        total / count + u64::from(u64::from(self.index) < total % count)
    }

    /// Returns the number of arrivals that this shard skips before its next arrival, after the
    /// first `earlier` arrivals of the sequence. The sequence continues from cycle to cycle, so the
    /// shards divide short cycles as evenly as long cycles.
    pub fn arrivals_to_skip(self, earlier: u64) -> u64 {
        let count = u64::from(self.count.get());
        (u64::from(self.index) + count - earlier % count) % count
    }

    /// Returns the number that this shard's n-th arrival has in the sequence of all shards.
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

/// The text form, such as `0/3`, as in the environment variable `LLMLOAD_SHARD`.
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
