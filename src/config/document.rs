//! The file as it may be written: the raw types, and through their comments the JSON Schema.
//!
//! Nothing here is checked beyond the form of single values; every field may be missing. What the
//! values mean together is the business of [`super::validate`].

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

/// One target and one stream of load, in a few lines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["target"]))]
pub struct ShortForm {
    /// Everything random follows from it: two runs send the same arrivals and prompts.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// The endpoint: its URL, or the keys of a target.
    pub target: Field<ShortTarget>,
    /// What is asked: a list of prompts or one named source. Default: a built-in source.
    pub prompts: Field<ShortPrompts>,
    /// The order in which the prompts are gone through. Default: that of their source.
    pub order: Field<PromptOrder>,
    /// What an engine that keeps the prefixes of prompts may find of them.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// A constant rate, for ever. Instead of `schedule` or `concurrency`.
    pub rate: Field<Rate>,
    /// So many requests in flight, for ever. Instead of `rate` or `schedule`.
    pub concurrency: Field<Count>,
    /// Phases in order. Instead of `rate` or `concurrency`.
    pub schedule: Field<FieldList<Phase>>,
    /// Parameters of every request.
    pub request: Field<Request>,
    /// How open-loop arrivals are spread about the rate: `constant`, `poisson` or `{burstiness: 0.5}`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// When the schedule begins: `when_ready`, `now`, `wall_clock`, `{wall_clock: {timezone: Europe/Berlin}}`
    /// or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// When load is sent at all: `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`, or a
    /// list of such windows. Default: always.
    pub active: Field<Active>,
    /// How often the `schedule` is gone through: `forever` or a count; beside a cron, a count for each
    /// firing. Default: `forever`, beside a cron 1.
    pub repeat: Field<Repeat>,
    /// Requests sent first, one by one, outside of everything that is measured; 0 to 10000.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// Hard cap of requests in flight; an arrival that meets it is dropped.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// An arrival later than this is dropped, never bunched up.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// What requests must meet: counted by `llmload_slo_…`, and the verdict of `llmload run`.
    pub slo: Field<Slo>,
    /// What the exposition holds.
    pub metrics: Field<Metrics>,
}

/// Targets, prompts and scenarios, each by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["targets", "scenarios"]))]
pub struct LongForm {
    /// Everything random follows from it: two runs send the same arrivals and prompts.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// Endpoints by name. A name is 1 to 63 letters, digits, `.`, `_` and `-`.
    pub targets: Field<FieldMap<Target>>,
    /// Sources of prompts by name. Default: a built-in source.
    pub prompts: Field<FieldMap<Source>>,
    /// Streams of load by name.
    pub scenarios: Field<FieldMap<Scenario>>,
    /// What the exposition holds.
    pub metrics: Field<Metrics>,
}

/// What a file may be. Only the schema is made of it: which form a file has is decided by its keys,
/// so that the messages are about that form.
#[derive(JsonSchema)]
#[schemars(
    untagged,
    title = "llmload configuration",
    description = "The short form, one target and one stream of load, or the long form, everything by name."
)]
#[allow(dead_code, clippy::large_enum_variant)]
pub enum Document {
    /// One target and one stream of load.
    Short(ShortForm),
    /// Everything by name.
    Long(LongForm),
}

/// The target of the short form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "ShortTarget", untagged, inline)]
pub enum ShortTarget {
    /// Its base URL.
    Text(String),
    /// All its keys.
    Map(Box<Target>),
}

