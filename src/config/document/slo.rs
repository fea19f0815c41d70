//! Service level objectives as a file may write them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldMap};
use crate::config::scalar::{Ratio, Span};

/// What requests must meet: for each measure a threshold by percentile, such as `{p99: 1s}`: 99 % of the
/// requests that finish must stay within a second. One that failed misses every threshold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Slo {
    /// Time to the first token, from sending.
    pub ttft: Field<FieldMap<Span>>,
    /// Time per output token after the first.
    pub tpot: Field<FieldMap<Span>>,
    /// Time to the end of the answer, from sending.
    pub e2e_latency: Field<FieldMap<Span>>,
    /// The share of the requests that finish that must succeed, such as `99%`.
    pub success_rate: Field<Ratio>,
}
