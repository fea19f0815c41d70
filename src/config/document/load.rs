//! The arrivals and the phases of a scenario, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Slo;
use crate::config::field::{Field, FieldList};
use crate::config::scalar::{Count, Number, Rate, Ratio, Span};

/// The distribution of the intervals between open-loop arrivals.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Arrivals", untagged, inline)]
pub enum Arrivals {
    /// The name of a distribution without parameters.
    Text(ArrivalsName),
    /// Gamma-distributed intervals.
    Map(Gamma),
}

/// The distribution of the intervals between open-loop arrivals.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ArrivalsName {
    /// All intervals are equal.
    Constant,
    /// The intervals are exponentially distributed, as for many independent users.
    Poisson,
}

/// Arrivals with gamma-distributed intervals.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct Gamma {
    /// The shape parameter of the gamma distribution, 0.01 to 100, as vLLM defines its burstiness.
    /// Below 1 the arrivals form bursts; 1 equals `poisson`; above 1 the intervals become more
    /// equal. Required. Example: `0.5`.
    pub burstiness: Field<Number>,
}

/// One entry of a schedule. An entry is a phase with exactly one of `constant`, `ramp`, `steps`,
/// `sine`, `replay`, `pause`, `concurrency` and `search`, or a loop with `phases` and `repeat`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Phase {
    /// The name of the phase on dashboards: 1 to 63 characters, different from all other names of
    /// the schedule. Default: a description of the load, such as `constant 5/s`.
    pub name: Field<String>,
    /// An open loop at a constant rate of requests per second (`/s`), minute (`/m`) or hour (`/h`),
    /// above 0 and up to 100000/s. Example: `5/s`.
    pub constant: Field<Rate>,
    /// An open loop whose rate changes linearly from one rate to another. Example:
    /// `{from: 5/s, to: 50/s}`.
    pub ramp: Field<Ramp>,
    /// An open loop at several constant rates, one after another; `for` is the length of each.
    /// Example: `{from: 10/s, to: 50/s, by: 10/s}`.
    pub steps: Field<Steps>,
    /// An open loop whose rate follows a sine curve. Example:
    /// `{mean: 20/s, amplitude: 15/s, period: 1h}`.
    pub sine: Field<Sine>,
    /// An open loop that sends one request for each row of a recorded trace, at the time of the
    /// row. The row also sets the lengths of prompt and response. Example: `{file: trace.jsonl}`.
    pub replay: Field<Replay>,
    /// A phase without load; the value is its length, 1ms to 366 days. Example: `1m`.
    pub pause: Field<Span>,
    /// Steps of constant load that find the highest level at which the target meets the objectives
    /// of the scenario; `for` is the shortest time of a step. Example:
    /// `{rate: {from: 1/s, to: 200/s}}`.
    pub search: Field<Search>,
    /// A closed loop that keeps this number of requests in flight, from 1 to `max_concurrency`:
    /// when one request ends, llmload sends the next. A list gives several levels, one after
    /// another; `for` is the length of each. Example: `[2, 4, 8]`.
    pub concurrency: Field<Levels>,
    /// The number of requests after which a phase with `concurrency` ends, instead of `for`: 1 to
    /// 1000000000, or `each_prompt` for one request per prompt. With several levels, each level
    /// sends this number. Example: `100`.
    pub requests: Field<Requests>,
    /// The number of times that llmload runs `phases`, at least 1. The expanded schedule has at
    /// most 10000 phases. Example: `3`.
    pub repeat: Field<Count>,
    /// The phases of a loop, in order. Example: `[{constant: 5/s, for: 10s}, {pause: 50s}]`.
    pub phases: Field<FieldList<Phase>>,
    /// The length of the phase, 1ms to 366 days. `for` is required for `constant`, `ramp`, `steps`,
    /// `sine` and `search`, and for `concurrency` without `requests`. A `replay` without `for` ends
    /// with the last row of its trace. If `for` is shorter than the trace, llmload ignores the
    /// later rows; if `for` is longer, a time without load follows the last row. Example: `10m`.
    pub r#for: Field<Span>,
    /// The service level objectives of this phase, instead of the objectives of the scenario. With
    /// several levels, each level has these objectives. Only `llmload run` judges phases; the
    /// metrics use the objectives of the scenario. Default: the objectives of the scenario.
    /// Example: `{ttft: {p99: 2s}}`.
    pub slo: Field<Slo>,
    /// True if the phase decides nothing: `llmload run` reports its objectives, but a miss and
    /// dropped arrivals do not change the verdict. Default: false.
    #[schemars(extend("default" = false))]
    pub explore: Field<bool>,
}

/// One level of concurrency, or several levels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Levels", untagged, inline)]
pub enum Levels {
    /// The same number of requests in flight for the full phase.
    Number(Count),
    /// Several levels, one after another.
    List(FieldList<Count>),
}

