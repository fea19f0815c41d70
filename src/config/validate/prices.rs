//! Validates the prices of the tokens of a target.

use super::Validator;
use crate::config::document;
use crate::config::field::{Field, Located};
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, excerpt};
use crate::plan::Prices;

/// The highest price of a million tokens: one unit of money per token. No model costs as much.
const HIGHEST: f64 = 1e6;

impl Validator<'_> {
    /// Returns `None` for a mistake, and `Some(None)` if the target has no prices.
    #[allow(clippy::option_option)]
    pub(super) fn prices(&self, field: &Field<document::Prices>) -> Option<Option<Prices>> {
        let Located { node, value: keys } = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let input = self.price(&keys.input_per_million, "input_per_million", *node);
        let output = self.price(&keys.output_per_million, "output_per_million", *node);
        let currency = self.currency(&keys.currency);
        Some(Some(Prices {
            input_per_million: input?,
            output_per_million: output?,
            currency: currency?,
        }))
    }

    fn price(&self, field: &Field<Number>, key: &str, node: NodeId) -> Option<f64> {
        match field {
            // With a default of 0, every cost would silently omit one kind of tokens.
            Field::Absent => {
                self.missing(
                    node,
                    format!("`{key}` is missing"),
                    "add the price, or 0 if these tokens are free",
                );
                None
            }
            Field::Invalid(_) => None,
            Field::Present(located) if (0.0..=HIGHEST).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    format!("write the price of a million tokens, from 0 to {HIGHEST}"),
                );
                None
            }
        }
    }

    /// Reads the currency, which becomes the value of a label.
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
                let message = format!("`{}` is not a currency", excerpt(value));
                self.problem(*node, message, "write three capital letters, such as `USD`");
                None
            }
        }
    }
}
