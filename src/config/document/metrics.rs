//! The keys of `metrics`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::buckets::HISTOGRAMS;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::{Count, Number};

/// What the exposition holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    /// The most streams of load, target × scenario, 1 to 1024: each is a set of histograms of its own,
    /// some 300 series, in every scrape.
    #[schemars(extend("default" = 32))]
    pub max_combinations: Field<Count>,
    /// Other upper bounds for histograms, by name without `llmload_`: rising numbers above 0, at most
    /// 60. The one beyond all of them, `+Inf`, is always there. A reload cannot change them.
    #[schemars(extend("propertyNames" = serde_json::json!({ "enum": names() })))]
    pub buckets: Field<FieldMap<FieldList<Number>>>,
}

fn names() -> Vec<&'static str> {
    HISTOGRAMS.iter().map(|(name, _)| *name).collect()
}
