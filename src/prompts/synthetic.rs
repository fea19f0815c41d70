//! Synthetic prompts: random text with a random length, an optional shared prefix and a random
//! output limit.
//!
//! [`super::filler_text`] writes text with a known number of tokens. llmload does not correct the
//! length with the token counts in responses, because then the same seed would no longer give the
//! same prompts. The user configures the number of tokens that the chat template adds.

use std::num::NonZeroU32;
use std::sync::Arc;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{PromptInputs, filler_text, hash_blocks};
use crate::protocol::Prompt;
use crate::random::{self, Purpose};
use crate::schedule::Lengths;

pub const MAX_TOKENS: u32 = 2_000_000;

/// After this number of draws out of bounds, llmload uses the mean.
const MAX_DRAWS: usize = 100;

/// A normal distribution of lengths in tokens. llmload draws again if a length is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthDistribution {
    pub mean: f64,
    /// The standard deviation; with 0, all lengths are equal.
    pub stddev: f64,
    /// At least 1.
    pub min: u32,
    /// At most [`MAX_TOKENS`].
    pub max: u32,
}

impl LengthDistribution {
    pub fn fixed(tokens: u32) -> LengthDistribution {
        LengthDistribution { mean: f64::from(tokens), stddev: 0.0, min: tokens, max: tokens }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn draw(&self, rng: &mut impl Rng) -> u32 {
        let bounds = f64::from(self.min)..=f64::from(self.max);
        let deviation = |rng: &mut _| -> f64 { StandardNormal.sample(rng) };
        let length = (0..MAX_DRAWS)
            .map(|_| (self.mean + self.stddev * deviation(rng)).round())
            .find(|length| bounds.contains(length));
        length.unwrap_or(self.mean.round()) as u32
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// The length of a prompt, including the shared prefix and the chat template.
    pub input: LengthDistribution,
    /// The output limit; `None` means the limit of the scenario.
    pub output: Option<LengthDistribution>,
    /// The length of a shared prefix in tokens.
    pub shared_prefix: u32,
    /// The number of different shared prefixes.
    pub shared_prefixes: NonZeroU32,
    /// The tokens of the chat template. The text is shorter by this number.
    pub template: u32,
    /// True if the engine should generate as many tokens as the output limit.
    pub ignore_eos: bool,
}

impl Synthetic {
    /// Returns the number of input tokens of a prompt and its output limit. This is the first step
    /// of [`Synthetic::generate`].
    pub(super) fn lengths(&self, given: Lengths, rng: &mut impl Rng) -> (u32, Option<u32>) {
        // Draw both lengths even if `given` replaces them, so that the later draws do not change.
        let input = self.input.draw(rng);
        let output = self.output.map(|output| output.draw(rng));
        (given.input.map_or(input, NonZeroU32::get).min(MAX_TOKENS), output)
    }

    /// Generates a prompt. Recorded lengths replace drawn lengths, and recorded blocks replace the
    /// shared prefix. The text leaves room for the nonce.
    pub(super) fn generate(
        &self,
        source: &Arc<str>,
        inputs: PromptInputs<'_>,
        rng: &mut impl Rng,
    ) -> Prompt<'static> {
        let (input, output) = self.lengths(inputs.lengths, rng);
        let length = input.saturating_sub(self.template).saturating_sub(inputs.nonce_tokens).max(1);

        let mut text = String::new();
        let prefix = scale_to(rng.next_u64(), u64::from(self.shared_prefixes.get()));
        let shared = if inputs.blocks.ids.is_empty() {
            // At least one token of the text is not shared.
            let shared = self.shared_prefix.min(length - 1);
            let mut prefix_rng = random::seeded_rng(inputs.seed, source, Purpose::Prefixes);
            prefix_rng.set_stream(prefix);
            filler_text::write(&mut text, shared, &mut prefix_rng);
            shared
        } else {
            hash_blocks::write(&mut text, length, inputs.seed, inputs.blocks)
        };
        filler_text::write(&mut text, length - shared, rng);

        let mut prompt = Prompt::from(std::borrow::Cow::Owned(text));
        prompt.max_tokens = output.and_then(NonZeroU32::new);
        prompt.ignore_eos = self.ignore_eos;
        prompt
    }
}

/// Maps a random 64-bit number to 0 … `count` − 1. A modulo would be less uniform.
pub(super) fn scale_to(draw: u64, count: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(count)) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::prompt::Content;
    use crate::schedule::HashBlocks;

