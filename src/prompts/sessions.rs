//! Sources of sessions: conversations of several turns, recorded or synthetic. The seed, the
//! scenario, k and the number of the turn determine each turn.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::conversation::{MAX_THINK_TIME, Turn};
use super::most_tokens::{MostTokens, tokens_of_bytes};
use super::{
    BYTES_PER_TOKEN, LengthDistribution, PrefixCache, PromptInputs, PromptOrder, PromptUnavailable,
    Prompts, Rows, Source, Synthetic, filler_text, next_nonce,
};
use crate::protocol::Prompt;
use crate::protocol::prompt::{Content, Message};
use crate::random::{self, Purpose};
use crate::schedule::{HashBlocks, Lengths};

/// The most turns of a synthetic session.
pub const MAX_TURNS: u32 = 1000;
/// After this number of draws out of bounds, llmload uses the mean.
const MAX_DRAWS: usize = 100;

/// A normal distribution of think times. llmload draws again if a time is negative or above
/// [`MAX_THINK_TIME`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThinkTime {
    pub mean: Duration,
    /// The standard deviation; with 0, all think times are equal.
    pub stddev: Duration,
}

impl ThinkTime {
    fn draw(&self, rng: &mut impl Rng) -> Duration {
        let deviation = |rng: &mut _| -> f64 { StandardNormal.sample(rng) };
        let draws = (0..MAX_DRAWS).map(|_| {
            let seconds = self.mean.as_secs_f64() + self.stddev.as_secs_f64() * deviation(rng);
            Duration::try_from_secs_f64(seconds).ok()
        });
        let mut valid = draws.flatten().filter(|time| *time <= MAX_THINK_TIME);
        valid.next().unwrap_or(self.mean)
    }
}

#[derive(Clone, PartialEq)]
pub(super) enum SessionSource {
    Recorded {
        rows: Rows,
        think_time: ThinkTime,
    },
    Synthetic {
        name: Arc<str>,
        prompts: Synthetic,
        turns: LengthDistribution,
        think_time: ThinkTime,
    },
}

/// The means of all sessions of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionMeans {
    pub turns: f64,
    /// The input tokens of a turn, with the history.
    pub input: f64,
    /// The output limit of a turn.
    pub output: f64,
}

impl Prompts {
    /// Conversations from a file. `think_time` applies to turns without a recorded delay.
    pub fn conversations(
        name: impl Into<String>,
        rows: Rows,
        think_time: ThinkTime,
        order: PromptOrder,
    ) -> Prompts {
        let source = SessionSource::Recorded { rows, think_time };
        Prompts::from_source(name, Source::Sessions(source), order)
    }

    /// Generated conversations. `turns` is the number of turns of a session. The lengths of
    /// `prompts` are those of each turn, without the history.
    pub fn synthetic_sessions(
        name: &str,
        prompts: Synthetic,
        turns: LengthDistribution,
        think_time: ThinkTime,
    ) -> Prompts {
        let source = SessionSource::Synthetic { name: name.into(), prompts, turns, think_time };
        Prompts::from_source(name, Source::Sessions(source), PromptOrder::Sequential)
    }

    /// Returns true if each arrival of the schedule is a session.
    pub fn has_sessions(&self) -> bool {
        matches!(self.source, Source::Sessions(_))
    }

    /// Returns a turn of session `k`; `None` if the session has fewer turns. Both count from 0.
    ///
    /// # Errors
    /// The file has changed or cannot be read.
    pub fn turn(
        &self,
        seed: u64,
        scenario: &str,
        k: u64,
        turn: u32,
    ) -> Result<Option<Turn>, PromptUnavailable> {
        let Source::Sessions(source) = &self.source else { return Ok(None) };
        let mut rng = random::seeded_rng(seed, scenario, Purpose::Prompts);
        rng.set_stream(k);
        let mut times = random::seeded_rng(seed, scenario, Purpose::Sessions);
        times.set_stream(k);
        match source {
            SessionSource::Recorded { rows, think_time } => {
                let row = self.index_of(k, rows.count(), &mut rng);
                let mut turns = rows.conversation_at(row)?.turns.into_iter();
                let Some(recorded) = turns.nth(turn as usize) else { return Ok(None) };
                let drawn = nth_time(think_time, turn, &mut times);
                Ok(Some(Turn {
                    messages: recorded.messages,
                    recorded: recorded.recorded,
                    max_tokens: recorded.max_tokens,
                    ignore_eos: false,
                    think_time: turns.next().map(|next| next.delay.unwrap_or(drawn)),
                }))
            }
            SessionSource::Synthetic { name, prompts, turns, think_time } => {
                let count = turns.draw(&mut times);
                if turn >= count {
                    return Ok(None);
                }
                let (lengths, blocks) = (Lengths::default(), HashBlocks::default());
                let inputs = PromptInputs { seed, lengths, blocks, nonce_tokens: 0 };
                let prompt = if turn == 0 {
                    let cold = self.prefix_cache == PrefixCache::Cold;
                    let nonce = if cold { filler_text::NONCE_TOKENS } else { 0 };
                    let inputs = PromptInputs { nonce_tokens: nonce, ..inputs };
                    prompts.generate(name, inputs, &mut rng)
                } else {
                    // Each turn has a separate part of the random sequence of the session.
                    rng.set_word_pos(u128::from(turn) << 32);
                    let prompts = Synthetic { shared_prefix: 0, ..prompts.clone() };
                    prompts.generate(name, inputs, &mut rng)
                };
                let Prompt { content, max_tokens, ignore_eos, .. } = prompt;
                let messages = match content {
                    Content::Conversation(messages) => messages,
                    Content::Payload(_) => Vec::new(),
                };
                let think_time = (turn + 1 < count).then(|| nth_time(think_time, turn, &mut times));
                let recorded = Vec::new();
                Ok(Some(Turn { messages, recorded, max_tokens, ignore_eos, think_time }))
            }
        }
    }

