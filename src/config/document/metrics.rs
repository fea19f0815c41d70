//! The keys of `metrics`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::buckets::HISTOGRAMS;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::{Count, Number};

/// The size of the exposition: the limit of routes, and the buckets of histograms.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// The highest number of routes, which are the pairs of scenario and target, 1 to 1024. Each
    /// route adds some 300 series to every scrape. Default: 32.
    #[schemars(extend("default" = 32))]
    pub max_combinations: Field<Count>,
    /// The upper bounds of the buckets of histograms, by the name of the histogram without
    /// `llmload_`: 1 to 60 rising numbers above 0. llmload adds `+Inf`. A reload cannot change
    /// them. Example: `{time_to_first_token_seconds: [0.1, 0.5, 1, 5]}`.
    #[schemars(extend("propertyNames" = serde_json::json!({ "enum": names() })))]
    pub buckets: Field<FieldMap<FieldList<Number>>>,
}

fn names() -> Vec<&'static str> {
    HISTOGRAMS.iter().map(|(name, _)| *name).collect()
}
