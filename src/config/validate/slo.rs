//! Validates the service level objectives of a scenario or of a phase.

use std::time::Duration;

use super::Validator;
use crate::config::document;
use crate::config::field::{Field, FieldMap, Located};
use crate::config::scalar::Span;
use crate::config::tree::{NodeId, excerpt};
use crate::slo::{Criterion, LatencyMetric, Objective, Share, Slo};

/// The form of the responses of a scenario, which determines the times that they have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseForm {
    Stream,
    /// Text in one piece.
    Unstreamed,
    /// No text.
    Vectors,
}

impl Validator<'_> {
    /// Returns `None` for a mistake, and `Some(None)` without objectives.
    #[allow(clippy::option_option)]
    pub(super) fn slo(
        &self,
        field: &Field<document::Slo>,
        form: ResponseForm,
    ) -> Option<Option<Slo>> {
        let Located { node, value: keys } = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let mut objectives = Vec::new();
        for measure in LatencyMetric::ALL {
            let thresholds = match measure {
                LatencyMetric::Ttft => &keys.ttft,
                LatencyMetric::Tpot => &keys.tpot,
                LatencyMetric::E2eLatency => &keys.e2e_latency,
            };
            let Some(located) = thresholds.present() else { continue };
            match form {
                _ if measure == LatencyMetric::E2eLatency => {}
                ResponseForm::Stream => {}
                ResponseForm::Unstreamed => self.problem(
                    located.node,
                    "llmload cannot measure the times of single tokens with `stream: false`",
                    "remove the objective, or write `stream: true`",
                ),
                ResponseForm::Vectors => self.problem(
                    located.node,
                    "a response of `/embeddings` has no tokens",
                    "remove the objective, or write `e2e_latency`",
                ),
            }
            self.thresholds(measure, located, &mut objectives);
        }
        if let Some(Located { node, value }) = keys.success_rate.present() {
            match Share::new(value.0) {
                Some(share) => objectives.push(Objective { criterion: Criterion::Success, share }),
                None => self.problem(
                    *node,
                    "every run reaches a success rate of 0%",
                    "write a rate above 0%, such as `99%`",
                ),
            }
        }
        let fields = [&keys.ttft, &keys.tpot, &keys.e2e_latency];
        if keys.success_rate.is_absent() && fields.iter().all(|field| field.is_absent()) {
            self.missing(
                *node,
                "`slo` has no objective",
                "write an objective such as `ttft: {p99: 1s}` or `success_rate: 99%`",
            );
        }
        let abort = keys.abort.present().is_some_and(|abort| abort.value);
        Some(Some(Slo { objectives, abort }))
    }

    /// Adds one objective for each threshold, in the order of the percentiles.
    fn thresholds(
        &self,
        measure: LatencyMetric,
        keys: &Located<FieldMap<Span>>,
        into: &mut Vec<Objective>,
    ) {
        if keys.value.0.is_empty() {
            let remedy = "write a threshold such as `{p99: 1s}`";
            self.problem(keys.node, "the map has no threshold", remedy);
        }
        let mut found = Vec::new();
        for (name, threshold) in &keys.value.0 {
            let (share, threshold) = (self.percentile(name.node, &name.value), threshold.present());
            let (Some(share), Some(threshold)) = (share, threshold) else { continue };
            if threshold.value.0 < Duration::from_micros(1) {
                self.problem(
                    threshold.node,
                    "no request is this fast",
                    "write a longer time, such as `1s`",
                );
                continue;
            }
            if found.iter().any(|objective: &Objective| objective.share == share) {
                self.problem(name.node, format!("p{share} appears twice"), "remove one of them");
            }
            found.push(Objective {
                criterion: Criterion::Latency(measure, threshold.value.0),
                share,
            });
        }
        found.sort_by_key(|objective| objective.share);
        into.extend(found);
    }

    fn percentile(&self, node: NodeId, name: &str) -> Option<Share> {
        let number = name.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
        let share = number
            .filter(|percent| *percent < 100.0)
            .and_then(|percent| Share::new(percent / 100.0));
        if share.is_none() {
            let message = format!("`{}` is not a percentile", excerpt(name));
            self.problem(node, message, "write a percentile such as `p50`, `p99` or `p99.9`");
        }
        share
    }
}
