//! Everything random follows from the seed of the configuration: generators keyed by it and by what
//! they are for, so that two runs draw the same, and one stream's draws never shift another's.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a generator is for. Each purpose draws from a series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Which prompt.
    Prompts = 0,
    /// When.
    Arrivals = 1,
    /// The text that synthetic prompts begin with together.
    Prefixes = 2,
}

/// The generator for a scenario. `ChaCha` is defined by a standard: its series outlives this version.
pub fn seeded_rng(seed: u64, scenario: &str, purpose: Purpose) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(scenario).to_le_bytes());
    key[16] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

/// A number that no other run has: for what must not be repeated, such as a nonce.
pub fn unique_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// FNV-1a of a text.
fn fnv(text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(text.as_bytes());
    hash.0
}

/// FNV-1a: tells apart what it is given, and is the same in every build and on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Takes in more.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
