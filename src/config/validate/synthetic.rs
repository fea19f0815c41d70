//! Prompts that are made up: lengths that can be drawn, and shares of them that leave something.

use std::num::NonZeroU32;

use super::Validator;
use crate::config::document::{self, Length};
use crate::config::field::{Field, Located};
use crate::config::tree::NodeId;
use crate::prompts::{MOST_TOKENS, Spread, Synthetic};

impl Validator<'_> {
    pub(super) fn synthetic(
        &self,
        Located { node, value: given }: &Located<document::Synthetic>,
    ) -> Option<Synthetic> {
        if given.input_tokens.is_absent() {
            self.missing(
                *node,
                "`input_tokens` is missing; write a number, or `{mean: 512, stddev: 128}`",
            );
        }
        let input = given.input_tokens.present().and_then(|length| self.lengths(length));
        let output = match &given.output_tokens {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(length) => self.lengths(length).map(Some),
        };
        let shared_prefix = self.count(&given.shared_prefix_tokens, 0, 0..=MOST_TOKENS);
        let shared_prefixes = self.positive(&given.shared_prefixes, 1, u32::MAX);
        if let (Some(located), true) =
            (given.shared_prefixes.node(), given.shared_prefix_tokens.is_absent())
        {
            self.problem(
                located,
                "`shared_prefixes` without `shared_prefix_tokens`; write how long they are",
            );
        }
        let template = self.count(&given.template_tokens, 0, 0..=MOST_TOKENS);
        let ignore_eos = match &given.ignore_eos {
            Field::Invalid(_) => None,
            Field::Absent => Some(false),
            Field::Present(located) => Some(located.value),
        };
        if let (Some(located), Some(true), true) =
            (given.ignore_eos.node(), ignore_eos, given.output_tokens.is_absent())
        {
            self.warn(
                located,
                "every answer goes on to `max_tokens`; write `output_tokens` for other lengths",
            );
        }
        let (input, shared_prefix, template) = (input?, shared_prefix?, template?);
        let mut good = true;
        for (field, tokens, rest) in [
            (&given.shared_prefix_tokens, shared_prefix, "nothing of a prompt would be its own"),
            (&given.template_tokens, template, "nothing would be left for the prompt"),
        ] {
            if let (Some(located), true) = (field.node(), f64::from(tokens) >= input.mean) {
                self.problem(
                    located,
                    format!("{rest}; write less than `input_tokens`, {}", input.mean),
                );
                good = false;
            }
        }
        good.then_some(())?;
        Some(Synthetic {
            input,
            output: output?,
            shared_prefix,
            shared_prefixes: shared_prefixes?,
            template,
            ignore_eos: ignore_eos?,
        })
    }

    fn lengths(&self, Located { node, value: length }: &Located<Length>) -> Option<Spread> {
        match length {
            Length::Number(tokens) => {
                let given = Field::Present(Located { node: *node, value: *tokens });
                self.positive(&given, 1, MOST_TOKENS).map(|tokens| Spread::fixed(tokens.get()))
            }
            Length::Map(spread) => self.spread(*node, spread),
        }
    }

    fn spread(&self, node: NodeId, given: &document::Spread) -> Option<Spread> {
        if given.mean.is_absent() {
            self.missing(node, "`mean` is missing; write `{mean: 512, stddev: 128}`");
        }
        let min = self.positive(&given.min, 1, MOST_TOKENS).map(NonZeroU32::get);
        let max = self.positive(&given.max, MOST_TOKENS, MOST_TOKENS).map(NonZeroU32::get);
        let stddev = match &given.stddev {
            Field::Invalid(_) => None,
            Field::Absent => Some(0.0),
            Field::Present(located)
                if (0.0..=f64::from(MOST_TOKENS)).contains(&located.value.0) =>
            {
                Some(located.value.0)
            }
            Field::Present(located) => {
                let message =
                    format!("out of range; write a deviation from 0 to {MOST_TOKENS} tokens");
                self.problem(located.node, message);
                None
            }
        };
        let (mean, min, max) = (given.mean.present()?, min?, max?);
        if !(f64::from(min)..=f64::from(max)).contains(&mean.value.0) {
            let message =
                format!("{} is not between `min` and `max`; write {min} to {max}", mean.value.0);
            self.problem(mean.node, message);
            return None;
        }
        Some(Spread { mean: mean.value.0, stddev: stddev?, min, max })
    }
}
