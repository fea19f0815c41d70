//! The serde types of the configuration file. Their doc comments become the descriptions of the
//! keys in the JSON Schema and in `docs/configuration.md`, so the comments are for users.
//!
//! These types check only whether each value has the right form, and every field can be absent.
//! [`super::validate`] checks ranges, required keys and combinations of keys.

mod budgets;
mod calendar;
mod failures;
mod guards;
mod load;
mod metrics;
mod observe;
mod prompts;
mod resources;
mod sessions;
mod slo;
mod target;

use schemars::JsonSchema;
use serde::Deserialize;

pub use budgets::{Budget, Per};
pub use calendar::{Active, Days, Start, Window};
pub use failures::{Failures, KeptPrompts};
pub use guards::{Breaker, RateLimits};
pub use load::{
    Arrivals, ArrivalsName, Levels, Phase, Ramp, Replay, Requests, RequestsName, Search, Sine,
    Steps,
};
pub use metrics::Metrics;
pub use observe::Observe;
pub use prompts::{
    Length, PrefixCache, PromptOrder, ScenarioPrompts, ShortPrompts, Source, SourceKeys, Spread,
    Synthetic,
};
pub use resources::Resources;
pub use sessions::{History, ThinkTime, TurnCount};
pub use slo::Slo;
pub use target::{
    Api, Auth, MaxTokensField, Prices, StreamOptions, Target, Terminal, Timeouts, Tls, ValueSource,
};

use super::field::{Field, FieldList, FieldMap};
use super::scalar::{Count, Number, Rate, Ratio, Repeat, Size, Span};