/// A search for the highest level that meets the objectives. It has exactly one of `rate` and
/// `concurrency`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Search {
    /// The search uses open loops at constant rates. Example: `{from: 1/s, to: 200/s}`.
    pub rate: Field<RateRange>,
    /// The search uses closed loops with constant numbers of requests in flight. Example:
    /// `{from: 1, to: 256}`.
    pub concurrency: Field<CountRange>,
    /// The largest distance between the highest level that meets the objectives and the lowest
    /// level that misses them, 1% to 50%. Default: 5%.
    #[schemars(extend("default" = "5%"))]
    pub resolution: Field<Ratio>,
}

/// The rates among which a search looks for the capacity.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct RateRange {
    /// The lowest rate, per second (`/s`), minute (`/m`) or hour (`/h`), above 0. The search begins
    /// here. Required. Example: `1/s`.
    pub from: Field<Rate>,
    /// The highest rate, per second (`/s`), minute (`/m`) or hour (`/h`), up to 100000/s. Required.
    /// Example: `200/s`.
    pub to: Field<Rate>,
}

/// The numbers of requests in flight among which a search looks for the capacity.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct CountRange {
    /// The lowest number of requests in flight, at least 1. The search begins here. Required.
    /// Example: `1`.
    pub from: Field<Count>,
    /// The highest number of requests in flight, up to `max_concurrency`. Required. Example: `256`.
    pub to: Field<Count>,
}

/// The number of requests after which a phase ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Requests", untagged, inline)]
pub enum Requests {
    /// A number that follows from the prompts.
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

/// An open loop at several constant rates, which rise or fall in equal steps.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Steps {
    /// The first rate, per second (`/s`), minute (`/m`) or hour (`/h`), above 0. Required. Example:
    /// `10/s`.
    pub from: Field<Rate>,
    /// The last rate, per second (`/s`), minute (`/m`) or hour (`/h`), above 0. The last step is
    /// smaller if `by` does not divide the difference between `from` and `to`. Required. Example:
    /// `50/s`.
    pub to: Field<Rate>,
    /// The difference between two successive rates, per second (`/s`), minute (`/m`) or hour
    /// (`/h`), above 0. Required. Example: `10/s`.
    pub by: Field<Rate>,
}

/// An open loop with the rate `mean + amplitude · sin(2πt / period)`, where `t` is the time since
/// the start of the phase.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Sine {
    /// The average rate of one period, per second (`/s`), minute (`/m`) or hour (`/h`), above 0.
    /// `mean` is also the rate at the start of the phase. Required. Example: `20/s`.
    pub mean: Field<Rate>,
    /// The largest difference between the rate and `mean`, per second (`/s`), minute (`/m`) or hour
    /// (`/h`); at most `mean`. Required. Example: `15/s`.
    pub amplitude: Field<Rate>,
    /// The length of one oscillation, 1s to 366 days. Required. Example: `1h`.
    pub period: Field<Span>,
}

/// A recorded trace of requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Replay {
    /// The path of the trace, relative to the configuration file. A `.csv` file has the header of
    /// Azure traces, `TIMESTAMP,ContextTokens,GeneratedTokens`, the columns of BurstGPT,
    /// `Timestamp,Request tokens,Response tokens`, or the header
    /// `offset_seconds,input_tokens,output_tokens`. A `.jsonl` file has the keys of Mooncake traces
    /// (`timestamp` in milliseconds, `input_length`, `output_length`), the keys of Bailian traces
    /// (the same and `chat_id`, with `timestamp` in seconds), or the keys `offset_seconds`,
    /// `input_tokens` and `output_tokens`. With `hash_ids`, synthetic prompts repeat the recorded
    /// blocks of tokens. The rows are sorted by time, and the first row is at the start of the
    /// phase. llmload reads no row after the end of the phase, and at most a million rows and
    /// 256 MiB. Required. Example: `trace.jsonl`.
    pub file: Field<String>,
    /// The factor by which the replay is faster than the trace, 0.001 to 1000. With 2 the replay
    /// takes half of the time. Default: 1.
    #[schemars(extend("default" = 1))]
    pub speed: Field<Number>,
    /// The number of tokens of each block with a hash id, 1 to 1000000. Default: 16 for Bailian
    /// traces, otherwise 512. Example: `64`.
    pub block_size: Field<Count>,
}

/// An open loop whose rate changes linearly from one rate to another.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Ramp {
    /// The rate at the start of the phase, per second (`/s`), minute (`/m`) or hour (`/h`), 0 to
    /// 100000/s. Default: the rate at the end of the previous phase. Example: `5/s`.
    pub from: Field<Rate>,
    /// The rate at the end of the phase, per second (`/s`), minute (`/m`) or hour (`/h`), 0 to
    /// 100000/s. Required. Example: `50/s`.
    pub to: Field<Rate>,
}
