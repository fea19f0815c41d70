//! The configuration file as serde types. Their comments become the descriptions of the JSON
//! Schema.
//!
//! These types check only the form of single values, and every field may be absent.
//! [`super::validate`] checks what the values mean together.

mod calendar;
mod load;
mod metrics;
mod prompts;
mod slo;
mod target;

use schemars::JsonSchema;
use serde::Deserialize;

pub use calendar::{Active, Days, Start, Window};
pub use load::{
    Arrivals, ArrivalsName, Levels, Phase, Ramp, Replay, Requests, RequestsName, Sine, Steps,
};
pub use metrics::Metrics;
pub use prompts::{
    Length, PrefixCache, PromptOrder, ScenarioPrompts, ShortPrompts, Source, SourceKeys, Spread,
    Synthetic,
};

pub use slo::Slo;
pub use target::{
    Api, Auth, MaxTokensField, Prices, StreamOptions, Target, Terminal, Timeouts, Tls, ValueSource,
};

use super::field::{Field, FieldList, FieldMap};
use super::scalar::{Count, Number, Rate, Ratio, Repeat, Span};

/// The short form: one target and one scenario.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["target"]))]
pub struct ShortForm {
    /// The seed of all random choices. Two runs with the same seed and schedule send the same
    /// arrivals and prompts. Default: 0.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// The endpoint: its URL, or a map with the keys of a target. Example:
    /// `http://localhost:8000/v1`.
    pub target: Field<ShortTarget>,
    /// The prompts: a list of texts, or one named source. Default: the built-in source. Example:
    /// `{mine: {lines: prompts.txt}}`.
    pub prompts: Field<ShortPrompts>,
    /// The order of the prompts: `sequential` or `random`. Default: the order of the source.
    pub order: Field<PromptOrder>,
    /// The use of the prefix cache of the server: `warm`, `cold` or `cache_salt`. Default: `warm`.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// A constant rate without end. Exactly one of `rate`, `concurrency` and `schedule` is needed.
    /// Example: `5/s`.
    pub rate: Field<Rate>,
    /// A constant number of requests in flight without end, from 1 to `max_concurrency`. Exactly
    /// one of `rate`, `concurrency` and `schedule` is needed.
    pub concurrency: Field<Count>,
    /// The phases of a cycle, in order. Exactly one of `rate`, `concurrency` and `schedule` is
    /// needed. Example: `[{constant: 5/s, for: 10m}]`.
    pub schedule: Field<FieldList<Phase>>,
    /// The parameters of every request.
    pub request: Field<Request>,
    /// The distribution of open-loop arrivals around the rate: `constant`, `poisson` or
    /// `{burstiness: 0.5}`. Default: `constant`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// The start of the schedule: `when_ready`, `now`, `wall_clock`,
    /// `{wall_clock: {timezone: Europe/Berlin}}` or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    /// Default: `when_ready`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// The windows of time in which llmload sends load: one window, or a list of up to 64. Default:
    /// always. Example: `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`.
    pub active: Field<Active>,
    /// The number of cycles of the `schedule`: `forever` or a count. With a cron start it is a
    /// count for each firing. Default: `forever`, with a cron start 1.
    pub repeat: Field<Repeat>,
    /// The number of warm-up requests, 0 to 10000. They are sent one at a time before the schedule,
    /// and no metric counts them. Default: 0.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// The highest number of requests in flight, 1 to 50000. At this limit llmload drops further
    /// arrivals. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// The longest delay of an arrival, 1ms to 1h. llmload drops a later arrival instead of sending
    /// it in a burst. Default: 500ms.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// The objectives of the requests. The metrics `llmload_slo_…` count them, and `llmload run`
    /// judges a run by them. Example: `{ttft: {p99: 1s}, success_rate: 99%}`.
    pub slo: Field<Slo>,
    /// The size of the exposition: the limit of routes, and the buckets of histograms.
    pub metrics: Field<Metrics>,
}

/// The long form: targets, prompts and scenarios, each with a name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["targets", "scenarios"]))]
pub struct LongForm {
    /// The seed of all random choices. Two runs with the same seed and schedule send the same
    /// arrivals and prompts. Default: 0.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// The targets by name. A name has 1 to 63 letters, digits, `.`, `_` and `-`. Example:
    /// `{staging: {base_url: http://localhost:8000/v1}}`.
    pub targets: Field<FieldMap<Target>>,
    /// The sources of prompts by name. Default: the built-in source. Example:
    /// `{short: {lines: prompts/short.txt}}`.
    pub prompts: Field<FieldMap<Source>>,
    /// The scenarios by name. Example: `{baseline: {target: staging, rate: 5/s}}`.
    pub scenarios: Field<FieldMap<Scenario>>,
    /// The size of the exposition: the limit of routes, and the buckets of histograms.
    pub metrics: Field<Metrics>,
}

/// The two forms of a file, for the schema only. The loader chooses the form by the keys of the
/// file, so its messages are about that form.
#[derive(JsonSchema)]
#[schemars(
    untagged,
    title = "llmload configuration",
    description = "The configuration of llmload: the short form with one target and one scenario, or the long form with several of both, each with a name."
)]
#[allow(dead_code, clippy::large_enum_variant)]
pub enum Document {
    /// The short form: one target and one scenario.
    Short(ShortForm),
    /// The long form: targets, prompts and scenarios, each with a name.
    Long(LongForm),
}

/// The target of the short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ShortTarget", untagged, inline)]
pub enum ShortTarget {
    /// The base URL of the target.
    Text(String),
    /// The keys of the target.
    Map(Box<Target>),
}