    /// Returns the prompt of a turn: the history, and then the messages of the turn.
    pub fn prompt_of_turn<'a>(&self, turn: &Turn, messages: Vec<Message<'a>>) -> Prompt<'a> {
        let mut prompt = Prompt::from(Content::Conversation(messages));
        (prompt.max_tokens, prompt.ignore_eos) = (turn.max_tokens, turn.ignore_eos);
        self.set_nonce(&mut prompt);
        prompt
    }

    /// Returns the most tokens that a turn can use. `history` is the length of the history in
    /// bytes, and `limit` the output limit of the scenario. Reads no file and generates no text.
    pub fn most_tokens_of_turn(
        &self,
        seed: u64,
        scenario: &str,
        (k, turn): (u64, u32),
        history: u64,
        limit: Option<u64>,
    ) -> MostTokens {
        let mut most = if turn == 0 {
            self.most_tokens(seed, scenario, k, None, limit)
        } else {
            let mut rng = random::seeded_rng(seed, scenario, Purpose::Prompts);
            rng.set_stream(k);
            if let Source::Sessions(SessionSource::Synthetic { .. }) = &self.source {
                rng.set_word_pos(u128::from(turn) << 32);
            }
            self.most_of(k, Lengths::default(), limit, &mut rng)
        };
        most.input += tokens_of_bytes(history);
        most
    }

    /// Returns the means of the sessions; `None` if the source has none. `limit` is the output
    /// limit of a turn that sets none.
    pub fn session_means(&self, limit: f64) -> Option<SessionMeans> {
        let Source::Sessions(source) = &self.source else { return None };
        Some(match source {
            SessionSource::Recorded { rows, .. } => {
                let (turns, bytes) = rows.mean_session();
                let input = bytes / turns.max(1.0) / BYTES_PER_TOKEN;
                SessionMeans { turns, input, output: rows.mean_limit(limit) }
            }
            SessionSource::Synthetic { prompts, turns, .. } => {
                let (mean, stddev) = (turns.mean.max(1.0), turns.stddev);
                let output = prompts.output.map_or(limit, |output| output.mean);
                // The sums of 1 … T and of 0 … T − 1, each as a mean per turn.
                let squares = mean * mean + stddev * stddev;
                let sent = f64::midpoint(squares, mean) / mean;
                let received = sent - 1.0;
                let input = sent * prompts.input.mean + received * output;
                SessionMeans { turns: mean, input, output }
            }
        })
    }

    pub(super) fn set_nonce(&self, prompt: &mut Prompt<'_>) {
        let number = || next_nonce(&self.nonces);
        match self.prefix_cache {
            PrefixCache::Warm => {}
            PrefixCache::Cold => prompt.nonce = Some(filler_text::nonce(number())),
            PrefixCache::Salted => prompt.cache_salt = Some(format!("{:016x}", number())),
        }
    }
}

/// Returns the think time after turn `turn`. Earlier draws come first, so the think times of a
/// session do not depend on the order of the calls.
fn nth_time(think_time: &ThinkTime, turn: u32, rng: &mut impl Rng) -> Duration {
    if think_time.stddev.is_zero() {
        return think_time.mean;
    }
    (0..=turn).map(|_| think_time.draw(rng)).last().unwrap_or(think_time.mean)
}

#[cfg(test)]
mod tests;
