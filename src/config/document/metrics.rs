//! The keys of `metrics`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::buckets::HISTOGRAMS;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::{Count, Number};

/// The limits of the size of the metrics: the highest number of routes, and the buckets of the
/// histograms.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// The highest number of routes, 1 to 1024. A route is one scenario on one target. Each route
    /// adds some hundred series to every scrape; `llmload check` prints their number. Default: 32.
    #[schemars(extend("default" = 32))]
    pub max_combinations: Field<Count>,
    /// The upper bounds of the buckets of a histogram, under the name of the histogram without
    /// `llmload_`. A histogram has 1 to 60 bounds above 0 in rising order, and llmload adds `+Inf`.
    /// A reload cannot change the bounds. Default: bounds that suit each histogram. Example:
    /// `{time_to_first_token_seconds: [0.1, 0.5, 1, 5]}`.
    #[schemars(extend("propertyNames" = serde_json::json!({ "enum": names() })))]
    pub buckets: Field<FieldMap<FieldList<Number>>>,
}

fn names() -> Vec<&'static str> {
    HISTOGRAMS.iter().map(|(name, _)| *name).collect()
}