/// The behaviour of the simulated endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Simulator {
    /// The name of its only model. Default: `simulated-8b`.
    #[schemars(extend("default" = "simulated-8b"))]
    pub model: Field<String>,
    /// The number of requests that it processes at once, 1 to 10000. More requests wait in the
    /// queue. Default: 16.
    #[schemars(extend("default" = 16))]
    pub slots: Field<Count>,
    /// The length of the queue, 0 to 1000000. When it is full, a request gets the status 503.
    /// Default: 256.
    #[schemars(extend("default" = 256))]
    pub queue: Field<Count>,
    /// The speed of one slot while it reads a prompt, in tokens per second. Default: 4000.
    #[schemars(extend("default" = 4000))]
    pub prefill_tokens_per_second: Field<Number>,
    /// The output speed of one request while all other slots are idle, in tokens per second.
    /// Default: 60.
    #[schemars(extend("default" = 60))]
    pub decode_tokens_per_second: Field<Number>,
    /// The share of the output speed that each request keeps when every slot is busy. Default: 50%.
    #[schemars(extend("default" = 0.5))]
    pub full_load_speed: Field<Ratio>,
    /// The standard deviation of each delay, relative to the delay. Default: 10%.
    #[schemars(extend("default" = 0.1))]
    pub jitter: Field<Ratio>,
    /// The number of reasoning tokens before each answer, 0 to 100000. Default: 0.
    #[schemars(extend("default" = 0))]
    pub reasoning_tokens: Field<Count>,
    /// The time after its start in which each request gets the status 503, as from a server that
    /// loads its model; at most 24h. Default: 0s.
    #[schemars(extend("default" = "0s"))]
    pub loading: Field<Span>,
    /// The simulated faults, each with its share of the requests; together at most 100%. Example:
    /// `{http_429: 1%, stall: 0.5%}`.
    pub faults: Field<Faults>,
}

/// The simulated faults, each with its share of the requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Faults {
    /// The share of requests that get the status 429 at once, with `retry-after`. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub http_429: Field<Ratio>,
    /// The share of requests that get the status 500 at once. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub http_500: Field<Ratio>,
    /// The share of requests whose connection is reset before the response head. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub reset: Field<Ratio>,
    /// The share of responses that stop after a few tokens while the connection stays open.
    /// Default: 0%.
    #[schemars(extend("default" = 0))]
    pub stall: Field<Ratio>,
    /// The share of responses with status 200 and an error object in the stream after a few tokens.
    /// Default: 0%.
    #[schemars(extend("default" = 0))]
    pub stream_error: Field<Ratio>,
    /// The share of responses whose connection breaks in the middle of the stream. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub truncation: Field<Ratio>,
}

/// A named load on one or several targets, with exactly one of `schedule`, `rate` and
/// `concurrency`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// The name of the target. Default: the only target of the file.
    pub target: Field<String>,
    /// The names of several targets, instead of `target`. Each gets the same prompts at the same
    /// instants. The first is the baseline of the comparison. Example: `[staging, canary]`.
    pub targets: Field<FieldList<String>>,
    /// The name of a source, or a list of prompts. Default: the only source of the file, or the
    /// built-in source if the file has none.
    pub prompts: Field<ScenarioPrompts>,
    /// The order of the prompts: `sequential` or `random`. Default: the order of the source.
    pub order: Field<PromptOrder>,
    /// The use of the prefix cache of the server: `warm`, `cold` or `cache_salt`. Default: `warm`.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// The parameters of every request.
    pub request: Field<Request>,
    /// The distribution of open-loop arrivals around the rate: `constant`, `poisson` or
    /// `{burstiness: 0.5}`. Default: `constant`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// The start of the schedule: `when_ready`, `now`, `wall_clock`,
    /// `{wall_clock: {timezone: Europe/Berlin}}` or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    /// Default: `when_ready`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// The windows of time in which llmload sends load: one window, or a list of up to 64. Default:
    /// always. Example: `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`.
    pub active: Field<Active>,
    /// The number of cycles of the `schedule`: `forever` or a count. With a cron start it is a
    /// count for each firing. Default: `forever`, with a cron start 1.
    pub repeat: Field<Repeat>,
    /// The phases of a cycle, in order. Example: `[{constant: 5/s, for: 10m}]`.
    pub schedule: Field<FieldList<Phase>>,
    /// A constant rate, instead of `schedule`: one phase of an hour, repeated. Example: `5/s`.
    pub rate: Field<Rate>,
    /// A constant number of requests in flight, instead of `schedule`: one phase of an hour,
    /// repeated. From 1 to `max_concurrency`.
    pub concurrency: Field<Count>,
    /// The number of warm-up requests, 0 to 10000. They are sent one at a time before the schedule,
    /// and no metric counts them. Default: 0.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// The highest number of requests in flight, 1 to 50000. At this limit llmload drops further
    /// arrivals. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// The longest delay of an arrival, 1ms to 1h. llmload drops a later arrival instead of sending
    /// it in a burst. Default: 500ms.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// The objectives of the requests. The metrics `llmload_slo_…` count them, and `llmload run`
    /// judges a run by them. Example: `{ttft: {p99: 1s}, success_rate: 99%}`.
    pub slo: Field<Slo>,
}

/// The parameters of every request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Request {
    /// The highest number of output tokens, 1 to 10000000. llmload always sends it. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_tokens: Field<Count>,
    /// The sampling temperature, 0 to 2. Default: that of the endpoint.
    pub temperature: Field<Number>,
    /// The system message before each prompt. Default: none.
    pub system: Field<String>,
    /// The streaming of the response. With `false` there is no time to first token. Default:
    /// true.
    #[schemars(extend("default" = true))]
    pub stream: Field<bool>,
    /// Further fields of the request body. llmload sends them unchanged. Example: `{top_p: 0.9}`.
    pub extra: Field<FieldMap<serde_json::Value>>,
}