/// The short form: one target and one scenario.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["target"]))]
pub struct ShortForm {
    /// The seed of all random choices: a whole number of 0 or more. Two runs with the same seed and
    /// the same schedule send the same prompts at the same times. Default: 0.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// The target that receives the requests: its base URL, or a map with the keys of a target.
    /// Required. Example: `http://localhost:8000/v1`.
    pub target: Field<ShortTarget>,
    /// The prompts of the requests: a list of texts, a map with one named source of prompts, or
    /// `builtin` for the source that is built into llmload. Default: `builtin`. Example:
    /// `{mine: {lines: prompts.txt}}`.
    pub prompts: Field<ShortPrompts>,
    /// The order in which llmload takes the prompts from their source: `sequential` or `random`.
    /// Default: the order that the source itself sets.
    pub order: Field<PromptOrder>,
    /// The treatment of the prefix cache of the server. `warm` lets the server reuse cached
    /// prefixes; `cold` and `cache_salt` prevent that. Default: `warm`.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// A constant rate of requests per second (`/s`), minute (`/m`) or hour (`/h`), above 0 and up
    /// to 100000/s. The load never ends. Write exactly one of `rate`, `concurrency` and `schedule`.
    /// Example: `5/s`.
    pub rate: Field<Rate>,
    /// A constant number of requests in flight, from 1 to `max_concurrency`. The load never ends.
    /// Write exactly one of `rate`, `concurrency` and `schedule`. Example: `10`.
    pub concurrency: Field<Count>,
    /// The phases of one cycle, in the order in which llmload runs them. Write exactly one of
    /// `rate`, `concurrency` and `schedule`. Example: `[{constant: 5/s, for: 10m}]`.
    pub schedule: Field<FieldList<Phase>>,
    /// The parameters that all requests share. Default: the default of each key. Example:
    /// `{max_tokens: 128}`.
    pub request: Field<Request>,
    /// The distribution of the intervals between open-loop arrivals: `constant`, `poisson`, or
    /// `{burstiness: 0.5}` for a gamma distribution. The mean rate is the rate of the phase.
    /// Default: `constant`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// The event that starts the schedule: `when_ready`, `now`, `wall_clock`,
    /// `{wall_clock: {timezone: Europe/Berlin}}` or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    /// Default: `when_ready`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// The windows of time in which llmload sends requests: one window, or a list of 1 to 64
    /// windows. Default: no windows, so llmload sends at any time. Example:
    /// `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`.
    pub active: Field<Active>,
    /// The number of cycles of the `schedule`: `forever`, or a count from 1 to 4294967295. With a
    /// cron start, this number of cycles follows each cron firing. A count needs a `schedule`, and
    /// is not allowed with a start by the wall clock. Default: `forever`, or 1 with a cron start.
    pub repeat: Field<Repeat>,
    /// The number of warm-up requests, 0 to 10000. llmload sends them one at a time before the
    /// schedule starts, and no metric counts them. Default: 0.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// The highest number of requests in flight, 1 to 50000. While this number is in flight,
    /// llmload drops every further arrival. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// The answers that later turns of a session send back to the model: `live` for the answers
    /// that the model really gave, or `recorded` for those in the file of `conversations`. Default:
    /// `live`.
    #[schemars(extend("default" = "live"))]
    pub history: Field<History>,
    /// The highest number of sessions in progress, 1 to 1000000. While this number is in progress,
    /// llmload starts no further session. Default: `max_concurrency`.
    pub max_sessions: Field<Count>,
    /// The highest length of the texts that the sessions in progress have exchanged so far, 1MiB to
    /// 1TiB. A session that would exceed it ends early. Default: 256MiB.
    #[schemars(extend("default" = "256MiB"))]
    pub max_history: Field<Size>,
    /// The header with the id of the session, for example for a router that sends all turns of a
    /// session to the same server. Default: no header. Example: `x-session-id`.
    pub session_header: Field<String>,
    /// The longest delay of an arrival, 1ms to 1h. llmload drops an arrival with a longer delay,
    /// because many late arrivals would form a burst. Default: 500ms.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// The breaker, which stops the load while most requests fail. Default: no breaker. Example:
    /// `{failures: 50%, over: 60s, pause: 60s}`.
    pub breaker: Field<Breaker>,
    /// The service level objectives. The metrics whose names begin with `llmload_slo_` count the
    /// requests for each objective, and the objectives decide the exit code of `llmload run`.
    /// Default: no objectives. Example: `{ttft: {p99: 1s}, success_rate: 99%}`.
    pub slo: Field<Slo>,
    /// The budgets: the most that the requests of the scenario can use in an hour, a day or a
    /// month. All its targets share them. llmload drops an arrival that would exceed a budget.
    /// Default: no budgets. Example: `[{per: hour, requests: 20000}, {per: day, tokens: 50M}]`.
    pub budgets: Field<FieldList<Budget>>,
    /// The archive of failed requests that the daemon keeps on disk. `llmload run` ignores this
    /// key; with `--report`, a run writes `failures.jsonl` beside its report. Default: no archive.
    /// Example: `{dir: failures}`.
    pub failures: Field<Failures>,
    /// The resources of the machine of llmload that become metrics. Default: none. Example:
    /// `{host: true, gpu: true}`.
    pub resources: Field<Resources>,
    /// The folder in which llmload saves the spending of the budgets, relative to the configuration
    /// file. llmload creates it. Each daemon needs a separate folder. Default: no folder, so the
    /// budgets start again at 0 after a restart. Example: `state`.
    pub state_dir: Field<String>,
    /// The limits of the size of the metrics: the highest number of routes, and the buckets of the
    /// histograms. A route is one scenario on one target. Default: the default of each key.
    pub metrics: Field<Metrics>,
}

