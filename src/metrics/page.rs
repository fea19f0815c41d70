//! Samples that are read at the scrape, on their way to being families.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::Desc;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::table::{Family, Kind};

/// What a collector of these families says of them before it has collected any.
pub(super) fn describe(families: &[&Family]) -> prometheus::Result<Arc<[Desc]>> {
    let describe = |family: &&Family| {
        let labels = family.labels.iter().map(ToString::to_string).collect();
        Desc::new(family.name.to_owned(), family.help.to_owned(), labels, HashMap::new())
    };
    families.iter().map(describe).collect()
}

/// Counters and gauges of one scrape; a family without any is left out.
pub(super) struct Page<'a> {
    families: &'a [&'a Family],
    metrics: Vec<Vec<Metric>>,
}

impl<'a> Page<'a> {
    pub(super) fn of(families: &'a [&'a Family]) -> Page<'a> {
        Page { families, metrics: vec![Vec::new(); families.len()] }
    }

    pub(super) fn add(&mut self, family: &Family, values: &[&str], value: f64) {
        let Some(position) = self.families.iter().position(|f| f.name == family.name) else {
            return;
        };
        let labels = family.labels.iter().zip(values).map(|(name, value)| {
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

    pub(super) fn families(self) -> Vec<MetricFamily> {
        let filled =
            self.families.iter().zip(self.metrics).filter(|(_, metrics)| !metrics.is_empty());
        filled
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
