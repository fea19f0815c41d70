//! What the tokens of a target cost.

use super::Validator;
use crate::config::document;
use crate::config::field::{Field, Located};
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, excerpt};
use crate::plan::Prices;

/// A whole unit of money for each token: more than any model costs in any currency.
const HIGHEST: f64 = 1e6;

impl Validator<'_> {
    // The inner `None` is a target without prices.
    #[allow(clippy::option_option)]
    pub(super) fn prices(&self, field: &Field<document::Prices>) -> Option<Option<Prices>> {
        let Located { node, value: given } = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let input = self.price(&given.input_per_million, "input_per_million", *node);
        let output = self.price(&given.output_per_million, "output_per_million", *node);
        let currency = self.currency(&given.currency);
        Some(Some(Prices {
            input_per_million: input?,
            output_per_million: output?,
            currency: currency?,
        }))
    }

    fn price(&self, field: &Field<Number>, key: &str, node: NodeId) -> Option<f64> {
        match field {
            // Left out, half of the cost would be missing from every sum without a word.
            Field::Absent => {
                self.missing(
                    node,
                    format!("`{key}` is missing; write it, 0 where these tokens are free"),
                );
                None
            }
            Field::Invalid(_) => None,
            Field::Present(located) if (0.0..=HIGHEST).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                let message = format!(
                    "{} is out of range; write what a million tokens cost, from 0 to {HIGHEST}",
                    located.value.0
                );
                self.problem(located.node, message);
                None
            }
        }
    }

    /// A label's value.
    fn currency(&self, field: &Field<String>) -> Option<String> {
        match field {
            Field::Absent => Some("USD".to_owned()),
            Field::Invalid(_) => None,
            Field::Present(Located { value, .. })
                if value.len() == 3 && value.bytes().all(|b| b.is_ascii_uppercase()) =>
            {
                Some(value.clone())
            }
            Field::Present(Located { node, value }) => {
                let message = format!(
                    "`{}` is not a currency; write its three capital letters, such as `USD`",
                    excerpt(value)
                );
                self.problem(*node, message);
                None
            }
        }
    }
}
