//! What is asked: which conversation an arrival sends, as a function of (seed, k).
//!
//! There is no state: the k-th prompt of a stream is the same whoever asks for it, in whatever
//! order. So a shard that sends every N-th arrival, and a run that is repeated, ask the same.

mod builtin;
mod load;

use std::fmt;
use std::sync::Arc;

use rand::Rng;

use crate::random::{self, Purpose};

pub use load::{DEFAULT_TEMPLATE, LoadError, MAX_BYTES, lines, pairs};

/// The order in which a source is gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// One after the other, from the first again after the last.
    #[default]
    Sequential,
    /// Drawn independently for each arrival from the seed and its number.
    Random,
}

/// A source of user messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompts {
    /// The name in the YAML, or `builtin`.
    pub name: String,
    texts: Arc<[String]>,
    order: Order,
}

impl Prompts {
    /// A source of at least one text.
    pub fn new(name: impl Into<String>, texts: Vec<String>, order: Order) -> Option<Prompts> {
        (!texts.is_empty()).then(|| Prompts { name: name.into(), texts: texts.into(), order })
    }

    /// The built-in source: questions and tasks of everyday kinds, from a line to a page, so that
    /// reading them takes an endpoint different times.
    pub fn builtin() -> Prompts {
        let texts = builtin::TEXTS.map(str::to_owned).to_vec();
        Prompts { name: "builtin".into(), texts: texts.into(), order: Order::Sequential }
    }

    /// How many there are; at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// How long a text is, on the average, in bytes.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_bytes(&self) -> f64 {
        let bytes: usize = self.texts.iter().map(String::len).sum();
        bytes as f64 / self.texts.len() as f64
    }

    /// The order they are gone through.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// What the arrival `k`, counted from 0, of a stream asks. Streams of different names draw
    /// differently from the same seed.
    pub fn pick(&self, seed: u64, stream: &str, k: u64) -> &str {
        let count = self.texts.len() as u64;
        let index = match self.order {
            Order::Sequential => k % count,
            Order::Random => {
                let draw = u128::from(draw(seed, stream, k));
                // Scaled, not taken modulo: each text is drawn equally often to within 2⁻⁴⁰.
                u64::try_from((draw * u128::from(count)) >> 64).unwrap_or_default()
            }
        };
        self.texts.get(usize::try_from(index).unwrap_or_default()).map_or("", String::as_str)
    }
}

/// The texts may be many and long; how many is all that a log needs.
impl fmt::Debug for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompts")
            .field("name", &self.name)
            .field("texts", &self.texts.len())
            .field("order", &self.order)
            .finish()
    }
}

/// The number at place `k` of a stream: any place is reached at once.
fn draw(seed: u64, stream: &str, k: u64) -> u64 {
    let mut series = random::generator(seed, stream, Purpose::Prompts);
    series.set_stream(k);
    series.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(order: Order) -> Prompts {
        Prompts::new("three", ["a", "b", "c"].map(str::to_owned).to_vec(), order).unwrap()
    }

    #[test]
    fn sequential_goes_round() {
        let prompts = three(Order::Sequential);
        let picked: String = (0..7).map(|k| prompts.pick(9, "s", k)).collect();
        assert_eq!(picked, "abcabca");
    }

    #[test]
    fn random_is_a_function_of_seed_stream_and_k() {
        let prompts = three(Order::Random);
        let series = |seed, stream| -> String { (0..64).map(|k| prompts.pick(seed, stream, k)).collect() };
        assert_eq!(series(7, "s"), series(7, "s"));
        assert_ne!(series(7, "s"), series(8, "s"));
        assert_ne!(series(7, "s"), series(7, "t"));
        // Held still: a new version must send what the old one sent.
        assert!(series(7, "s").starts_with(STILL), "{}", series(7, "s"));
        // Any place is reached without the ones before it.
        assert_eq!(prompts.pick(7, "s", u64::MAX), prompts.pick(7, "s", u64::MAX));
    }

    const STILL: &str = "baabcccbbaca";

    #[test]
    fn random_draws_each_text_about_equally_often() {
        let prompts = three(Order::Random);
        let a = (0..3000).filter(|k| prompts.pick(1, "s", *k) == "a").count();
        assert!((850..1150).contains(&a), "{a}");
    }

    #[test]
    fn the_built_in_source_varies() {
        let prompts = Prompts::builtin();
        let words = |text: &String| text.split_whitespace().count();
        assert!(prompts.len() >= 40);
        assert!(prompts.texts.iter().any(|text| words(text) < 10));
        assert!(prompts.texts.iter().filter(|text| words(text) >= 150).count() >= 4);
        assert!(prompts.texts.iter().all(|text| words(text) <= 320 && text.trim() == text));
    }
}
