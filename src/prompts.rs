//! What is asked: which conversation an arrival sends, as a function of (seed, k).
//!
//! There is no state: the k-th prompt of a stream is the same whoever asks for it, in whatever
//! order. So a shard that sends every N-th arrival, and a run that is repeated, ask the same. The one
//! exception is there to be one: the nonce of [`PrefixCache::Cold`].

mod builtin;
mod format;
mod load;
mod mix;
mod prose;
mod row_splitter;
mod synthetic;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;

use crate::protocol::Prompt;
use crate::random::{self, Purpose};
use crate::schedule::Lengths;

pub use format::RowFormat;
pub use load::{
    DEFAULT_TEMPLATE, LoadError, MAX_BYTES, PromptUnavailable, Rows, load_pairs, load_rows,
};
pub use synthetic::{LengthDistribution, MAX_TOKENS, Synthetic};

/// The most turns in the pattern of a mix: the sum of its weights.
pub const MAX_TOTAL_WEIGHT: u32 = 10_000;

/// Bytes of text to a token, by and large: four letters of English, a little over one character of
/// Chinese, which takes three.
const BYTES_PER_TOKEN: f64 = 4.0;

/// The order in which a source is gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PromptOrder {
    /// One after the other, from the first again after the last.
    #[default]
    Sequential,
    /// Drawn independently for each arrival from the seed and its number.
    Random,
}

/// What an engine that keeps the prefixes of prompts may find of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrefixCache {
    /// Whatever was asked before.
    #[default]
    Warm,
    /// Nothing: each prompt opens with words that none before it had, in no run.
    Cold,
    /// Nothing, by vLLM's `cache_salt`: the words stay as they are.
    Salted,
}

/// A source of what to ask.
#[derive(Clone)]
pub struct Prompts {
    /// The name in the YAML, or `builtin`.
    pub name: String,
    source: Source,
    order: PromptOrder,
    prefix_cache: PrefixCache,
    /// What tells this run's nonces from those of any other, and each from the one before.
    run: Arc<AtomicU64>,
}

#[derive(Clone, PartialEq)]
enum Source {
    Texts(Arc<[String]>),
    Rows(Rows),
    Synthetic(Arc<str>, Synthetic),
    Mix(mix::Turns, Arc<[Prompts]>),
}

/// What is the same for all sources that one prompt is made of.
#[derive(Clone, Copy)]
struct Wish {
    seed: u64,
    lengths: Lengths,
    /// Tokens that stand before the text.
    taken: u32,
}

/// Whether the same is asked; nonces differ in any case.
impl PartialEq for Prompts {
    fn eq(&self, other: &Prompts) -> bool {
        let way = |prompts: &Prompts| (prompts.order, prompts.prefix_cache);
        self.name == other.name && way(self) == way(other) && self.source == other.source
    }
}

impl Prompts {
    /// A source of at least one text.
    pub fn new(name: impl Into<String>, texts: Vec<String>, order: PromptOrder) -> Option<Prompts> {
        (!texts.is_empty()).then(|| Prompts::of(name, Source::Texts(texts.into()), order))
    }

    /// What a file holds.
    pub fn from_rows(name: impl Into<String>, rows: Rows, order: PromptOrder) -> Prompts {
        Prompts::of(name, Source::Rows(rows), order)
    }

    /// What is made up.
    pub fn synthetic(name: &str, synthetic: Synthetic) -> Prompts {
        Prompts::of(name, Source::Synthetic(name.into(), synthetic), PromptOrder::Sequential)
    }

    /// Several sources by weight; at least one, each weight at least 1, together at most
    /// [`MAX_TOTAL_WEIGHT`].
    pub fn mixed(
        name: impl Into<String>,
        members: Vec<(Prompts, u32)>,
        order: PromptOrder,
    ) -> Option<Prompts> {
        let (members, weights): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let fit = !weights.is_empty()
            && !weights.contains(&0)
            && weights.iter().map(|weight| u64::from(*weight)).sum::<u64>()
                <= u64::from(MAX_TOTAL_WEIGHT);
        fit.then(|| {
            Prompts::of(name, Source::Mix(mix::Turns::new(&weights), members.into()), order)
        })
    }

    /// The built-in source: questions and tasks of everyday kinds, from a line to a page, so that
    /// reading them takes an endpoint different times.
    pub fn builtin() -> Prompts {
        let texts = builtin::TEXTS.map(str::to_owned).to_vec();
        Prompts::of("builtin", Source::Texts(texts.into()), PromptOrder::Sequential)
    }

    fn of(name: impl Into<String>, source: Source, order: PromptOrder) -> Prompts {
        Prompts {
            name: name.into(),
            source,
            order,
            prefix_cache: PrefixCache::Warm,
            run: Arc::default(),
        }
    }

    /// The same in another order.
    #[must_use]
    pub fn with_order(self, order: PromptOrder) -> Prompts {
        Prompts { order, ..self }
    }

    /// The same for an engine that keeps prefixes.
    #[must_use]
    pub fn with_prefix_cache(self, prefix_cache: PrefixCache) -> Prompts {
        Prompts { prefix_cache, run: Arc::new(random::unique_number().into()), ..self }
    }

    /// Whether an engine may find the prefixes of prompts in its cache.
    #[must_use]
    pub fn can_hit_prefix_cache(&self) -> bool {
        self.prefix_cache == PrefixCache::Warm
    }

