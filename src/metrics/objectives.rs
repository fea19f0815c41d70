//! The series of the objectives of a scenario; a scenario without an `slo` has none.

use std::sync::Arc;

use prometheus::{Gauge, IntCounter};

use super::series::{LateGauge, Registrar, SeriesSet, SeriesVec, handles};
use super::{Labels, table};
use crate::measurement::Measurement;
use crate::slo::{Objective, Slo};

handles! {
    PerObjectiveFamilies,
    /// The series of one objective.
    PerObjectiveHandles {
        requests: IntCounter = SLO_REQUESTS;
        violations: IntCounter = SLO_VIOLATIONS;
        threshold: LateGauge = SLO_THRESHOLD;
        share: Gauge = SLO_OBJECTIVE;
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
        series: &mut SeriesSet,
    ) -> Objectives {
        let [target, model, scenario] = labels.values();
        let bind = |objective: &Objective| {
            let labels = [target, model, scenario, &objective.to_string()];
            let handles = self.per_objective.bind(&labels, series);
            handles.share.set(objective.share.as_f64());
            if let Some(threshold) = objective.threshold() {
                handles.threshold.set(threshold.as_secs_f64());
            }
            handles
        };
        let handles = slo.objectives.iter().map(bind).collect();
        Objectives { handles, good: series.hold(&self.good, &labels.values()), slo }
    }
}

/// The objectives of one route.
#[derive(Debug)]
pub(super) struct Objectives {
    slo: Arc<Slo>,
    /// In the order of the `slo`.
    handles: Vec<PerObjectiveHandles>,
    good: IntCounter,
}

impl Objectives {
    /// Judges a request that succeeded with this measurement, or failed.
    pub(super) fn finished(&self, measurement: Option<&Measurement>) {
        let mut good = measurement.is_some();
        for (series, met) in self.handles.iter().zip(self.slo.judge(measurement)) {
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
