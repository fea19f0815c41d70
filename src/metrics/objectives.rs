//! The series of service level objectives: they exist where a scenario of the file has some.

use std::sync::Arc;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, Registry};

use super::{Labels, counter, gauge, table};
use crate::measurement::Measurement;
use crate::slo::Slo;

/// The families.
#[derive(Debug)]
pub(super) struct Families {
    requests: IntCounterVec,
    violations: IntCounterVec,
    good: IntCounterVec,
    threshold: GaugeVec,
    objective: GaugeVec,
}

impl Families {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Families> {
        Ok(Families {
            requests: counter(registry, &table::SLO_REQUESTS)?,
            violations: counter(registry, &table::SLO_VIOLATIONS)?,
            good: counter(registry, &table::SLO_GOOD_REQUESTS)?,
            threshold: gauge(registry, &table::SLO_THRESHOLD)?,
            objective: gauge(registry, &table::SLO_OBJECTIVE)?,
        })
    }

    pub(super) fn bind(&self, labels: &Labels, slo: Arc<Slo>) -> Objectives {
        let [target, model, scenario] = labels.values();
        let tried = slo.objectives.iter().map(|objective| {
            let name = objective.to_string();
            let labels = [target, model, scenario, &name];
            self.objective.with_label_values(&labels).set(objective.share.as_f64());
            if let Some(threshold) = objective.threshold() {
                self.threshold.with_label_values(&labels).set(threshold.as_secs_f64());
            }
            (self.requests.with_label_values(&labels), self.violations.with_label_values(&labels))
        });
        Objectives {
            tried: tried.collect(),
            good: self.good.with_label_values(&[target, model, scenario]),
            slo,
        }
    }

    /// Ends the series of objectives, but for those that stay.
    pub(super) fn unbind(&self, labels: &Labels, slo: Option<&Slo>, stay: Option<&Slo>) {
        let Some(slo) = slo else { return };
        let [target, model, scenario] = labels.values();
        let stay: Vec<String> =
            stay.iter().flat_map(|slo| &slo.objectives).map(ToString::to_string).collect();
        // Whatever is not there need not go.
        for name in
            slo.objectives.iter().map(ToString::to_string).filter(|name| !stay.contains(name))
        {
            let labels = [target, model, scenario, &name];
            let _gone = self.requests.remove_label_values(&labels);
            let _gone = self.violations.remove_label_values(&labels);
            let _gone = self.threshold.remove_label_values(&labels);
            let _gone = self.objective.remove_label_values(&labels);
        }
        if stay.is_empty() {
            let _gone = self.good.remove_label_values(&[target, model, scenario]);
        }
    }
}

/// The handles of one stream of load.
#[derive(Debug)]
pub(super) struct Objectives {
    slo: Arc<Slo>,
    /// Of each objective: those held against it, and those that missed it.
    tried: Vec<(IntCounter, IntCounter)>,
    good: IntCounter,
}

impl Objectives {
    /// A request finished, so or with a failure.
    pub(super) fn finished(&self, measurement: Option<&Measurement>) {
        let mut good = measurement.is_some();
        for ((requests, violations), met) in self.tried.iter().zip(self.slo.judge(measurement)) {
            let Some(met) = met else { continue };
            requests.inc();
            if !met {
                violations.inc();
                good = false;
            }
        }
        if good {
            self.good.inc();
        }
    }
}
