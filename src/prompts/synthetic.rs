//! Prompts that are made up: text of a drawn length, some of it shared at the start, and answers of
//! a drawn length.
//!
//! Nothing is learned from the target's counts while it runs: the prompt of an arrival would then
//! hang on which answers had come before it was sent, and the same seed would no longer give the same
//! prompts. Instead the text is such that its length is known (see [`super::prose`]), and what a chat
//! template adds, the same for every prompt of a model, is a number of the configuration.

use std::num::NonZeroU32;
use std::sync::Arc;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::prose;
use crate::protocol::Prompt;
use crate::random::{self, Purpose};
use crate::schedule::Lengths;

/// The most tokens a prompt or an answer may be asked to have.
pub const MAX_TOKENS: u32 = 2_000_000;

/// How often a length outside the bounds is drawn again before the mean has to do.
const TRIES: usize = 100;

/// How lengths are distributed: normally, where the bounds cut something off that is drawn again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthDistribution {
    /// The mean, which lies between the bounds.
    pub mean: f64,
    /// The standard deviation; 0 is one length for all.
    pub stddev: f64,
    /// The shortest; at least 1.
    pub min: u32,
    /// The longest; at most [`MAX_TOKENS`].
    pub max: u32,
}

impl LengthDistribution {
    /// One length for all.
    pub fn fixed(tokens: u32) -> LengthDistribution {
        LengthDistribution { mean: f64::from(tokens), stddev: 0.0, min: tokens, max: tokens }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn draw(&self, series: &mut impl Rng) -> u32 {
        let bounds = f64::from(self.min)..=f64::from(self.max);
        let deviation = |series: &mut _| -> f64 { StandardNormal.sample(series) };
        let length = (0..TRIES)
            .map(|_| (self.mean + self.stddev * deviation(series)).round())
            .find(|length| bounds.contains(length));
        length.unwrap_or(self.mean.round()) as u32
    }
}

/// What is made up.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// Tokens of a prompt, the shared ones included.
    pub input: LengthDistribution,
    /// Tokens that an answer may have; the scenario's bound where `None`.
    pub output: Option<LengthDistribution>,
    /// How many tokens at the start are shared.
    pub shared_prefix: u32,
    /// Among how many different such starts.
    pub shared_prefixes: NonZeroU32,
    /// What the target's chat template adds, taken off the text.
    pub template: u32,
    /// Ask for answers that go on to their bound.
    pub ignore_eos: bool,
}

impl Synthetic {
    /// The prompt that `series` draws. Where the length is `given`, only the text is drawn. What
    /// stands before the text already takes `taken` tokens.
    pub(super) fn ask(
        &self,
        source: &Arc<str>,
        seed: u64,
        given: Lengths,
        taken: u32,
        series: &mut impl Rng,
    ) -> Prompt<'static> {
        // Drawn in any case, so that a length given changes no other draw.
        let input = self.input.draw(series);
        let output = self.output.map(|output| output.draw(series));
        let input = given.input.map_or(input, NonZeroU32::get).min(MAX_TOKENS);
        // A prompt without text is none.
        let length = input.saturating_sub(self.template).saturating_sub(taken).max(1);

        // Something of each prompt stays its own.
        let shared = self.shared_prefix.min(length - 1);
        let mut text = String::new();
        let group = scaled(series.next_u64(), u64::from(self.shared_prefixes.get()));
        if shared > 0 {
            let mut common = random::seeded_rng(seed, source, Purpose::Prefixes);
            common.set_stream(group);
            prose::write(&mut text, shared, &mut common);
        }
        prose::write(&mut text, length - shared, series);

        let mut asked = Prompt::from(std::borrow::Cow::Owned(text));
        asked.max_tokens = output.and_then(NonZeroU32::new);
        asked.ignore_eos = self.ignore_eos;
        asked
    }
}

/// A drawn number scaled to below `count`: not taken modulo, so each is drawn equally often to
/// within 2⁻⁴⁰.
pub(super) fn scaled(draw: u64, count: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(count)) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::prompt::Content;

    const PLAIN: Synthetic = Synthetic {
        input: LengthDistribution { mean: 100.0, stddev: 20.0, min: 1, max: MAX_TOKENS },
        output: Some(LengthDistribution { mean: 50.0, stddev: 10.0, min: 1, max: MAX_TOKENS }),
        shared_prefix: 0,
        shared_prefixes: NonZeroU32::MIN,
        template: 0,
        ignore_eos: false,
    };

    fn ask(synthetic: &Synthetic, k: u64, given: Lengths) -> (String, Option<u32>) {
        let mut series = random::seeded_rng(7, "s", Purpose::Prompts);
        series.set_stream(k);
        let asked = synthetic.ask(&"source".into(), 7, given, 0, &mut series);
        let Content::Conversation(messages) = asked.content else { panic!("no conversation") };
        (messages[0].text.to_string(), asked.max_tokens.map(NonZeroU32::get))
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
    fn lengths_are_distributed_as_asked() {
        let prompts: Vec<_> = (0..10_000).map(|k| ask(&PLAIN, k, Lengths::default())).collect();
        let (mean, stddev) = moments(prompts.iter().map(|(text, _)| tokens(text)));
        assert!((99.0..101.0).contains(&mean) && (19.0..21.0).contains(&stddev), "{mean} {stddev}");
        let (mean, stddev) = moments(prompts.iter().map(|(_, output)| output.unwrap()));
        assert!((49.5..50.5).contains(&mean) && (9.5..10.5).contains(&stddev), "{mean} {stddev}");
    }

    #[test]
    fn bounds_cut_off_without_heaping_up() {
        let input = LengthDistribution { mean: 100.0, stddev: 50.0, min: 80, max: 120 };
        let synthetic = Synthetic { input, ..PLAIN };
        let lengths: Vec<_> =
            (0..10_000).map(|k| tokens(&ask(&synthetic, k, Lengths::default()).0)).collect();
        assert!(lengths.iter().all(|length| (80..=120).contains(length)));
        // Clamped, a third of them would be.
        assert!(lengths.iter().filter(|length| **length == 80).count() < 500);
        assert_eq!(
            tokens(
                &ask(
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
    fn the_start_is_shared_within_a_group_and_nothing_else_is() {
        let groups = NonZeroU32::new(3).unwrap();
        let synthetic = Synthetic { shared_prefix: 40, shared_prefixes: groups, ..PLAIN };
        let texts: Vec<_> = (0..300).map(|k| ask(&synthetic, k, Lengths::default()).0).collect();
        // 40 tokens are 37 words and three marks.
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
    fn a_given_length_is_kept_and_what_stands_around_the_text_is_taken_off_it() {
        let given = Lengths { input: NonZeroU32::new(777), output: None };
        let (text, output) = ask(&PLAIN, 5, given);
        assert_eq!((tokens(&text), output), (777, ask(&PLAIN, 5, Lengths::default()).1));
        assert_eq!(tokens(&ask(&Synthetic { template: 30, ..PLAIN }, 5, given).0), 747);
        let longer = Synthetic { template: 10_000, shared_prefix: 500, ..PLAIN };
        assert_eq!(tokens(&ask(&longer, 5, given).0), 1);
    }
}
