//! The sources of prompts. The seed, the scenario and k determine the k-th prompt.
//!
//! A source has no state. So a repeated run sends the same prompts, and N shards together send the
//! prompts of one daemon. Exceptions are the nonce of [`PrefixCache::Cold`] and the salt of
//! [`PrefixCache::Salted`], which differ in each request.

mod builtin;
mod conversation;
mod filler_text;
mod format;
mod hash_blocks;
mod load;
mod mix;
mod most_tokens;
mod row_splitter;
mod sessions;
mod synthetic;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;

use self::sessions::SessionSource;
use crate::protocol::Prompt;
use crate::random::{self, Purpose};
use crate::schedule::{HashBlocks, Lengths};

pub use conversation::{MAX_THINK_TIME, Turn};
pub use format::RowFormat;
pub use load::{
    DEFAULT_TEMPLATE, LoadError, MAX_BYTES, PromptUnavailable, Rows, is_utf16, load_pairs,
    load_rows,
};
pub use most_tokens::{MostTokens, tokens_of_bytes};
pub use sessions::{MAX_TURNS, SessionMeans, ThinkTime};
pub use synthetic::{LengthDistribution, MAX_TOKENS, Synthetic};

pub const BUILTIN: &str = "builtin";

pub const MAX_TOTAL_WEIGHT: u32 = 10_000;

/// An estimate of the bytes per token. Four bytes are four English letters, or a little more than
/// one Chinese character, which has three bytes.
const BYTES_PER_TOKEN: f64 = 4.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PromptOrder {
    /// After the last prompt, the first prompt follows.
    #[default]
    Sequential,
    /// A random prompt for each arrival.
    Random,
}

impl PromptOrder {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            PromptOrder::Sequential => "sequential",
            PromptOrder::Random => "random",
        }
    }
}

/// The part of a prompt that an engine can find in its prefix cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrefixCache {
    /// Every prefix that an earlier prompt also had.
    #[default]
    Warm,
    /// Nothing: each prompt begins with a nonce, a text that no other prompt has.
    Cold,
    /// Nothing: each request has a different `cache_salt`, a parameter of vLLM.
    Salted,
}

impl PrefixCache {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            PrefixCache::Warm => "warm",
            PrefixCache::Cold => "cold",
            PrefixCache::Salted => "salted",
        }
    }
}

#[derive(Clone)]
pub struct Prompts {
    /// The name in the configuration, or [`BUILTIN`].
    pub name: String,
    source: Source,
    order: PromptOrder,
    prefix_cache: PrefixCache,
    /// The state of the nonces. Each run starts at a different random number.
    nonces: Arc<AtomicU64>,
}

#[derive(Clone, PartialEq)]
enum Source {
    Texts(Arc<[String]>),
    Rows(Rows),
    Synthetic(Arc<str>, Synthetic),
    Sessions(sessions::SessionSource),
    Mix(mix::WeightedRoundRobin, Arc<[Prompts]>),
}

/// The inputs of a prompt other than its number and its random sequence. All members of a mix get
/// the same inputs.
#[derive(Clone, Copy)]
struct PromptInputs<'a> {
    seed: u64,
    lengths: Lengths,
    blocks: HashBlocks<'a>,
    nonce_tokens: u32,
}

/// Two sources are equal if they send the same prompts. Nonces always differ, so they do not count.
impl PartialEq for Prompts {
    fn eq(&self, other: &Prompts) -> bool {
        let options = |prompts: &Prompts| (prompts.order, prompts.prefix_cache);
        self.name == other.name && options(self) == options(other) && self.source == other.source
    }
}

impl Prompts {
    /// `None` if `texts` is empty.
    pub fn new(name: impl Into<String>, texts: Vec<String>, order: PromptOrder) -> Option<Prompts> {
        (!texts.is_empty()).then(|| Prompts::from_source(name, Source::Texts(texts.into()), order))
    }

    pub fn from_rows(name: impl Into<String>, rows: Rows, order: PromptOrder) -> Prompts {
        Prompts::from_source(name, Source::Rows(rows), order)
    }

    pub fn synthetic(name: &str, synthetic: Synthetic) -> Prompts {
        Prompts::from_source(
            name,
            Source::Synthetic(name.into(), synthetic),
            PromptOrder::Sequential,
        )
    }

