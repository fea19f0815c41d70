//! One of several daemons that send one schedule together.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Takes every N-th arrival, beginning with its own number, of the one series that all of them know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: NonZeroU32,
}

/// Why a shard could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shard; write its number from 0 and how many there are, such as `0/3`")]
pub struct ParseShardError(String);

impl Shard {
    /// The only one.
    pub const ALL: Shard = Shard { index: 0, count: NonZeroU32::MIN };

    /// The shard of this number, from 0, among so many; `None` if there is none of that number.
    pub fn new(index: u32, count: u32) -> Option<Shard> {
        let count = NonZeroU32::new(count)?;
        (index < count.get()).then_some(Shard { index, count })
    }

    /// Its number, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// Its part of a total, so that the parts of all shards add up to it: one more for the first of
    /// them where it does not divide.
    pub fn part(self, total: u64) -> u64 {
        let count = u64::from(self.count.get());
        total / count + u64::from(u64::from(self.index) < total % count)
    }

    /// How many arrivals come before its first one after so many of the series: it takes every N-th of
    /// all, so that short cycles are dealt out as evenly as long ones.
    pub fn arrivals_to_skip(self, before: u64) -> u64 {
        let count = u64::from(self.count.get());
        (u64::from(self.index) + count - before % count) % count
    }

    /// The number, in the whole series, of the n-th arrival of this shard.
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

/// As it is written: `0/3`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        for total in 0..50 {
            for count in 1..8 {
                let parts = (0..count).map(|index| Shard::new(index, count).unwrap().part(total));
                assert_eq!(parts.sum::<u64>(), total);
            }
        }
    }

    #[test]
    fn each_arrival_is_that_of_one_shard_wherever_counting_begins() {
        for before in 0..20 {
            for count in 1..5 {
                let first = |index| Shard::new(index, count).unwrap().arrivals_to_skip(before);
                let mut firsts: Vec<u64> = (0..count).map(first).collect();
                firsts.sort_unstable();
                assert_eq!(firsts, (0..u64::from(count)).collect::<Vec<_>>());
                assert!(
                    (0..count).all(|index| (before + first(index)) % u64::from(count) == u64::from(index))
                );
            }
        }
    }

    #[test]
    fn a_shard_is_a_number_below_how_many_there_are() {
        assert_eq!("1/3".parse(), Ok(Shard::new(1, 3).unwrap()));
        assert_eq!(Shard::new(1, 3).unwrap().to_string(), "1/3");
        for wrong in ["3/3", "0/0", "1", "a/b", "-1/3", "", "1/2/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
