//! Random number generators. The seed of the configuration determines their numbers, so two runs
//! with the same seed draw the same numbers.
//!
//! Each scenario has a separate generator for each purpose. So the draws of one scenario never
//! change the draws of another scenario.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The purpose of a generator. Each purpose has a separate sequence of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The choice and the text of prompts.
    Prompts = 0,
    /// The gaps between arrivals.
    Arrivals = 1,
    /// The prefixes that synthetic prompts share.
    Prefixes = 2,
}

/// Returns the generator of a scenario for a purpose. The `ChaCha` algorithm has a fixed
/// definition, so all versions of llmload draw the same sequence.
pub fn seeded_rng(seed: u64, scenario: &str, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(scenario).to_le_bytes());
    key[16] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

/// Returns a random number that does not depend on the seed, so every run has a different number.
/// For example, nonces start at this number.
pub fn unique_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn fnv(text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.update(text.as_bytes());
    hash.0
}

/// The hash FNV-1a, which is the same in every build and on every machine.
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