    const PLAIN: Synthetic = Synthetic {
        input: LengthDistribution { mean: 100.0, stddev: 20.0, min: 1, max: MAX_TOKENS },
        output: Some(LengthDistribution { mean: 50.0, stddev: 10.0, min: 1, max: MAX_TOKENS }),
        shared_prefix: 0,
        shared_prefixes: NonZeroU32::MIN,
        template: 0,
        ignore_eos: false,
    };

    fn generate(synthetic: &Synthetic, k: u64, given: Lengths) -> (String, Option<u32>) {
        let mut rng = random::seeded_rng(7, "s", Purpose::Prompts);
        rng.set_stream(k);
        let blocks = HashBlocks::default();
        let inputs = PromptInputs { seed: 7, lengths: given, blocks, nonce_tokens: 0 };
        let prompt = synthetic.generate(&"source".into(), inputs, &mut rng);
        let Content::Conversation(messages) = prompt.content else { panic!("no conversation") };
        (messages[0].text.to_string(), prompt.max_tokens.map(NonZeroU32::get))
    }

    fn tokens(text: &str) -> u32 {
        u32::try_from(text.split_whitespace().count() + text.matches('.').count()).unwrap()
    }

    fn moments(lengths: impl Iterator<Item = u32>) -> (f64, f64) {
        let lengths: Vec<f64> = lengths.map(f64::from).collect();
        #[allow(clippy::cast_precision_loss)]
        let count = lengths.len() as f64;
        let mean = lengths.iter().sum::<f64>() / count;
        (mean, (lengths.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / count).sqrt())
    }

    #[test]
    fn lengths_follow_the_configured_distribution() {
        let prompts: Vec<_> =
            (0..10_000).map(|k| generate(&PLAIN, k, Lengths::default())).collect();
        let (mean, stddev) = moments(prompts.iter().map(|(text, _)| tokens(text)));
        assert!((99.0..101.0).contains(&mean) && (19.0..21.0).contains(&stddev), "{mean} {stddev}");
        let (mean, stddev) = moments(prompts.iter().map(|(_, output)| output.unwrap()));
        assert!((49.5..50.5).contains(&mean) && (9.5..10.5).contains(&stddev), "{mean} {stddev}");
    }

    #[test]
    fn lengths_outside_the_bounds_are_drawn_again_and_not_clamped() {
        let input = LengthDistribution { mean: 100.0, stddev: 50.0, min: 80, max: 120 };
        let synthetic = Synthetic { input, ..PLAIN };
        let lengths: Vec<_> =
            (0..10_000).map(|k| tokens(&generate(&synthetic, k, Lengths::default()).0)).collect();
        assert!(lengths.iter().all(|length| (80..=120).contains(length)));
        // If they were clamped, a third of the lengths would be 80.
        assert!(lengths.iter().filter(|length| **length == 80).count() < 500);
        assert_eq!(
            tokens(
                &generate(
                    &Synthetic { input: LengthDistribution::fixed(64), ..PLAIN },
                    3,
                    Lengths::default()
                )
                .0
            ),
            64
        );
    }

    #[test]
    fn prompts_share_their_prefix_and_nothing_else() {
        let groups = NonZeroU32::new(3).unwrap();
        let synthetic = Synthetic { shared_prefix: 40, shared_prefixes: groups, ..PLAIN };
        let texts: Vec<_> =
            (0..300).map(|k| generate(&synthetic, k, Lengths::default()).0).collect();
        let start =
            |text: &String, words| text.split(' ').take(words).collect::<Vec<_>>().join(" ");
        let long: Vec<_> = texts.iter().filter(|text| tokens(text) > 60).collect();
        let distinct = |words| {
            long.iter().map(|text| start(text, words)).collect::<std::collections::HashSet<_>>()
        };
        assert_eq!(distinct(37).len(), 3);
        assert_eq!(distinct(45).len(), long.len());
    }

    #[test]
    fn a_given_length_includes_the_template() {
        let given = Lengths { input: NonZeroU32::new(777), ..Lengths::default() };
        let (text, output) = generate(&PLAIN, 5, given);
        assert_eq!((tokens(&text), output), (777, generate(&PLAIN, 5, Lengths::default()).1));
        assert_eq!(tokens(&generate(&Synthetic { template: 30, ..PLAIN }, 5, given).0), 747);
        let longer = Synthetic { template: 10_000, shared_prefix: 500, ..PLAIN };
        assert_eq!(tokens(&generate(&longer, 5, given).0), 1);
    }
}