/// How the simulated endpoint behaves.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Simulator {
    /// The one model it serves.
    #[schemars(extend("default" = "simulated-8b"))]
    pub model: Field<String>,
    /// Requests it works on at once, 1 to 10000; more wait in the queue.
    #[schemars(extend("default" = 16))]
    pub slots: Field<Count>,
    /// Requests that may wait; one more is refused with 503.
    #[schemars(extend("default" = 256))]
    pub queue: Field<Count>,
    /// Prompt tokens read per second by one slot.
    #[schemars(extend("default" = 4000))]
    pub prefill_tokens_per_second: Field<Number>,
    /// Output tokens per second of one request while it is alone.
    #[schemars(extend("default" = 60))]
    pub decode_tokens_per_second: Field<Number>,
    /// Share of that speed left to each request when every slot is busy.
    #[schemars(extend("default" = 0.5))]
    pub full_load_speed: Field<Ratio>,
    /// Relative standard deviation of each delay.
    #[schemars(extend("default" = 0.1))]
    pub jitter: Field<Ratio>,
    /// Reasoning tokens before each answer.
    #[schemars(extend("default" = 0))]
    pub reasoning_tokens: Field<Count>,
    /// How long after its start it answers 503, as a server that loads its model does.
    #[schemars(extend("default" = "0s"))]
    pub loading: Field<Span>,
    /// Faults, each with the share of requests that meet it; together at most 100%.
    pub faults: Field<Faults>,
}

/// The share of requests that meet each fault.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Faults {
    /// Answered 429 at once, with `retry-after`.
    #[schemars(extend("default" = 0))]
    pub http_429: Field<Ratio>,
    /// Answered 500 at once.
    #[schemars(extend("default" = 0))]
    pub http_500: Field<Ratio>,
    /// Connection reset before the response head.
    #[schemars(extend("default" = 0))]
    pub reset: Field<Ratio>,
    /// Nothing more after a few tokens, until the client gives up.
    #[schemars(extend("default" = 0))]
    pub stall: Field<Ratio>,
    /// An error object inside the 200 stream after a few tokens.
    #[schemars(extend("default" = 0))]
    pub stream_error: Field<Ratio>,
    /// The connection breaks in the middle of the stream.
    #[schemars(extend("default" = 0))]
    pub truncation: Field<Ratio>,
}

/// A stream of load: one of `schedule`, `rate` and `concurrency`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the target. May be left out where there is only one.
    pub target: Field<String>,
    /// Names of several targets instead: each gets the same prompts at the same instants, and the
    /// others are held against the first.
    pub targets: Field<FieldList<String>>,
    /// Name of a source, or a list of prompts. Default: the only source there is, else a built-in
    /// one.
    pub prompts: Field<ScenarioPrompts>,
    /// The order in which the prompts are gone through. Default: that of their source.
    pub order: Field<PromptOrder>,
    /// What an engine that keeps the prefixes of prompts may find of them.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// Parameters of every request.
    pub request: Field<Request>,
    /// How open-loop arrivals are spread about the rate: `constant`, `poisson` or `{burstiness: 0.5}`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// When the schedule begins: `when_ready`, `now`, `wall_clock`, `{wall_clock: {timezone: Europe/Berlin}}`
    /// or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// When load is sent at all: `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`, or a
    /// list of such windows. Default: always.
    pub active: Field<Active>,
    /// How often the `schedule` is gone through: `forever` or a count; beside a cron, a count for each
    /// firing. Default: `forever`, beside a cron 1.
    pub repeat: Field<Repeat>,
    /// Phases in order.
    pub schedule: Field<FieldList<Phase>>,
    /// A constant rate instead of a schedule: one phase of an hour, repeated.
    pub rate: Field<Rate>,
    /// So many requests in flight instead of a schedule: one phase of an hour, repeated.
    pub concurrency: Field<Count>,
    /// Requests sent first, one by one, outside of everything that is measured; 0 to 10000.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// Hard cap of requests in flight; an arrival that meets it is dropped.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// An arrival later than this is dropped, never bunched up.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// What requests must meet: judged by `llmload run`, and shown in metrics by the daemon.
    pub slo: Field<Slo>,
}

/// Parameters of every request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Request {
    /// Upper bound of output tokens; always sent.
    #[schemars(extend("default" = 256))]
    pub max_tokens: Field<Count>,
    /// Sampling temperature, 0 to 2. Default: the endpoint's own.
    pub temperature: Field<Number>,
    /// A system message before each prompt.
    pub system: Field<String>,
    /// Whether the answer is streamed. Without it there is no time to first token.
    #[schemars(extend("default" = true))]
    pub stream: Field<bool>,
    /// Further fields of the request body, as they are.
    pub extra: Field<FieldMap<serde_json::Value>>,
}
