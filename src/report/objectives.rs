//! The results of objectives: how many requests of a phase met each objective.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PhaseReport;
use crate::capacity;
use crate::check::numbers::{duration, exact_duration, integer, percent};
use crate::slo::{Criterion, LatencyMetric, Objective, ObjectiveCounts, Share, Slo};
use crate::tally::RawStatistics;

/// An objective, and the number of requests of a phase that met the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveResult {
    /// `ttft`, `tpot`, `e2e_latency` or `success_rate`.
    pub measure: String,
    /// The fraction of the judged requests that must meet the objective, from 0 to 1.
    pub share: f64,
    /// The highest latency that meets the objective. `None` for the success rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_seconds: Option<f64>,
    /// The measured value of the same quantile in seconds, or the measured success rate. `None` if
    /// so many requests failed that the quantile has no value.
    pub measured: Option<f64>,
    /// The number of judged requests. A finished request is judged if it has this measure, or if it
    /// failed.
    pub judged: u64,
    /// The number of requests that met the objective. A failed request never meets an objective.
    pub met: u64,
    pub passed: bool,
    /// False if chance can decide: the objective is met by so few requests that one miss was not
    /// possible, or it is missed, but the 95 % interval of the measured value contains the
    /// threshold.
    pub sure: bool,
}

/// Returns the results of all objectives for the requests that arrived in a phase.
pub(super) fn results(slo: &Slo, arrived: &RawStatistics) -> Vec<ObjectiveResult> {
    let results = slo.objectives.iter().zip(&arrived.objectives);
    results.map(|(objective, counts)| result(objective, *counts, arrived)).collect()
}

/// Returns the results of the same objectives for other requests.
pub(super) fn results_again(
    known: &[ObjectiveResult],
    arrived: &RawStatistics,
) -> Vec<ObjectiveResult> {
    let objectives = known.iter().zip(&arrived.objectives);
    let objectives = objectives.filter_map(|(known, counts)| Some((known.objective()?, counts)));
    objectives.map(|(objective, counts)| result(&objective, *counts, arrived)).collect()
}

#[allow(clippy::cast_precision_loss)]
fn result(
    objective: &Objective,
    counts: ObjectiveCounts,
    arrived: &RawStatistics,
) -> ObjectiveResult {
    let ObjectiveCounts { judged, met } = counts;
    let share = objective.share;
    let passed = judged > 0 && share.is_reached(met, judged);
    let measured = match objective.criterion {
        Criterion::Success => (judged > 0).then(|| met as f64 / judged as f64),
        Criterion::Latency(metric, threshold) => {
            let values = match metric {
                LatencyMetric::Ttft => &arrived.time_to_first_token,
                LatencyMetric::Tpot => &arrived.time_per_output_token,
                LatencyMetric::E2eLatency => &arrived.request_duration,
            };
            // A failed request counts as a latency without an end.
            let succeeded = judged.saturating_sub(arrived.failed());
            let rank = share.needed(judged);
            let rank = (rank <= succeeded).then(|| rank.min(values.count()));
            // The distribution rounds to a thousandth. The counts are exact, so they decide on
            // which side of the threshold the value is.
            let threshold = threshold.as_secs_f64();
            let on_its_side = |value: f64| {
                if passed { value.min(threshold) } else { value.max(threshold.next_up()) }
            };
            rank.and_then(|rank| values.at_rank(rank)).map(on_its_side)
        }
    };
    ObjectiveResult {
        measure: match objective.criterion {
            Criterion::Latency(metric, _) => metric.as_str(),
            Criterion::Success => "success_rate",
        }
        .to_owned(),
        share: share.as_f64(),
        threshold_seconds: objective.threshold().map(|threshold| threshold.as_secs_f64()),
        measured,
        judged,
        met,
        passed,
        sure: is_sure(share, judged, met),
    }
}

