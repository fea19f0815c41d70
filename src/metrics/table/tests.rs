//! Tests of the table of metrics.

use super::*;
use crate::buckets::HISTOGRAMS;

#[test]
fn every_histogram_of_the_table_is_configurable() {
    let families = ALL.iter().filter_map(|family| match family.kind {
        Histogram(bounds) => Some((family.short_name(), bounds)),
        Counter | Gauge => None,
    });
    assert_eq!(families.collect::<Vec<_>>(), HISTOGRAMS);
}

#[test]
fn the_table_follows_the_rules_of_prometheus() {
    for family in ALL.iter().chain(PROCESS) {
        if let Histogram(buckets) = family.kind {
            assert!(buckets.is_sorted_by(|a, b| a < b), "{}", family.name);
        }
        for label in family.labels {
            let reserved =
                ["job", "instance", "service", "namespace", "pod", "container", "endpoint", "le"];
            assert!(!reserved.contains(label), "{}: {label}", family.name);
        }
        assert_eq!(family.kind == Counter, family.name.ends_with("_total"), "{}", family.name);
        assert!(family.help.ends_with('.') || family.help.ends_with(")."), "{}", family.name);
    }
}
