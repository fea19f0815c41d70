//! Service level objectives, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{Ratio, Span};

/// The objectives of a scenario: thresholds by percentile for each measure. `{p99: 1s}` means that
/// 99 % of the finished requests must take at most a second. A failed request misses every
/// threshold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Slo {
    /// Thresholds of the time from sending to the first token. Example: `{p50: 300ms, p99: 1s}`.
    pub ttft: Field<FieldMap<Span>>,
    /// Thresholds of the time per output token after the first. Example: `{p99: 50ms}`.
    pub tpot: Field<FieldMap<Span>>,
    /// Thresholds of the time from sending to the end of the response. Example: `{p95: 30s}`.
    pub e2e_latency: Field<FieldMap<Span>>,
    /// The share of the finished requests that must succeed, above 0%. Example: `99%`.
    pub success_rate: Field<Ratio>,
}