    /// How many there are, at least one; `None` where each is made up.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> Option<u64> {
        match &self.source {
            Source::Texts(texts) => Some(texts.len() as u64),
            Source::Rows(rows) => Some(rows.count()),
            Source::Synthetic(..) => None,
            Source::Mix(_, members) => members.iter().map(Prompts::len).sum(),
        }
    }

    /// What it is put together from: the name of each source, its share of what is asked, and how many
    /// prompts it has; of all but a mix itself alone.
    pub fn sources(&self) -> Vec<(&str, f64, Option<u64>)> {
        match &self.source {
            Source::Mix(turns, members) => {
                let parts = members.iter().zip(turns.shares());
                parts.map(|(member, share)| (member.name.as_str(), share, member.len())).collect()
            }
            _ => vec![(self.name.as_str(), 1.0, self.len())],
        }
    }

    /// How many have no words of their own, so that no nonce can stand before them.
    #[must_use]
    pub fn count_without_text(&self) -> u64 {
        match &self.source {
            Source::Texts(_) | Source::Synthetic(..) => 0,
            Source::Rows(rows) => rows.count_without_text(),
            Source::Mix(_, members) => members.iter().map(Prompts::count_without_text).sum(),
        }
    }

    /// Tokens of what is asked and the most of what is answered, on the average and by and large, where
    /// a request without a bound of its own has `limit`: exact only where it is made up, or where a trace
    /// gives `lengths`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_tokens(&self, lengths: Lengths, limit: f64) -> (f64, f64) {
        let given = |tokens: Option<NonZeroU32>| tokens.map(|tokens| f64::from(tokens.get()));
        let (input, output) = match &self.source {
            Source::Texts(texts) => {
                let bytes: usize = texts.iter().map(String::len).sum();
                (bytes as f64 / texts.len().max(1) as f64 / BYTES_PER_TOKEN, limit)
            }
            Source::Rows(rows) => (rows.mean_bytes() / BYTES_PER_TOKEN, rows.mean_limit(limit)),
            Source::Synthetic(_, synthetic) => {
                let drawn = synthetic.output.map_or(limit, |output| output.mean);
                (given(lengths.input).unwrap_or(synthetic.input.mean), drawn)
            }
            Source::Mix(turns, members) => {
                let each = members.iter().zip(turns.shares());
                each.fold((0.0, 0.0), |(input, output), (member, share)| {
                    let (one, other) = member.mean_tokens(lengths, limit);
                    (input + one * share, output + other * share)
                })
            }
        };
        (input, given(lengths.output).unwrap_or(output))
    }

    /// What the arrival `k`, counted from 0, of a stream asks. Streams of different names draw
    /// differently from the same seed. Where a trace gives `lengths`, prompts that are made up have
    /// them, and every other source takes that of the answer as its bound.
    ///
    /// This may read a row of a large file from the disk.
    ///
    /// # Errors
    /// Where that file is not what it was.
    pub fn prompt_for(
        &self,
        seed: u64,
        stream: &str,
        k: u64,
        lengths: Option<Lengths>,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        // The number at place `k` of a stream: any place is reached at once.
        let mut series = random::seeded_rng(seed, stream, Purpose::Prompts);
        series.set_stream(k);
        let lengths = lengths.unwrap_or_default();
        let cold = self.prefix_cache == PrefixCache::Cold;
        let taken = if cold { prose::NONCE } else { 0 };
        let mut asked = self.ask(k, Wish { seed, lengths, taken }, &mut series)?;
        if lengths.output.is_some() {
            asked.max_tokens = lengths.output;
        }
        let own = || unlike_any_other(&self.run);
        match self.prefix_cache {
            PrefixCache::Warm => {}
            PrefixCache::Cold => asked.nonce = Some(prose::nonce(own())),
            PrefixCache::Salted => asked.cache_salt = Some(format!("{:016x}", own())),
        }
        Ok(asked)
    }

    fn ask(
        &self,
        k: u64,
        wish: Wish,
        series: &mut impl Rng,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        let mut place = |count: u64| match self.order {
            PromptOrder::Sequential => k % count.max(1),
            PromptOrder::Random => synthetic::scaled(series.next_u64(), count),
        };
        match &self.source {
            Source::Texts(texts) => {
                let place = usize::try_from(place(texts.len() as u64)).unwrap_or_default();
                Ok(texts.get(place).map_or("", String::as_str).into())
            }
            Source::Rows(rows) => rows.ask(place(rows.count())),
            Source::Synthetic(name, synthetic) => {
                Ok(synthetic.ask(name, wish.seed, wish.lengths, wish.taken, series))
            }
            Source::Mix(turns, members) => {
                let (member, own) = turns.at(k, self.order, place);
                members
                    .get(member)
                    .map_or_else(|| Ok("".into()), |member| member.ask(own, wish, series))
            }
        }
    }
}

/// The texts may be many and long; how many is all that a log needs.
impl fmt::Debug for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompts")
            .field("name", &self.name)
            .field("len", &self.len())
            .field("order", &self.order)
            .field("prefix_cache", &self.prefix_cache)
            .finish_non_exhaustive()
    }
}

/// A number that no other request of this run has (each step can be undone), and hardly any of another
/// run: `SplitMix64` from where the run began.
fn unlike_any_other(run: &AtomicU64) -> u64 {
    let mut mixed = run.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