    /// `None` if `members` is empty, a weight is 0, or the sum of the weights is above
    /// [`MAX_TOTAL_WEIGHT`].
    pub fn mixed(
        name: impl Into<String>,
        members: Vec<(Prompts, u32)>,
        order: PromptOrder,
    ) -> Option<Prompts> {
        let (members, weights): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let is_valid = !weights.is_empty()
            && !weights.contains(&0)
            && weights.iter().map(|weight| u64::from(*weight)).sum::<u64>()
                <= u64::from(MAX_TOTAL_WEIGHT);
        is_valid.then(|| {
            Prompts::from_source(
                name,
                Source::Mix(mix::WeightedRoundRobin::new(&weights), members.into()),
                order,
            )
        })
    }

    /// The built-in source: everyday questions and tasks, from one line to one page.
    pub fn builtin() -> Prompts {
        let texts = builtin::TEXTS.map(str::to_owned).to_vec();
        Prompts::from_source(BUILTIN, Source::Texts(texts.into()), PromptOrder::Sequential)
    }

    fn from_source(name: impl Into<String>, source: Source, order: PromptOrder) -> Prompts {
        Prompts {
            name: name.into(),
            source,
            order,
            prefix_cache: PrefixCache::Warm,
            nonces: Arc::default(),
        }
    }

