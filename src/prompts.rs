//! The sources of prompts. The prompt of an arrival depends only on the seed, the scenario and the
//! number of the arrival.
//!
//! A source has no state, so the k-th prompt of a scenario is always the same, whatever the order
//! of the calls. If N shards each send every N-th arrival, together they send the same prompts as
//! one daemon. A repeated run sends the same prompts again. The only exceptions are the nonce, a
//! unique text before each prompt of [`PrefixCache::Cold`], and the salt, a unique parameter of
//! each request of [`PrefixCache::Salted`]. Both must be different in each request.

mod builtin;
mod filler_text;
mod format;
mod load;
mod mix;
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
    DEFAULT_TEMPLATE, LoadError, MAX_BYTES, PromptUnavailable, Rows, is_utf16, load_pairs,
    load_rows,
};
pub use synthetic::{LengthDistribution, MAX_TOKENS, Synthetic};

/// The name of the built-in prompts.
pub const BUILTIN: &str = "builtin";

/// The highest sum of the weights of a mix.
pub const MAX_TOTAL_WEIGHT: u32 = 10_000;

/// An estimate of the number of bytes of text in a token. In English, four bytes are four letters.
/// In Chinese, they are a little more than one character, because a character has three bytes.
const BYTES_PER_TOKEN: f64 = 4.0;

/// The order in which the arrivals of a scenario take prompts from a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PromptOrder {
    /// One prompt after the other. After the last prompt, the first prompt follows again.
    #[default]
    Sequential,
    /// A random prompt for each arrival. It depends on the seed and the number of the arrival.
    Random,
}

/// The parts of a prompt that an inference engine can find in its prefix cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PrefixCache {
    /// Every prefix that the prompt has in common with an earlier prompt.
    #[default]
    Warm,
    /// Nothing, because each prompt begins with a nonce. No other prompt of any run has this nonce.
    Cold,
    /// Nothing, because each request has a different `cache_salt`. vLLM supports this parameter.
    /// The text of the prompt does not change.
    Salted,
}

/// A source of prompts.
#[derive(Clone)]
pub struct Prompts {
    /// The name in the YAML, or [`BUILTIN`].
    pub name: String,
    source: Source,
    order: PromptOrder,
    prefix_cache: PrefixCache,
    /// The state from which llmload computes nonces. It starts at a different random number in each
    /// run.
    nonces: Arc<AtomicU64>,
}

#[derive(Clone, PartialEq)]
enum Source {
    Texts(Arc<[String]>),
    Rows(Rows),
    Synthetic(Arc<str>, Synthetic),
    Mix(mix::WeightedRoundRobin, Arc<[Prompts]>),
}

/// The values from which a prompt is made. In a mix, they are the same for all members.
#[derive(Clone, Copy)]
struct PromptInputs {
    seed: u64,
    lengths: Lengths,
    /// The number of tokens of the nonce before the text.
    nonce_tokens: u32,
}

/// Two sources are equal if they send the same prompts. Their nonces are not compared, because
/// nonces are always different.
impl PartialEq for Prompts {
    fn eq(&self, other: &Prompts) -> bool {
        let options = |prompts: &Prompts| (prompts.order, prompts.prefix_cache);
        self.name == other.name && options(self) == options(other) && self.source == other.source
    }
}

impl Prompts {
    /// Creates a source from a list of texts; `None` if the list is empty.
    pub fn new(name: impl Into<String>, texts: Vec<String>, order: PromptOrder) -> Option<Prompts> {
        (!texts.is_empty()).then(|| Prompts::from_source(name, Source::Texts(texts.into()), order))
    }

    /// Creates a source from the rows of a file.
    pub fn from_rows(name: impl Into<String>, rows: Rows, order: PromptOrder) -> Prompts {
        Prompts::from_source(name, Source::Rows(rows), order)
    }

    /// Creates a source of generated prompts.
    pub fn synthetic(name: &str, synthetic: Synthetic) -> Prompts {
        Prompts::from_source(
            name,
            Source::Synthetic(name.into(), synthetic),
            PromptOrder::Sequential,
        )
    }

    /// Creates a source from several sources with weights. The result is `None` if `members` is
    /// empty, if a weight is 0, or if the sum of the weights is above [`MAX_TOTAL_WEIGHT`].
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

    /// Creates the built-in source of everyday questions and tasks. Their length is from one line
    /// to one page, so prefill times differ.
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

