//! Sessions, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;
use crate::config::scalar::{Count, Number, Span};

/// The answers that a later turn sends back to the model.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum History {
    /// The answers that the model really gave, without its reasoning.
    Live,
    /// The answers in the file of conversations.
    Recorded,
}

/// The number of turns: a number, or a distribution.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "TurnCount", untagged, inline)]
pub enum TurnCount {
    /// The same number for all sessions.
    Number(Count),
    /// A random number for each session.
    Map(TurnSpread),
}

/// A normal distribution of the number of turns. llmload draws a number again if it is below `min`
/// or above `max`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct TurnSpread {
    /// The mean of the distribution, from `min` to `max`. Required. Example: `4`.
    pub mean: Field<Number>,
    /// The standard deviation, 0 to 1000. Default: 0.
    #[schemars(extend("default" = 0))]
    pub stddev: Field<Number>,
    /// The fewest turns, 1 to 1000. Default: 1.
    #[schemars(extend("default" = 1))]
    pub min: Field<Count>,
    /// The most turns, 1 to 1000. Default: 1000.
    #[schemars(extend("default" = 1000))]
    pub max: Field<Count>,
}

/// A think time: a duration, or a distribution.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "ThinkTime", untagged, inline)]
pub enum ThinkTime {
    /// The same think time before all turns.
    Text(Span),
    /// A random think time before each turn.
    Map(ThinkTimeSpread),
}

/// A normal distribution of think times. llmload draws a negative time again, and a time above 1d.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct ThinkTimeSpread {
    /// The mean of the distribution, 0s to 1d. Required. Example: `5s`.
    pub mean: Field<Span>,
    /// The standard deviation, 0s to 1d. Default: 0s.
    #[schemars(extend("default" = "0s"))]
    pub stddev: Field<Span>,
}