/// Returns false if chance can decide on which side of an objective this result is.
#[allow(clippy::cast_precision_loss)]
fn is_sure(share: Share, judged: u64, met: u64) -> bool {
    let required = share.as_f64();
    if judged == 0 || required >= 1.0 {
        return true;
    }
    if share.is_reached(met, judged) {
        return judged as f64 * (1.0 - required) >= 1.0;
    }
    // The quantile is above the threshold for certain exactly if the percentage of requests up to
    // the threshold is below the required percentage for certain.
    capacity::proves_miss(met, judged, required)
}

impl ObjectiveResult {
    /// Returns the objective. `None` if it has a value that no objective can have.
    fn objective(&self) -> Option<Objective> {
        let criterion = match self.threshold_seconds {
            Some(seconds) => {
                let mut metrics = LatencyMetric::ALL.into_iter();
                let metric = metrics.find(|metric| metric.as_str() == self.measure)?;
                Criterion::Latency(metric, Duration::try_from_secs_f64(seconds).ok()?)
            }
            None => Criterion::Success,
        };
        Some(Objective { criterion, share: Share::new(self.share)? })
    }

    /// The fewest requests of which one can miss an objective that is met. 0 if none can.
    pub(super) fn fewest_requests(&self) -> u64 {
        // Without rounding, 1 / (1 − 0.99) would be 99.99….
        let one_of = (1e6 / (1e6 - (self.share * 1e6).round())).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        if one_of.is_finite() { one_of as u64 } else { 0 }
    }

    /// Returns the measure and the quantile: `ttft p99`, `success_rate`.
    pub fn label(&self) -> String {
        match self.threshold_seconds {
            Some(_) => format!("{} {}", self.measure, self.quantile()),
            None => self.measure.clone(),
        }
    }

    /// Returns the quantile: `p99`.
    pub(super) fn quantile(&self) -> String {
        format!("p{}", self.share_percent())
    }

    /// Returns the threshold without rounding, as the file has it: `1.002 s`, `99 %`.
    pub fn threshold(&self) -> String {
        match self.threshold_seconds {
            Some(seconds) => exact_duration(seconds),
            None => format!("{} %", self.share_percent()),
        }
    }

    /// Returns the objective as text: `ttft p99 ≤ 1 s`.
    pub fn criterion(&self) -> String {
        let sign = if self.threshold_seconds.is_some() { '≤' } else { '≥' };
        format!("{} {sign} {}", self.label(), self.threshold())
    }

    /// Returns the measured value. It has more digits if it would otherwise look like the
    /// threshold.
    pub fn measured_text(&self) -> String {
        match (self.measured, self.threshold_seconds) {
            (None, _) => "–".to_owned(),
            (Some(rate), None) => percent(rate),
            (Some(seconds), Some(threshold)) => {
                let text = duration(seconds);
                let is_unclear = !self.passed && text == duration(threshold);
                if is_unclear { exact_duration(seconds) } else { text }
            }
        }
    }

    /// True if the objective is missed, but chance can explain it.
    pub(super) fn is_missed_by_chance(&self) -> bool {
        self.judged > 0 && !self.passed && !self.sure
    }

    /// Returns the reason why the objective was missed.
    pub(super) fn miss(&self, failed: u64) -> String {
        let chance = if self.is_missed_by_chance() { ", which chance can explain" } else { "" };
        format!("{}{chance}", self.certain_miss(failed))
    }

    fn certain_miss(&self, failed: u64) -> String {
        let (label, threshold) = (self.label(), self.threshold());
        let (met, judged) = (integer(self.met), integer(self.judged));
        let Some(threshold_seconds) = self.threshold_seconds else {
            let measured = self.measured_text();
            return format!(
                "{label} was {measured}, objective {threshold}: {met} of {judged} succeeded"
            );
        };
        let failed = match failed {
            0 => String::new(),
            1 => "; 1 failed request counts as a miss".to_owned(),
            _ => format!("; {} failed requests count as misses", integer(failed)),
        };
        let objective = format!("objective {threshold}: {met} of {judged} met it{failed}");
        match self.measured {
            Some(measured) if measured > threshold_seconds => {
                format!("{label} was {}, {objective}", self.measured_text())
            }
            _ => format!("{label}: too many requests failed, {objective}"),
        }
    }