    /// The kind of the source: `texts`, `rows`, `synthetic`, `sessions` or `mix`.
    pub fn source_kind(&self) -> &'static str {
        match self.source {
            Source::Texts(_) => "texts",
            Source::Rows(_) => "rows",
            Source::Synthetic(..) => "synthetic",
            Source::Sessions(_) => "sessions",
            Source::Mix(..) => "mix",
        }
    }

    pub fn order(&self) -> PromptOrder {
        self.order
    }

    pub fn prefix_cache(&self) -> PrefixCache {
        self.prefix_cache
    }

    #[must_use]
    pub fn with_order(self, order: PromptOrder) -> Prompts {
        Prompts { order, ..self }
    }

    #[must_use]
    pub fn with_prefix_cache(self, prefix_cache: PrefixCache) -> Prompts {
        Prompts { prefix_cache, nonces: Arc::new(random::unique_number().into()), ..self }
    }

    #[must_use]
    pub fn can_hit_prefix_cache(&self) -> bool {
        self.prefix_cache == PrefixCache::Warm
    }

    /// At least 1; `None` if prompts are generated.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> Option<u64> {
        match &self.source {
            Source::Texts(texts) => Some(texts.len() as u64),
            Source::Rows(rows) | Source::Sessions(SessionSource::Recorded { rows, .. }) => {
                Some(rows.count())
            }
            Source::Synthetic(..) | Source::Sessions(SessionSource::Synthetic { .. }) => None,
            Source::Mix(_, members) => members.iter().map(Prompts::len).sum(),
        }
    }

    /// For each source of a mix: its name, its fraction of the arrivals, and its number of prompts.
    /// A source that is not a mix has one entry.
    pub fn sources(&self) -> Vec<(&str, f64, Option<u64>)> {
        match &self.source {
            Source::Mix(turns, members) => {
                let parts = members.iter().zip(turns.fractions());
                parts
                    .map(|(member, fraction)| (member.name.as_str(), fraction, member.len()))
                    .collect()
            }
            _ => vec![(self.name.as_str(), 1.0, self.len())],
        }
    }

    /// The number of prompts to which llmload cannot add a nonce, because they have no text.
    #[must_use]
    pub fn count_without_text(&self) -> u64 {
        match &self.source {
            Source::Texts(_) | Source::Synthetic(..) | Source::Sessions(_) => 0,
            Source::Rows(rows) => rows.count_without_text(),
            Source::Mix(_, members) => members.iter().map(Prompts::count_without_text).sum(),
        }
    }

    /// The mean number of prompt tokens and the mean output limit. `limit` applies to prompts
    /// without an output limit. The number of prompt tokens is an estimate unless llmload generates
    /// the prompts. `lengths`, the token counts of a row of a trace, replace the output limit of
    /// every prompt, and the number of tokens of a generated prompt.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_tokens(&self, lengths: Lengths, limit: f64) -> (f64, f64) {
        let from_trace = |tokens: Option<NonZeroU32>| tokens.map(|tokens| f64::from(tokens.get()));
        let (input, output) = match &self.source {
            Source::Texts(texts) => {
                let bytes: usize = texts.iter().map(String::len).sum();
                (bytes as f64 / texts.len().max(1) as f64 / BYTES_PER_TOKEN, limit)
            }
            Source::Rows(rows) => (rows.mean_bytes() / BYTES_PER_TOKEN, rows.mean_limit(limit)),
            Source::Synthetic(_, synthetic) => {
                let output = synthetic.output.map_or(limit, |output| output.mean);
                (from_trace(lengths.input).unwrap_or(synthetic.input.mean), output)
            }
            Source::Sessions(_) => {
                let means = self.session_means(limit);
                means.map_or((0.0, limit), |means| (means.input, means.output))
            }
            Source::Mix(turns, members) => {
                let each = members.iter().zip(turns.fractions());
                each.fold((0.0, 0.0), |(input, output), (member, fraction)| {
                    let (one, other) = member.mean_tokens(lengths, limit);
                    (input + one * fraction, output + other * fraction)
                })
            }
        };
        (input, from_trace(lengths.output).unwrap_or(output))
    }

    /// Returns the prompt of arrival `k`, counted from 0. The name of the scenario changes only
    /// random choices: two scenarios get equal prompts from a sequential file.
    ///
    /// If the arrival is from a trace, `lengths` contains the token counts of its row. They
    /// determine the length of a generated prompt, and the output limit of every prompt.
    ///
    /// Reads a row from the disk if the source is a large file.
    ///
    /// # Errors
    /// The file has changed or cannot be read.
    pub fn prompt_for(
        &self,
        seed: u64,
        scenario: &str,
        k: u64,
        lengths: Option<Lengths>,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        self.prompt_with_blocks(seed, scenario, k, lengths, HashBlocks::default())
    }

    /// Like [`Prompts::prompt_for`], but a generated prompt consists of the recorded blocks.
    ///
    /// # Errors
    /// The file has changed or cannot be read.
    pub fn prompt_with_blocks(
        &self,
        seed: u64,
        scenario: &str,
        k: u64,
        lengths: Option<Lengths>,
        blocks: HashBlocks<'_>,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        // Each arrival has a separate random sequence, so earlier draws have no effect.
        let mut rng = random::seeded_rng(seed, scenario, Purpose::Prompts);
        rng.set_stream(k);
        let lengths = lengths.unwrap_or_default();
        let cold = self.prefix_cache == PrefixCache::Cold;
        let nonce_tokens = if cold { filler_text::NONCE_TOKENS } else { 0 };
        let inputs = PromptInputs { seed, lengths, blocks, nonce_tokens };
        let mut prompt = self.take(k, inputs, &mut rng)?;
        if lengths.output.is_some() {
            prompt.max_tokens = lengths.output;
        }
        self.set_nonce(&mut prompt);
        Ok(prompt)
    }

    /// Returns the index of the prompt of arrival `k` among `count` prompts.
    fn index_of(&self, k: u64, count: u64, rng: &mut impl Rng) -> u64 {
        match self.order {
            PromptOrder::Sequential => k % count.max(1),
            PromptOrder::Random => synthetic::scale_to(rng.next_u64(), count),
        }
    }

    fn take(
        &self,
        k: u64,
        inputs: PromptInputs<'_>,
        rng: &mut impl Rng,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        let mut index = |count: u64| self.index_of(k, count, rng);
        match &self.source {
            Source::Texts(texts) => {
                let index = usize::try_from(index(texts.len() as u64)).unwrap_or_default();
                Ok(texts.get(index).map_or("", String::as_str).into())
            }
            Source::Rows(rows) => rows.prompt_at(index(rows.count())),
            Source::Synthetic(name, synthetic) => Ok(synthetic.generate(name, inputs, rng)),
            // The first turn. Only warm-up requests have no session.
            Source::Sessions(SessionSource::Recorded { rows, .. }) => {
                rows.prompt_at(index(rows.count()))
            }
            Source::Sessions(SessionSource::Synthetic { name, prompts, .. }) => {
                Ok(prompts.generate(name, inputs, rng))
            }
            Source::Mix(turns, members) => {
                let (member, k) = turns.turn_of(k, self.order, index);
                members
                    .get(member)
                    .map_or_else(|| Ok("".into()), |member| member.take(k, inputs, rng))
            }
        }
    }
}

/// Leaves out the texts, because they are too long for a log.
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

/// Returns a number that no other request of this run has. Almost certainly, no request of another
/// run has it either. The algorithm is `SplitMix64` from a random start.
fn next_nonce(state: &AtomicU64) -> u64 {
    random::scatter(state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
