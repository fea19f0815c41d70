//! What the tokens of a target cost.

use super::Checker;
use crate::config::document;
use crate::config::field::{At, Field};
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, shown};
use crate::plan::Prices;

/// A whole unit of money for each token: more than any model costs in any currency.
const HIGHEST: f64 = 1e6;

impl Checker<'_> {
    // The inner `None` is a target without prices.
    #[allow(clippy::option_option)]
    pub(super) fn prices(&self, field: &Field<document::Prices>) -> Option<Option<Prices>> {
        let At { node, value: given } = match field {
            Field::Absent => return Some(None),
            Field::Bad(_) => return None,
            Field::Given(at) => at,
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
            Field::Bad(_) => None,
            Field::Given(at) if (0.0..=HIGHEST).contains(&at.value.0) => Some(at.value.0),
            Field::Given(at) => {
                let message = format!(
                    "{} is out of range; write what a million tokens cost, from 0 to {HIGHEST}",
                    at.value.0
                );
                self.problem(at.node, message);
                None
            }
        }
    }

    /// A label's value.
    fn currency(&self, field: &Field<String>) -> Option<String> {
        match field {
            Field::Absent => Some("USD".to_owned()),
            Field::Bad(_) => None,
            Field::Given(At { value, .. })
                if value.len() == 3 && value.bytes().all(|b| b.is_ascii_uppercase()) =>
            {
                Some(value.clone())
            }
            Field::Given(At { node, value }) => {
                let message = format!(
                    "`{}` is not a currency; write its three capital letters, such as `USD`",
                    shown(value)
                );
                self.problem(*node, message);
                None
            }
        }
    }
}