/// The long form of the file: named targets, sources of prompts and scenarios. The short form has
/// one target and one scenario.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["targets", "scenarios"]))]
pub struct LongForm {
    /// The seed of all random choices: a whole number of 0 or more. Two runs with the same seed and
    /// the same schedule send the same prompts at the same times. Default: 0.
    #[schemars(extend("default" = 0))]
    pub seed: Field<Count>,
    /// The targets, each under a name. A name has 1 to 63 letters, digits, `.`, `_` and `-`.
    /// Required. Example: `{staging: {base_url: http://localhost:8000/v1}}`.
    pub targets: Field<FieldMap<Target>>,
    /// The sources of prompts, each under a name. A name has 1 to 63 letters, digits, `.`, `_` and
    /// `-`. Default: the source that is built into llmload. Example:
    /// `{short: {lines: prompts/short.txt}}`.
    pub prompts: Field<FieldMap<Source>>,
    /// The scenarios, each under a name. A name has 1 to 63 letters, digits, `.`, `_` and `-`.
    /// Required. Example: `{baseline: {target: staging, rate: 5/s}}`.
    pub scenarios: Field<FieldMap<Scenario>>,
    /// The archive of failed requests that the daemon keeps on disk. `llmload run` ignores this
    /// key; with `--report`, a run writes `failures.jsonl` beside its report. Default: no archive.
    /// Example: `{dir: failures}`.
    pub failures: Field<Failures>,
    /// The resources of the machine of llmload that become metrics. Default: none. Example:
    /// `{host: true, gpu: true}`.
    pub resources: Field<Resources>,
    /// The folder in which llmload saves the spending of the budgets, relative to the configuration
    /// file. llmload creates it. Each daemon needs a separate folder. Default: no folder, so the
    /// budgets start again at 0 after a restart. Example: `state`.
    pub state_dir: Field<String>,
    /// The limits of the size of the metrics: the highest number of routes, and the buckets of the
    /// histograms. A route is one scenario on one target. Default: the default of each key.
    pub metrics: Field<Metrics>,
}

/// The two forms of a file, for the schema. The loader chooses the form from the keys of the file,
/// so its messages are about one form only.
#[derive(JsonSchema)]
#[schemars(
    untagged,
    title = "llmload configuration",
    description = "The configuration of llmload: the short form with one target and one scenario, or the long form with any number of targets, sources of prompts and scenarios, each with a name."
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
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "ShortTarget", untagged, inline)]
pub enum ShortTarget {
    /// The base URL of the target.
    Text(String),
    /// The keys of the target.
    Map(Box<Target>),
}

/// The behaviour of a simulated endpoint, which runs inside llmload.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Simulator {
    /// The name of the only model that the simulator serves. Default: `simulated-8b`.
    #[schemars(extend("default" = "simulated-8b"))]
    pub model: Field<String>,
    /// The number of requests that the simulator processes at the same time, 1 to 10000. Further
    /// requests wait in the queue. Default: 16.
    #[schemars(extend("default" = 16))]
    pub slots: Field<Count>,
    /// The highest number of requests that wait for a slot, 0 to 1000000. When the queue is full, a
    /// new request gets status 503. Default: 256.
    #[schemars(extend("default" = 256))]
    pub queue: Field<Count>,
    /// The speed at which one slot reads a prompt, in tokens per second, 0.001 to 1000000000.
    /// Default: 4000.
    #[schemars(extend("default" = 4000))]
    pub prefill_tokens_per_second: Field<Number>,
    /// The speed at which one request produces output while all other slots are idle, in tokens per
    /// second, 0.001 to 1000000000. Default: 60.
    #[schemars(extend("default" = 60))]
    pub decode_tokens_per_second: Field<Number>,
    /// The output speed of each request when every slot is busy, as a percentage of
    /// `decode_tokens_per_second`: above 0%, and at most 100%. Default: 50%.
    #[schemars(extend("default" = 0.5))]
    pub full_load_speed: Field<Ratio>,
    /// The standard deviation of each delay of the simulator, as a percentage of the delay, 0% to
    /// 100%. Default: 10%.
    #[schemars(extend("default" = 0.1))]
    pub jitter: Field<Ratio>,
    /// The number of reasoning tokens that the simulator sends before the text of each response, 0
    /// to 100000. Default: 0.
    #[schemars(extend("default" = 0))]
    pub reasoning_tokens: Field<Count>,
    /// The number of tokens that the prefix cache of the simulator holds, 0 to 100000000. Cached
    /// tokens of a prompt need no time, and the usage of the response reports them. The cache holds
    /// blocks of 16 tokens. With 0, there is no cache. Default: 0. Example: `500000`.
    #[schemars(extend("default" = 0))]
    pub prefix_cache_tokens: Field<Count>,
    /// The time after the start of the simulator, 0s to 24h, during which each request gets status
    /// 503. A server that loads its model also sends this status. Default: 0s.
    #[schemars(extend("default" = "0s"))]
    pub loading: Field<Span>,
    /// The simulated faults, each with the percentage of requests that it affects. The percentages
    /// add up to at most 100%. Default: no faults. Example: `{http_429: 1%, stall: 0.5%}`.
    pub faults: Field<Faults>,
}