    /// Returns true if the objective is missed even if every request that llmload planned, but did
    /// not send, had met it.
    pub(super) fn is_missed_for_certain(&self, phase: &PhaseReport, is_complete: bool) -> bool {
        let all =
            if is_complete { Some(phase.statistics.arrivals) } else { phase.planned_arrivals };
        let (Some(all), Some(share)) = (all, Share::new(self.share)) else { return false };
        let all = all.max(self.judged);
        self.judged - self.met > all - share.needed(all)
    }

    fn share_percent(&self) -> f64 {
        (self.share * 1e6).round() / 1e4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(threshold: f64, measured: f64) -> ObjectiveResult {
        ObjectiveResult {
            measure: "ttft".to_owned(),
            share: 0.99,
            threshold_seconds: Some(threshold),
            measured: Some(measured),
            judged: 559,
            met: 46,
            passed: false,
            sure: true,
        }
    }

    #[test]
    fn a_miss_names_the_measured_value_and_the_threshold_of_the_file() {
        assert_eq!(
            missed(1.0, 2.0213).miss(0),
            "ttft p99 was 2.02 s, objective 1 s: 46 of 559 met it"
        );
        assert_eq!(
            missed(1.002, 1.0034).miss(2),
            "ttft p99 was 1.0034 s, objective 1.002 s: 46 of 559 met it; 2 failed requests count \
             as misses"
        );
        let failed = ObjectiveResult { measured: None, ..missed(0.25, 0.0) };
        let text = "ttft p99: too many requests failed, objective 250 ms: 46 of 559 met it; \
                    1 failed request counts as a miss";
        assert_eq!(failed.miss(1), text);
    }

    #[test]
    fn a_miss_is_unsure_if_the_interval_of_the_measured_quantile_contains_the_threshold() {
        let is_sure = |judged, met| is_sure(Share::percent(99), judged, met);
        // If exactly 99 % of all requests met the objective, at least 4 of 100 would miss it in
        // 1.8 % of all samples, and at least 3 in 7.9 %.
        assert_eq!([95, 96, 97, 98].map(|met| is_sure(100, met)), [true, true, false, false]);
        assert!(is_sure(100, 99) && is_sure(1000, 980) && !is_sure(1000, 985));
        // 99 requests permit no miss of a p99.
        assert!(!is_sure(99, 99) && !is_sure(99, 98));
        let all = Share::percent(100);
        assert!(super::is_sure(all, 5, 4) && super::is_sure(all, 0, 0));
    }

    #[test]
    fn a_miss_that_chance_can_explain_is_marked_in_its_reason() {
        let unsure = ObjectiveResult { judged: 100, met: 98, sure: false, ..missed(1.0, 1.02) };
        assert_eq!(
            unsure.miss(0),
            "ttft p99 was 1.02 s, objective 1 s: 98 of 100 met it, which chance can explain"
        );
    }

    #[test]
    fn a_higher_quantile_needs_more_requests() {
        let fewest = |share| ObjectiveResult { share, ..missed(1.0, 2.0) }.fewest_requests();
        assert_eq!([0.5, 0.9, 0.95, 0.99, 0.999, 1.0].map(fewest), [2, 10, 20, 100, 1000, 0]);
        assert_eq!(fewest(0.97), 34);
    }

    #[test]
    fn a_miss_is_certain_if_no_further_request_can_repair_it() {
        let phase = |planned_arrivals| PhaseReport { planned_arrivals, ..PhaseReport::default() };
        let objective = ObjectiveResult { judged: 20, met: 10, ..missed(1.0, 2.0) };
        // 10 misses are 1 % of 1,000 requests.
        for (planned, is_certain) in [(Some(999), true), (Some(1000), false), (None, false)] {
            assert_eq!(objective.is_missed_for_certain(&phase(planned), false), is_certain);
        }
        assert!(objective.is_missed_for_certain(&phase(None), true));
    }
}