    /// Returns the same source with this order.
    #[must_use]
    pub fn with_order(self, order: PromptOrder) -> Prompts {
        Prompts { order, ..self }
    }

    /// Returns the same source with this setting of the prefix cache.
    #[must_use]
    pub fn with_prefix_cache(self, prefix_cache: PrefixCache) -> Prompts {
        Prompts { prefix_cache, nonces: Arc::new(random::unique_number().into()), ..self }
    }

    /// Returns true if an inference engine can find prefixes of the prompts in its cache.
    #[must_use]
    pub fn can_hit_prefix_cache(&self) -> bool {
        self.prefix_cache == PrefixCache::Warm
    }

    /// The number of prompts, which is at least one; `None` if prompts are generated.
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

    /// Returns an entry for each source of a mix: the name, the fraction of the arrivals, and the
    /// number of prompts. For a source that is not a mix, returns one entry for this source.
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

    /// The number of prompts without text. llmload cannot add a nonce to these prompts.
    #[must_use]
    pub fn count_without_text(&self) -> u64 {
        match &self.source {
            Source::Texts(_) | Source::Synthetic(..) => 0,
            Source::Rows(rows) => rows.count_without_text(),
            Source::Mix(_, members) => members.iter().map(Prompts::count_without_text).sum(),
        }
    }

    /// Returns the mean number of prompt tokens and the mean limit of output tokens. A prompt
    /// without an output limit counts as a prompt with the limit `limit`. The values are exact if
    /// prompts are generated or if a trace sets `lengths`. Otherwise, they are estimates.
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

    /// Returns the prompt of arrival `k` of a scenario. The first arrival has the number 0. With
    /// the same seed, scenarios with different names draw different prompts.
    ///
    /// If the arrival is from a trace, `lengths` contains the token counts of its row. Generated
    /// prompts then have exactly the number of input tokens of the row. For all prompts, the output
    /// tokens of the row are the output limit.
    ///
    /// If the source is a large file, this function reads a row from the disk.
    ///
    /// # Errors
    /// If the file has changed or cannot be read.
    pub fn prompt_for(
        &self,
        seed: u64,
        scenario: &str,
        k: u64,
        lengths: Option<Lengths>,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        // Each arrival has a separate random sequence, so its prompt does not depend on the draws
        // of earlier arrivals.
        let mut rng = random::seeded_rng(seed, scenario, Purpose::Prompts);
        rng.set_stream(k);
        let lengths = lengths.unwrap_or_default();
        let cold = self.prefix_cache == PrefixCache::Cold;
        let nonce_tokens = if cold { filler_text::NONCE_TOKENS } else { 0 };
        let inputs = PromptInputs { seed, lengths, nonce_tokens };
        let mut prompt = self.take(k, inputs, &mut rng)?;
        if lengths.output.is_some() {
            prompt.max_tokens = lengths.output;
        }
        let number = || next_nonce(&self.nonces);
        match self.prefix_cache {
            PrefixCache::Warm => {}
            PrefixCache::Cold => prompt.nonce = Some(filler_text::nonce(number())),
            PrefixCache::Salted => prompt.cache_salt = Some(format!("{:016x}", number())),
        }
        Ok(prompt)
    }

    fn take(
        &self,
        k: u64,
        inputs: PromptInputs,
        rng: &mut impl Rng,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        let mut index = |count: u64| match self.order {
            PromptOrder::Sequential => k % count.max(1),
            PromptOrder::Random => synthetic::scale_to(rng.next_u64(), count),
        };
        match &self.source {
            Source::Texts(texts) => {
                let index = usize::try_from(index(texts.len() as u64)).unwrap_or_default();
                Ok(texts.get(index).map_or("", String::as_str).into())
            }
            Source::Rows(rows) => rows.prompt_at(index(rows.count())),
            Source::Synthetic(name, synthetic) => {
                Ok(synthetic.generate(name, inputs.seed, inputs.lengths, inputs.nonce_tokens, rng))
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

/// Shows the name and the number of prompts, because the texts would be too long for a log.
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

/// Returns a number that no other request of this run has. It is almost certain that no request of
/// another run has this number either. The algorithm is `SplitMix64` from a random start. It is
/// invertible, so different states give different numbers.
fn next_nonce(state: &AtomicU64) -> u64 {
    let mut mixed = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