/// The simulated faults, each with the percentage of requests that it affects.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Faults {
    /// The percentage of requests that immediately get status 429 with a `retry-after` header, 0%
    /// to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub http_429: Field<Ratio>,
    /// The percentage of requests that immediately get status 500, 0% to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub http_500: Field<Ratio>,
    /// The percentage of requests for which the simulator resets the connection 200 ms after the
    /// request and before the response head, 0% to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub reset: Field<Ratio>,
    /// The percentage of responses that stop after a few tokens while the connection stays open, 0%
    /// to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub stall: Field<Ratio>,
    /// The percentage of responses that have status 200 but send an error object after a few tokens
    /// of the stream, 0% to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub stream_error: Field<Ratio>,
    /// The percentage of responses for which the simulator closes the connection in the middle of
    /// the stream, 0% to 100%. Default: 0%.
    #[schemars(extend("default" = 0))]
    pub truncation: Field<Ratio>,
}

/// A named load on one or several targets, with exactly one of `schedule`, `rate` and
/// `concurrency`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// The name of the target that receives the requests. Default: the only target of the file.
    pub target: Field<String>,
    /// The names of several targets, instead of `target`. Each target receives the same prompts at
    /// the same times. Comparisons use the first target as the baseline target. Example:
    /// `[staging, canary]`.
    pub targets: Field<FieldList<String>>,
    /// The prompts of the requests: the name of a source, `builtin` for the source that is built
    /// into llmload, or a list of texts. Default: the only source of the file, or `builtin` if the
    /// file defines no source.
    pub prompts: Field<ScenarioPrompts>,
    /// The order in which llmload takes the prompts from their source: `sequential` or `random`.
    /// Default: the order that the source itself sets.
    pub order: Field<PromptOrder>,
    /// The treatment of the prefix cache of the server. `warm` lets the server reuse cached
    /// prefixes; `cold` and `cache_salt` prevent that. Default: `warm`.
    #[schemars(extend("default" = "warm"))]
    pub prefix_cache: Field<PrefixCache>,
    /// The parameters that all requests share. Default: the default of each key. Example:
    /// `{max_tokens: 128}`.
    pub request: Field<Request>,
    /// The distribution of the intervals between open-loop arrivals: `constant`, `poisson`, or
    /// `{burstiness: 0.5}` for a gamma distribution. The mean rate is the rate of the phase.
    /// Default: `constant`.
    #[schemars(extend("default" = "constant"))]
    pub arrivals: Field<Arrivals>,
    /// The event that starts the schedule: `when_ready`, `now`, `wall_clock`,
    /// `{wall_clock: {timezone: Europe/Berlin}}` or `{cron: "0 2 * * *", timezone: Asia/Shanghai}`.
    /// Default: `when_ready`.
    #[schemars(extend("default" = "when_ready"))]
    pub start: Field<Start>,
    /// The name of another scenario. This scenario starts when the other scenario has ended: its
    /// schedule, and its requests in flight. The other scenario needs a `repeat` with a count.
    /// Default: no other scenario. Example: `baseline`.
    pub after: Field<String>,
    /// The windows of time in which llmload sends requests: one window, or a list of 1 to 64
    /// windows. Default: no windows, so llmload sends at any time. Example:
    /// `{days: mon-fri, hours: "08:00-20:00", timezone: Europe/Berlin}`.
    pub active: Field<Active>,
    /// The number of cycles of the `schedule`: `forever`, or a count from 1 to 4294967295. With a
    /// cron start, this number of cycles follows each cron firing. A count needs a `schedule`, and
    /// is not allowed with a start by the wall clock. Default: `forever`, or 1 with a cron start.
    pub repeat: Field<Repeat>,
    /// The phases of one cycle, in the order in which llmload runs them. Write exactly one of
    /// `rate`, `concurrency` and `schedule`. Example: `[{constant: 5/s, for: 10m}]`.
    pub schedule: Field<FieldList<Phase>>,
    /// A constant rate of requests per second (`/s`), minute (`/m`) or hour (`/h`), above 0 and up
    /// to 100000/s. The load never ends, and has the same effect as a schedule with one phase of an
    /// hour that repeats forever. Write exactly one of `rate`, `concurrency` and `schedule`.
    /// Example: `5/s`.
    pub rate: Field<Rate>,
    /// A constant number of requests in flight, from 1 to `max_concurrency`. The load never ends,
    /// and has the same effect as a schedule with one phase of an hour that repeats forever. Write
    /// exactly one of `rate`, `concurrency` and `schedule`. Example: `10`.
    pub concurrency: Field<Count>,
    /// The number of warm-up requests, 0 to 10000. llmload sends them one at a time before the
    /// schedule starts, and no metric counts them. Default: 0.
    #[schemars(extend("default" = 0))]
    pub warmup: Field<Count>,
    /// The highest number of requests in flight, 1 to 50000. While this number is in flight,
    /// llmload drops every further arrival. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_concurrency: Field<Count>,
    /// The answers that later turns of a session send back to the model: `live` for the answers
    /// that the model really gave, or `recorded` for those in the file of `conversations`. Default:
    /// `live`.
    #[schemars(extend("default" = "live"))]
    pub history: Field<History>,
    /// The highest number of sessions in progress, 1 to 1000000. While this number is in progress,
    /// llmload starts no further session. Default: `max_concurrency`.
    pub max_sessions: Field<Count>,
    /// The highest length of the texts that the sessions in progress have exchanged so far, 1MiB to
    /// 1TiB. A session that would exceed it ends early. Default: 256MiB.
    #[schemars(extend("default" = "256MiB"))]
    pub max_history: Field<Size>,
    /// The header with the id of the session, for example for a router that sends all turns of a
    /// session to the same server. Default: no header. Example: `x-session-id`.
    pub session_header: Field<String>,
    /// The longest delay of an arrival, 1ms to 1h. llmload drops an arrival with a longer delay,
    /// because many late arrivals would form a burst. Default: 500ms.
    #[schemars(extend("default" = "500ms"))]
    pub max_lag: Field<Span>,
    /// The breaker, which stops the load while most requests fail. Default: no breaker. Example:
    /// `{failures: 50%, over: 60s, pause: 60s}`.
    pub breaker: Field<Breaker>,
    /// The service level objectives. The metrics whose names begin with `llmload_slo_` count the
    /// requests for each objective, and the objectives decide the exit code of `llmload run`.
    /// Default: no objectives. Example: `{ttft: {p99: 1s}, success_rate: 99%}`.
    pub slo: Field<Slo>,
    /// The budgets: the most that the requests of the scenario can use in an hour, a day or a
    /// month. All its targets share them. llmload drops an arrival that would exceed a budget.
    /// Default: no budgets. Example: `[{per: hour, requests: 20000}, {per: day, tokens: 50M}]`.
    pub budgets: Field<FieldList<Budget>>,
}

/// The parameters that all requests of a scenario share.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Request {
    /// The highest number of output tokens of one response, 1 to 10000000. llmload always sends
    /// this limit. Default: 256.
    #[schemars(extend("default" = 256))]
    pub max_tokens: Field<Count>,
    /// The sampling temperature, 0 to 2. Default: llmload sends none, so the endpoint uses its own
    /// default.
    pub temperature: Field<Number>,
    /// The system message that llmload sends before each prompt. Default: no system message.
    pub system: Field<String>,
    /// `true` if the endpoint should stream its responses. With `false` a response arrives in one
    /// piece, so llmload cannot measure the time to first token. Default: true.
    #[schemars(extend("default" = true))]
    pub stream: Field<bool>,
    /// Further fields of the request body, which llmload sends unchanged. Default: no further
    /// fields. Example: `{top_p: 0.9}`.
    pub extra: Field<FieldMap<serde_json::Value>>,
}
