//! The most tokens that a request can use. llmload knows this number before it creates the prompt,
//! so a limit on tokens does not delay the arrivals.

use rand::Rng;

use super::sessions::SessionSource;
use super::{PrefixCache, Prompts, Source, filler_text};
use crate::random::{self, Purpose};
use crate::schedule::Lengths;

const BYTES_PER_TOKEN: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostTokens {
    /// An estimate, except for generated prompts.
    pub input: u64,
    /// `None` if the request has no output limit.
    pub output: Option<u64>,
}

/// Estimates the number of tokens of a text.
pub fn tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

impl Prompts {
    /// Returns the most tokens that the request with the prompt of arrival `k` can use. The
    /// arguments are as in [`Prompts::prompt_for`]. `limit` is the output limit of a prompt that
    /// sets none. Reads no file and generates no text.
    pub fn most_tokens(
        &self,
        seed: u64,
        scenario: &str,
        k: u64,
        lengths: Option<Lengths>,
        limit: Option<u64>,
    ) -> MostTokens {
        let mut rng = random::seeded_rng(seed, scenario, Purpose::Prompts);
        rng.set_stream(k);
        let lengths = lengths.unwrap_or_default();
        let mut most = self.most_of(k, lengths, limit, &mut rng);
        if let Some(output) = lengths.output {
            most.output = Some(output.get().into());
        }
        if self.prefix_cache == PrefixCache::Cold
            && !matches!(
                self.source,
                Source::Synthetic(..) | Source::Sessions(SessionSource::Synthetic { .. })
            )
        {
            most.input += u64::from(filler_text::NONCE_TOKENS);
        }
        most
    }

    /// Returns the path of a file with a row that removes the output limit of the scenario, and the
    /// field with which the row does so. `None` if no row does.
    pub fn removed_output_limit(&self) -> Option<(&str, &'static str)> {
        match &self.source {
            // A turn cannot remove the limit.
            Source::Texts(_) | Source::Synthetic(..) | Source::Sessions(_) => None,
            Source::Rows(rows) => rows.removed_output_limit(),
            Source::Mix(_, members) => members.iter().find_map(Prompts::removed_output_limit),
        }
    }

