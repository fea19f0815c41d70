//! The samples of one scrape, and their conversion to the types of the crate `prometheus`.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::table::{Family, Kind};

/// Returns the descriptions that a collector needs for its registration.
pub(super) fn describe(families: &[&Family]) -> prometheus::Result<Arc<[Desc]>> {
    let describe = |family: &&Family| {
        let labels = family.labels.iter().map(ToString::to_string).collect();
        Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
    };
    families.iter().map(describe).collect()
}

/// The counters and gauges of one scrape. A family without a sample is not exposed.
pub(super) struct Samples<'a> {
    families: &'a [&'a Family],
    metrics: Vec<Vec<Metric>>,
}

impl<'a> Samples<'a> {
    pub(super) fn new(families: &'a [&'a Family]) -> Samples<'a> {
        Samples { families, metrics: vec![Vec::new(); families.len()] }
    }

    pub(super) fn add(&mut self, family: &Family, label_values: &[&str], value: f64) {
        let Some(position) = self.families.iter().position(|f| f.name == family.name) else {
            return;
        };
        let labels = family.labels.iter().zip(label_values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut labels: Vec<LabelPair> = labels.collect();
        labels.sort();
        let mut metric = Metric::from_label(labels);
        if family.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics[position].push(metric);
    }

    pub(super) fn into_families(self) -> Vec<MetricFamily> {
        let all = self.families.iter().zip(self.metrics);
        all.filter(|(_, metrics)| !metrics.is_empty())
            .map(|(family, metrics)| {
                let kind = if family.kind == Kind::Counter {
                    MetricType::COUNTER
                } else {
                    MetricType::GAUGE
                };
                let mut out = MetricFamily::default();
                out.set_name(family.name.to_owned());
                out.set_help(family.help.to_owned());
                out.set_field_type(kind);
                out.set_metric(metrics);
                out
            })
            .collect()
    }
}
