//! Service level objectives, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{Ratio, Span};

/// The service level objectives of a scenario: thresholds for each latency, by percentile. For
/// example, `{p99: 1s}` means that at least 99% of the finished requests take at most one second. A
/// failed request misses every threshold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Slo {
    /// The thresholds of the time from the sending of a request to its first token. Each key is a
    /// percentile above 0 and below 100, such as `p99`. These thresholds need `stream: true`.
    /// Default: no thresholds. Example: `{p50: 300ms, p99: 1s}`.
    pub ttft: Field<FieldMap<Span>>,
    /// The thresholds of the mean time per output token after the first token. Each key is a
    /// percentile above 0 and below 100, such as `p99`. These thresholds need `stream: true`.
    /// Default: no thresholds. Example: `{p99: 50ms}`.
    pub tpot: Field<FieldMap<Span>>,
    /// The thresholds of the time from the sending of a request to the end of its response. Each
    /// key is a percentile above 0 and below 100, such as `p99`. Default: no thresholds. Example:
    /// `{p95: 30s}`.
    pub e2e_latency: Field<FieldMap<Span>>,
    /// The lowest allowed share of successful requests among the finished requests, above 0% and at
    /// most 100%. Default: no such objective. Example: `99%`.
    pub success_rate: Field<Ratio>,
    /// True if `llmload run` ends as soon as one of these objectives can no longer be met. For a
    /// phase with a known number of requests, this is the case after too many misses. A phase with
    /// `concurrency` and `for`, and a phase with random arrivals, have no known number of requests,
    /// so they are judged when they have ended. The daemon never ends because of an objective.
    /// Default: false.
    #[schemars(extend("default" = false))]
    pub abort: Field<bool>,
}
