//! Validates the lengths of synthetic prompts. A prompt contains the shared prefix and the chat
//! template, so it must be longer than both.

use std::num::NonZeroU32;

use super::Validator;
use crate::config::document::{self, Length};
use crate::config::field::{Field, Located};
use crate::config::tree::NodeId;
use crate::prompts::{LengthDistribution, MAX_TOKENS, Prompts, Synthetic};

impl Validator<'_> {
    /// Reads generated prompts, with sessions or without.
    pub(super) fn synthetic_source(
        &self,
        name: &str,
        synthetic: &Located<document::Synthetic>,
    ) -> Option<Prompts> {
        let prompts = self.synthetic(synthetic);
        let keys = &synthetic.value;
        let think_time = self.think_time(&keys.think_time);
        let turns = match &keys.turns {
            Field::Invalid(_) => return None,
            Field::Present(turns) => self.turns(turns),
            Field::Absent => {
                if let Some(node) = keys.think_time.node() {
                    self.problem(
                        node,
                        "`think_time` needs `turns`",
                        "add `turns` with the number of turns of a session",
                    );
                }
                return prompts.map(|prompts| Prompts::synthetic(name, prompts));
            }
        };
        Some(Prompts::synthetic_sessions(name, prompts?, turns?, think_time?))
    }

    fn synthetic(
        &self,
        Located { node, value: keys }: &Located<document::Synthetic>,
    ) -> Option<Synthetic> {
        if keys.input_tokens.is_absent() {
            self.missing(
                *node,
                "`input_tokens` is missing",
                "write a number, or `{mean: 512, stddev: 128}`",
            );
        }
        let input = keys.input_tokens.present().and_then(|length| self.lengths(length));
        let output = match &keys.output_tokens {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(length) => self.lengths(length).map(Some),
        };
        let shared_prefix = self.count(&keys.shared_prefix_tokens, 0, 0..=MAX_TOKENS);
        let shared_prefixes = self.positive(&keys.shared_prefixes, 1, u32::MAX);
        if let (Some(located), true) =
            (keys.shared_prefixes.node(), keys.shared_prefix_tokens.is_absent())
        {
            self.problem(
                located,
                "`shared_prefixes` needs `shared_prefix_tokens`",
                "add `shared_prefix_tokens` with the length of the prefixes",
            );
        }
        let template = self.count(&keys.template_tokens, 0, 0..=MAX_TOKENS);
        let ignore_eos = match &keys.ignore_eos {
            Field::Invalid(_) => None,
            Field::Absent => Some(false),
            Field::Present(located) => Some(located.value),
        };
        if let (Some(located), Some(true), true) =
            (keys.ignore_eos.node(), ignore_eos, keys.output_tokens.is_absent())
        {
            self.warn(
                located,
                "every response will have exactly `max_tokens` tokens",
                "write `output_tokens` for other lengths",
            );
        }
        let (input, shared_prefix, template) = (input?, shared_prefix?, template?);
        let mut is_valid = true;
        for (field, tokens, message) in [
            (
                &keys.shared_prefix_tokens,
                shared_prefix,
                "the shared prefix would fill the prompt, so no part of it would be unique",
            ),
            (
                &keys.template_tokens,
                template,
                "the chat template would fill the prompt, so no text would be left",
            ),
        ] {
            if let (Some(located), true) = (field.node(), f64::from(tokens) >= input.mean) {
                self.problem(
                    located,
                    message,
                    format!("write less than the mean of `input_tokens`, {}", input.mean),
                );
                is_valid = false;
            }
        }
        is_valid.then_some(())?;
        Some(Synthetic {
            input,
            output: output?,
            shared_prefix,
            shared_prefixes: shared_prefixes?,
            template,
            ignore_eos: ignore_eos?,
        })
    }

    fn lengths(
        &self,
        Located { node, value: length }: &Located<Length>,
    ) -> Option<LengthDistribution> {
        match length {
            Length::Number(tokens) => {
                let keys = Field::Present(Located { node: *node, value: *tokens });
                self.positive(&keys, 1, MAX_TOKENS)
                    .map(|tokens| LengthDistribution::fixed(tokens.get()))
            }
            Length::Map(spread) => self.spread(*node, spread),
        }
    }

    fn spread(&self, node: NodeId, keys: &document::Spread) -> Option<LengthDistribution> {
        if keys.mean.is_absent() {
            self.missing(node, "`mean` is missing", "write `{mean: 512, stddev: 128}`");
        }
        let min = self.positive(&keys.min, 1, MAX_TOKENS).map(NonZeroU32::get);
        let max = self.positive(&keys.max, MAX_TOKENS, MAX_TOKENS).map(NonZeroU32::get);
        let stddev = match &keys.stddev {
            Field::Invalid(_) => None,
            Field::Absent => Some(0.0),
            Field::Present(located) if (0.0..=f64::from(MAX_TOKENS)).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    format!("write a deviation from 0 to {MAX_TOKENS} tokens"),
                );
                None
            }
        };
        let (mean, min, max) = (keys.mean.present()?, min?, max?);
        if !(f64::from(min)..=f64::from(max)).contains(&mean.value.0) {
            let message = format!("{} is not between `min` and `max`", mean.value.0);
            self.problem(mean.node, message, format!("write {min} to {max}"));
            return None;
        }
        Some(LengthDistribution { mean: mean.value.0, stddev: stddev?, min, max })
    }
}
