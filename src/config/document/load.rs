//! The arrivals and the phases of a scenario, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList};
use crate::config::scalar::{Count, Number, Rate, Span};

/// The distribution of open-loop arrivals around the rate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Arrivals", untagged, inline)]
pub enum Arrivals {
    /// A distribution by name.
    Text(ArrivalsName),
    /// Gamma-distributed intervals.
    Map(Gamma),
}

/// The distribution of open-loop arrivals around the rate.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ArrivalsName {
    /// Equal intervals.
    Constant,
    /// Exponentially distributed intervals, as from many independent users.
    Poisson,
}

/// Arrivals with gamma-distributed intervals.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct Gamma {
    /// The shape of the gamma distribution, 0.01 to 100, as vLLM defines it. Below 1 arrivals form
    /// bursts, 1 is `poisson`, and above 1 the intervals are more equal. Required.
    pub burstiness: Field<Number>,
}

/// One entry of a schedule, with exactly one of `constant`, `ramp`, `steps`, `sine`, `replay`,
/// `pause` and `concurrency`; or a loop with `phases` and `repeat`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Phase {
    /// The name of the phase on dashboards: 1 to 63 characters, unique in the schedule. Default: a
    /// description of the load, such as `constant 5/s`.
    pub name: Field<String>,
    /// An open loop at one rate. Example: `5/s`.
    pub constant: Field<Rate>,
    /// An open loop at a rate that changes linearly. Example: `{from: 5/s, to: 50/s}`.
    pub ramp: Field<Ramp>,
    /// An open loop at several rates, one after another. `for` is the length of each. Example:
    /// `{from: 10/s, to: 50/s, by: 10/s}`.
    pub steps: Field<Steps>,
    /// An open loop at a rate that follows a sine. Example: `{mean: 20/s, amplitude: 15/s, period:
    /// 1h}`.
    pub sine: Field<Sine>,
    /// An open loop at the instants of a recorded trace. Each request has the lengths of its row.
    /// Example: `{file: trace.jsonl}`.
    pub replay: Field<Replay>,
    /// A length of time without load. Example: `1m`.
    pub pause: Field<Span>,
    /// A closed loop with this number of requests in flight; when one ends, the next is sent. A
    /// list is several levels, one after another, and `for` is the length of each. Example: `[2, 4,
    /// 8]`.
    pub concurrency: Field<Levels>,
    /// The number of requests after which a phase of `concurrency` ends, instead of `for`: 1 to
    /// 1000000000, or `each_prompt` for the number of prompts. With several levels it applies to
    /// each.
    pub requests: Field<Requests>,
    /// The number of repetitions of `phases`, at least 1. Example: `3`.
    pub repeat: Field<Count>,
    /// The phases of a loop. Example: `[{constant: 5/s, for: 10s}, {pause: 50s}]`.
    pub phases: Field<FieldList<Phase>>,
    /// The length of the phase, 1ms to 366 days. `pause` contains its own length. A `replay`
    /// without `for` ends with its last row; with `for` it is cut, or a time without load follows
    /// it. Example: `10m`.
    pub r#for: Field<Span>,
}

/// One or several levels of concurrency.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Levels", untagged, inline)]
pub enum Levels {
    /// One level.
    Number(Count),
    /// Several levels, one after another.
    List(FieldList<Count>),
}

/// A number of requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Requests", untagged, inline)]
pub enum Requests {
    /// The number of requests by name.
    Text(RequestsName),
    /// The number itself.
    Number(Count),
}

/// A number of requests that follows from the prompts.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RequestsName {
    /// One request for each prompt.
    EachPrompt,
}

/// Rates that rise or fall in steps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Steps {
    /// The first rate. Example: `10/s`.
    pub from: Field<Rate>,
    /// The last rate. The last step is smaller if `by` does not divide the difference. Example:
    /// `50/s`.
    pub to: Field<Rate>,
    /// The difference between two rates. Example: `10/s`.
    pub by: Field<Rate>,
}

/// A rate of `mean + amplitude · sin(2πt / period)`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Sine {
    /// The rate at the start of the phase, which is also the average of a period. Example: `20/s`.
    pub mean: Field<Rate>,
    /// The largest difference from the mean; at most the mean. Example: `15/s`.
    pub amplitude: Field<Rate>,
    /// The length of one oscillation, 1s to 366 days. Example: `1h`.
    pub period: Field<Span>,
}

/// A recorded trace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Replay {
    /// The file with the trace. A `.csv` has the header of Azure,
    /// `TIMESTAMP,ContextTokens,GeneratedTokens`, or the header
    /// `offset_seconds,input_tokens,output_tokens`. A `.jsonl` has the keys of Mooncake
    /// (`timestamp` in milliseconds, `input_length`, `output_length`) or `offset_seconds`,
    /// `input_tokens` and `output_tokens`. Rows are sorted by time, and time counts from the first
    /// row. llmload reads at most a million rows and 256 MiB, and no further than the end of the
    /// phase.
    pub file: Field<String>,
    /// The factor by which the replay is faster than the trace, 0.001 to 1000. With 2 it takes half
    /// the time. Default: 1.
    #[schemars(extend("default" = 1))]
    pub speed: Field<Number>,
}

/// A rate that changes linearly.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Ramp {
    /// The rate at the start. Default: the rate at the end of the previous phase. Example: `5/s`.
    pub from: Field<Rate>,
    /// The rate at the end. Required. Example: `50/s`.
    pub to: Field<Rate>,
}
