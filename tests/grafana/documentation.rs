//! Generates `docs/metrics.md` from the table of metrics.

use llmload::measurement::{Anomaly, Failure};
use llmload::metrics::table::{Family, Kind};

use crate::shipped::assert_committed;
use crate::vocabulary::families;

const OPENING: &str = "# Metrics

The metrics of `GET /metrics`. This page is generated from `src/metrics/table.rs` by
`UPDATE_EXPECTED=1 cargo test --test grafana`. Names, labels and types are part of the interface.

The labels `target` and `scenario` are names in the configuration. `model` is from the configuration
too, or from the target's list of models. A route is one scenario on one target. The series of a
route exist with the value 0 before its first request, so `rate()` does not miss the first event. If
a reload removes a route, llmload no longer exposes its series.

";

fn kind(family: &Family) -> &'static str {
    match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

fn coded<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| format!("`{}`", word.to_string())).collect::<Vec<_>>().join(" ")
}

#[test]
fn docs_metrics_md_is_generated_from_the_table_of_metrics() {
    let mut page = OPENING.to_owned();
    page += "| name | type | labels | meaning |\n|---|---|---|---|\n";
    for family in families() {
        let labels = coded(family.labels);
        page += &format!("| `{}` | {} | {labels} | {} |\n", family.name, kind(family), family.help);
    }
    page += "\n## Values of labels\n\n| metric | label | values |\n|---|---|---|\n";
    for family in families() {
        for label in family.labels {
            if let Some(values) = family.values(label) {
                page += &format!("| `{}` | `{label}` | {} |\n", family.name, coded(values));
            }
        }
    }
    page += "\n## Failures\n\n| reason | blame | meaning |\n|---|---|---|\n";
    for failure in Failure::ALL {
        let meaning = failure.meaning().trim();
        page += &format!("| `{}` | {} | {meaning} |\n", failure.as_str(), failure.blame().as_str());
    }
    page += "\n## Anomalies\n\nA success can deviate from the protocol in these ways.\n\n";
    page += "| kind | meaning |\n|---|---|\n";
    for anomaly in Anomaly::ALL {
        page += &format!("| `{}` | {} |\n", anomaly.as_str(), anomaly.meaning().trim());
    }
    page += "\n## Buckets\n\nThe upper bounds of the buckets. Values above the last bound are counted in the bucket `+Inf`.\n\n";
    page += "| metric | buckets |\n|---|---|\n";
    for family in families() {
        if let Kind::Histogram(buckets) = family.kind {
            let bounds: Vec<String> = buckets.iter().map(ToString::to_string).collect();
            page += &format!("| `{}` | {} |\n", family.name, bounds.join(" "));
        }
    }
    assert_committed("docs/metrics.md", &page);
}
