//! The series that count the requests that met each objective of an `slo`.

use std::sync::Arc;

use prometheus::{Gauge, IntCounter};

use super::series::{LazyGauge, Registrar, SeriesSet, SeriesVec, metric_structs};
use super::{Labels, table};
use crate::event::Arrival;
use crate::measurement::Measurement;
use crate::slo::{Objective, Slo};

metric_structs! {
    PerObjectiveFamilies,
    PerObjectiveMetrics {
        requests: IntCounter = SLO_REQUESTS;
        violations: IntCounter = SLO_VIOLATIONS;
        threshold: LazyGauge = SLO_THRESHOLD;
        objective: Gauge = SLO_OBJECTIVE;
    }
}

#[derive(Debug)]
pub(super) struct ObjectiveFamilies {
    per_objective: PerObjectiveFamilies,
    good: SeriesVec<IntCounter>,
}

impl ObjectiveFamilies {
    pub(super) fn register(registrar: &Registrar<'_>) -> prometheus::Result<ObjectiveFamilies> {
        Ok(ObjectiveFamilies {
            per_objective: PerObjectiveFamilies::register(registrar)?,
            good: registrar.register(&table::SLO_GOOD_REQUESTS)?,
        })
    }

    pub(super) fn bind(
        &self,
        labels: &Labels,
        slo: Arc<Slo>,
        searches: Vec<usize>,
        series: &mut SeriesSet,
    ) -> Objectives {
        let [target, model, scenario] = labels.values();
        let bind = |objective: &Objective| {
            let labels = [target, model, scenario, &objective.to_string()];
            let metrics = self.per_objective.bind(&labels, series);
            metrics.objective.set(objective.share.as_f64());
            if let Some(threshold) = objective.threshold() {
                metrics.threshold.set(threshold.as_secs_f64());
            }
            metrics
        };
        let metrics = slo.objectives.iter().map(bind).collect();
        Objectives { metrics, good: series.add(&self.good, &labels.values()), slo, searches }
    }
}

#[derive(Debug)]
pub(super) struct Objectives {
    slo: Arc<Slo>,
    /// In the order of the objectives in the `slo`.
    metrics: Vec<PerObjectiveMetrics>,
    good: IntCounter,
    /// The indexes of the phases whose requests are not judged.
    searches: Vec<usize>,
}

impl Objectives {
    /// Judges a finished request. `measurement` is `None` if it failed.
    pub(super) fn finished(&self, arrival: &Arrival, measurement: Option<&Measurement>) {
        if arrival.phase.is_some_and(|phase| self.searches.contains(&phase)) {
            return;
        }
        let mut good = measurement.is_some();
        for (series, met) in self.metrics.iter().zip(self.slo.judge(measurement)) {
            let Some(met) = met else { continue };
            series.requests.inc();
            if !met {
                series.violations.inc();
                good = false;
            }
        }
        if good {
            self.good.inc();
        }
    }
}