    pub(super) fn most_of(
        &self,
        k: u64,
        lengths: Lengths,
        limit: Option<u64>,
        rng: &mut impl Rng,
    ) -> MostTokens {
        match &self.source {
            Source::Texts(texts) => {
                let index = self.index_of(k, texts.len() as u64, rng);
                let text = usize::try_from(index).ok().and_then(|index| texts.get(index));
                let bytes = text.map_or(0, String::len) as u64;
                MostTokens { input: tokens_of_bytes(bytes), output: limit }
            }
            Source::Rows(rows) | Source::Sessions(SessionSource::Recorded { rows, .. }) => {
                let bytes = rows.most_bytes(self.index_of(k, rows.count(), rng));
                MostTokens { input: tokens_of_bytes(bytes), output: rows.highest_limit(limit) }
            }
            Source::Synthetic(_, synthetic)
            | Source::Sessions(SessionSource::Synthetic { prompts: synthetic, .. }) => {
                let (input, output) = synthetic.lengths(lengths, rng);
                MostTokens { input: input.into(), output: output.map(u64::from).or(limit) }
            }
            Source::Mix(turns, members) => {
                let draw = |count| self.index_of(k, count, rng);
                let (member, k) = turns.turn_of(k, self.order, draw);
                match members.get(member) {
                    Some(member) => member.most_of(k, lengths, limit, rng),
                    None => MostTokens { input: 0, output: limit },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::prompts::{LengthDistribution, PromptOrder, RowFormat, Synthetic, load_rows};
    use crate::protocol::prompt::Content;

    fn rows(text: &str, format: RowFormat, order: PromptOrder) -> Prompts {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Prompts::from_rows("rows", load_rows(file.path(), format).unwrap(), order)
    }

    /// The sources in both orders. They are loaded only once, because a property needs them often.
    static SOURCES: LazyLock<[Vec<Prompts>; 2]> =
        LazyLock::new(|| [PromptOrder::Sequential, PromptOrder::Random].map(sources));

    fn sources(order: PromptOrder) -> Vec<Prompts> {
        let texts = ["a", "four words are here", ""].map(str::to_owned).to_vec();
        let texts = Prompts::new("texts", texts, order).unwrap();
        let lines = rows("one\nthe second line is longer\n–––\n", RowFormat::Lines, order);
        let payloads = concat!(
            "{\"prompt\": \"Hi\", \"max_tokens\": 7}\n",
            "{\"prompt\": [[1, 2, 3]], \"max_tokens\": 900}\n",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"\\u00e4\\n\"}]}\n",
        );
        let payloads = rows(payloads, RowFormat::Payloads, order);
        let synthetic = Prompts::synthetic(
            "synthetic",
            Synthetic {
                input: LengthDistribution { mean: 60.0, stddev: 20.0, min: 20, max: 200 },
                output: Some(LengthDistribution { mean: 30.0, stddev: 9.0, min: 1, max: 99 }),
                shared_prefix: 10,
                shared_prefixes: NonZeroU32::MIN,
                template: 0,
                ignore_eos: false,
            },
        );
        let members = vec![(lines.clone(), 2), (synthetic.clone(), 1), (texts.clone(), 3)];
        let mix = Prompts::mixed("mix", members, order).unwrap();
        vec![texts, lines, payloads, synthetic, mix]
    }

    proptest! {
        #[test]
        fn no_prompt_needs_more_than_its_bound(
            k in 0_u64..10_000,
            seed: u64,
            random: bool,
            given in prop::option::of((1_u32..500, 1_u32..500)),
        ) {
            let lengths = given.map(|(input, output)| Lengths {
                input: NonZeroU32::new(input),
                output: NonZeroU32::new(output),
                row: None,
            });
            for prompts in &SOURCES[usize::from(random)] {
                let most = prompts.most_tokens(seed, "s", k, lengths, Some(50));
                let prompt = prompts.prompt_for(seed, "s", k, lengths).unwrap();
                let output = prompt.own_output_limit().unwrap_or(50);
                prop_assert!(most.output.unwrap() >= output, "{} {most:?}", prompts.name);
                match prompts.source_kind() {
                    // The number of tokens of a generated text is known, its bytes are not.
                    "synthetic" | "mix" => {}
                    _ => prop_assert!(
                        most.input >= tokens_of_bytes(prompt.content.text_bytes()),
                        "{} {most:?}", prompts.name
                    ),
                }
            }
        }
    }

    #[test]
    fn texts_and_generated_prompts_have_exact_bounds() {
        let [texts, lines, _, synthetic, mix] =
            <[_; 5]>::try_from(sources(PromptOrder::Random)).unwrap();
        for k in 0..200 {
            let most = |prompts: &Prompts| prompts.most_tokens(7, "s", k, None, Some(50));
            for prompts in [&texts, &lines] {
                let prompt = prompts.prompt_for(7, "s", k, None).unwrap();
                assert_eq!(most(prompts).input, tokens_of_bytes(prompt.content.text_bytes()));
                assert_eq!(most(prompts).output, Some(50));
            }
            for prompts in [&synthetic, &mix] {
                let prompt = prompts.prompt_for(7, "s", k, None).unwrap();
                assert_eq!(most(prompts).output, Some(prompt.own_output_limit().unwrap_or(50)));
                let Content::Conversation(messages) = prompt.content else { panic!() };
                let text = &messages[0].text;
                let words = text.split_whitespace().count() + text.matches('.').count();
                let bound = most(prompts).input;
                let is_generated = prompts.name == "synthetic";
                assert!(!is_generated || bound == words as u64, "{bound} {words}");
            }
        }
    }

    #[test]
    fn a_row_that_removes_the_output_limit_has_no_bound() {
        let text = "{\"prompt\": \"Hi\", \"max_tokens\": null}\n{\"prompt\": \"Hi\"}\n";
        let prompts = rows(text, RowFormat::Payloads, PromptOrder::Sequential);
        assert_eq!(prompts.most_tokens(7, "s", 1, None, Some(50)).output, None);
        assert_eq!(prompts.removed_output_limit().unwrap().1, "max_tokens");
        let members = vec![(Prompts::builtin(), 1), (prompts.clone(), 1)];
        let mix = Prompts::mixed("mix", members, PromptOrder::Sequential).unwrap();
        assert_eq!(mix.removed_output_limit(), prompts.removed_output_limit());
        let trace = Lengths { output: NonZeroU32::new(3), ..Lengths::default() };
        assert_eq!(prompts.most_tokens(7, "s", 1, Some(trace), Some(50)).output, Some(3));
    }

    /// A token id counts as four bytes.
    #[test]
    fn if_a_text_is_longer_than_its_row_every_row_counts_as_the_longest_text() {
        let ids = ["1"; 100].join(",");
        let text = format!("{{\"prompt\": [[{ids}]]}}\n{{\"prompt\": \"Hi\"}}\n");
        let prompts = rows(&text, RowFormat::Payloads, PromptOrder::Sequential);
        assert_eq!(prompts.most_tokens(7, "s", 1, None, None).input, 100);
    }
}
