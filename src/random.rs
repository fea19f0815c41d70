//! Random number generators. Two runs with the same seed draw the same numbers.
//!
//! Each scenario has a generator for each purpose, so the draws of one scenario do not change the
//! draws of another.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The choice and the text of prompts.
    Prompts = 0,
    /// The gaps between arrivals.
    Arrivals = 1,
    /// The prefixes that synthetic prompts share.
    Prefixes = 2,
    /// The blocks that a trace names by their hash ids.
    Blocks = 3,
    /// The number of turns of sessions, and the think times between them.
    Sessions = 4,
}

/// All versions of llmload draw the same sequence, because the algorithm `ChaCha` has a fixed
/// definition.
pub fn seeded_rng(seed: u64, scenario: &str, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(scenario).to_le_bytes());
    key[16] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

/// A number that differs in every run, even with the same seed.
pub fn unique_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Scatters numbers as the last step of `SplitMix64` does. Different numbers stay different.
pub fn scatter(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn fnv(text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.update(text.as_bytes());
    hash.0
}

/// The hash FNV-1a, which is the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
