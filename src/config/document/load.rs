//! The load of a scenario as a file may write it: arrivals, phases and their shapes.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList};
use crate::config::scalar::{Count, Number, Rate, Span};

/// How arrivals are spread about the rate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Arrivals", untagged, inline)]
pub enum Arrivals {
    /// By name.
    Text(ArrivalsName),
    /// Gamma distributed.
    Map(Gamma),
}

/// How arrivals are spread about the rate.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ArrivalsName {
    /// Evenly.
    Constant,
    /// As those of many independent users: exponential distances.
    Poisson,
}

/// Arrivals at gamma distributed distances.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct Gamma {
    /// The shape of the distribution, as vLLM defines it, from 0.01 to 100: below 1 arrivals come in
    /// bursts, 1 is Poisson, above 1 they are more even.
    pub burstiness: Field<Number>,
}

/// One entry of a schedule: one of `constant`, `ramp`, `steps`, `sine`, `replay`, `pause`, `concurrency`,
/// and `phases` to `repeat`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Phase {
    /// Shown on dashboards; unique within the schedule. Default: what the phase does.
    pub name: Field<String>,
    /// Open loop at one rate.
    pub constant: Field<Rate>,
    /// Open loop at a rate that moves in a straight line.
    pub ramp: Field<Ramp>,
    /// Open loop at one rate after the other; `for` is how long each lasts.
    pub steps: Field<Steps>,
    /// Open loop at a rate that swings about a mean.
    pub sine: Field<Sine>,
    /// Open loop at the instants of a recorded trace, each request as long as it was then.
    pub replay: Field<Replay>,
    /// No load, for so long.
    pub pause: Field<Span>,
    /// Closed loop: so many requests in flight, each replaced as it ends. A list is one level after the
    /// other; `for` is how long each lasts.
    pub concurrency: Field<Levels>,
    /// With `concurrency`, instead of `for`: until so many requests have ended, or `each_prompt` was
    /// asked once; for each level where there are several.
    pub requests: Field<Requests>,
    /// How often `phases` are gone through.
    pub repeat: Field<Count>,
    /// Phases to repeat.
    pub phases: Field<FieldList<Phase>>,
    /// How long the phase lasts, at most 366 days; not beside `pause`, which says it itself. A replay ends
    /// with its last row where this is left out; else it is cut there, or followed by silence.
    pub r#for: Field<Span>,
}

/// Levels of concurrency.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Levels", untagged, inline)]
pub enum Levels {
    /// One.
    Number(Count),
    /// One after the other.
    List(FieldList<Count>),
}

/// How many requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Requests", untagged, inline)]
pub enum Requests {
    /// As many as there are prompts.
    Text(RequestsName),
    /// So many.
    Number(Count),
}

/// A number of requests that follows from something.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RequestsName {
    /// As many as there are prompts.
    EachPrompt,
}

/// A staircase of rates.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Steps {
    /// The first rate.
    pub from: Field<Rate>,
    /// The last rate; reached also where `by` does not divide the way.
    pub to: Field<Rate>,
    /// The distance of two rates.
    pub by: Field<Rate>,
}

/// A rate of mean + amplitude · sin(2πt/period).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Sine {
    /// The rate at the start, and on the average of a period.
    pub mean: Field<Rate>,
    /// How far it swings; at most the mean.
    pub amplitude: Field<Rate>,
    /// How long one swing takes.
    pub period: Field<Span>,
}

/// A recorded trace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Replay {
    /// The file. A `.csv` of Azure (`TIMESTAMP,ContextTokens,GeneratedTokens`) or with the header
    /// `offset_seconds,input_tokens,output_tokens`; a `.jsonl` of Mooncake (`timestamp` in milliseconds,
    /// `input_length`, `output_length`) or with the keys of that header. Rows in order of time, which counts
    /// from the first; at most a million, and 256 MiB, up to the end of the phase.
    pub file: Field<String>,
    /// What the trace's time is divided by, from 0.001 to 1000: 2 replays it in half the time.
    #[schemars(extend("default" = 1))]
    pub speed: Field<Number>,
}

/// A rate that moves in a straight line.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Ramp {
    /// Rate at the start. Default: the rate before.
    pub from: Field<Rate>,
    /// Rate at the end.
    pub to: Field<Rate>,
}
