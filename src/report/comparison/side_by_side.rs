//! Targets beside each other: is a target better than the baseline target?
//!
//! All targets of a scenario get the same requests at the same instants. So llmload compares the
//! means of TTFT, TPOT and latency in pairs: both requests of a pair have the same prompt and the
//! same instant, so neither of them is a reason for a difference. A pair counts only if both
//! requests succeeded. The other figures have no pairs. Their tests, the tolerance and the
//! correction for the number of tests are those of `llmload compare`.
//!
//! Scenarios that differ only in their target are beside each other too. They have no pairs, so
//! llmload compares their quantiles.

mod groups;
mod table;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::metrics::{DURATION, Evidence, Metric, PhaseRun, Rule, TPOT, TTFT};
use super::{Change, FALSE_ALARMS, TOLERANCE, change, significance};
use crate::check::numbers::{duration, integer, percent, three_digits};
use crate::report::{MeanDifference, PairedDifference, PhaseReport, RouteReport, Statistics};
pub(in crate::report) use groups::{groups, names};

/// Routes that differ only in their target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideBySide {
    /// The baseline target is the first.
    pub columns: Vec<Column>,
    /// True if all targets got the same requests at the same instants.
    pub is_paired: bool,
    /// A fraction of the value of the baseline target. A smaller difference does not count.
    pub tolerance: f64,
    /// The phases that were sent to all targets.
    pub phases: Vec<SideBySidePhase>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub scenario: String,
    pub target: String,
    pub model: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideBySidePhase {
    pub phase: String,
    pub load: String,
    pub figures: Vec<Figure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub figure: FigureKind,
    /// One entry per column.
    pub by_target: Vec<FigureValue>,
}

/// The value of a figure at one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FigureValue {
    pub value: Option<f64>,
    /// `None` for the baseline target, and for a figure that is not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<FigureDifference>,
}

/// The difference of a target from the baseline target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FigureDifference {
    /// The difference divided by the value of the baseline target.
    pub ratio: Option<f64>,
    /// The mean difference over all pairs. `None` for a figure without pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<MeanDifference>,
    /// The number of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<u64>,
    /// The probability of such a difference between equal targets. `None` if there was no test.
    pub probability: Option<f64>,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    QueriesPerSecond,
    TimeToFirstTokenMean,
    TimeToFirstTokenP50,
    TimeToFirstTokenP99,
    TimePerOutputTokenMean,
    TimePerOutputTokenP50,
    RequestDurationMean,
    RequestDurationP50,
    OutputTokensPerRequestSecond,
    SuccessRate,
    Failed,
    Dropped,
}

impl FigureKind {
    /// The figures of targets with the same requests.
    const PAIRED: [FigureKind; 9] = [
        FigureKind::QueriesPerSecond,
        FigureKind::TimeToFirstTokenMean,
        FigureKind::TimeToFirstTokenP99,
        FigureKind::TimePerOutputTokenMean,
        FigureKind::RequestDurationMean,
        FigureKind::OutputTokensPerRequestSecond,
        FigureKind::SuccessRate,
        FigureKind::Failed,
        FigureKind::Dropped,
    ];
    /// The figures of separate scenarios. The test of a mean needs pairs, so medians replace the
    /// means.
    const SEPARATE: [FigureKind; 9] = [
        FigureKind::QueriesPerSecond,
        FigureKind::TimeToFirstTokenP50,
        FigureKind::TimeToFirstTokenP99,
        FigureKind::TimePerOutputTokenP50,
        FigureKind::RequestDurationP50,
        FigureKind::OutputTokensPerRequestSecond,
        FigureKind::SuccessRate,
        FigureKind::Failed,
        FigureKind::Dropped,
    ];

    fn label(self) -> &'static str {
        match self {
            FigureKind::QueriesPerSecond => "QPS",
            FigureKind::TimeToFirstTokenMean => "TTFT mean",
            FigureKind::TimeToFirstTokenP50 => "TTFT P50",
            FigureKind::TimeToFirstTokenP99 => "TTFT P99",
            FigureKind::TimePerOutputTokenMean => "TPOT mean",
            FigureKind::TimePerOutputTokenP50 => "TPOT P50",
            FigureKind::RequestDurationMean => "mean latency",
            FigureKind::RequestDurationP50 => "latency P50",
            FigureKind::OutputTokensPerRequestSecond => "TPS",
            FigureKind::SuccessRate => "success",
            FigureKind::Failed => "failures",
            FigureKind::Dropped => "dropped",
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn value(self, statistics: &Statistics) -> Option<f64> {
        match self {
            FigureKind::QueriesPerSecond => statistics.queries_per_second,
            FigureKind::TimeToFirstTokenMean => statistics.time_to_first_token_seconds.mean,
            FigureKind::TimeToFirstTokenP50 => statistics.time_to_first_token_seconds.p50,
            FigureKind::TimeToFirstTokenP99 => statistics.time_to_first_token_seconds.p99,
            FigureKind::TimePerOutputTokenMean => statistics.time_per_output_token_seconds.mean,
            FigureKind::TimePerOutputTokenP50 => statistics.time_per_output_token_seconds.p50,
            FigureKind::RequestDurationMean => statistics.request_duration_seconds.mean,
            FigureKind::RequestDurationP50 => statistics.request_duration_seconds.p50,
            FigureKind::OutputTokensPerRequestSecond => statistics.output_tokens_per_request_second,
            FigureKind::SuccessRate => statistics.success_rate,
            FigureKind::Failed => Some(statistics.failed as f64),
            FigureKind::Dropped => Some(statistics.dropped as f64),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn show(self, value: f64) -> String {
        match self {
            FigureKind::QueriesPerSecond | FigureKind::OutputTokensPerRequestSecond => {
                three_digits(value)
            }
            FigureKind::SuccessRate => percent(value),
            FigureKind::Failed | FigureKind::Dropped => integer(value as u64),
            _ => duration(value),
        }
    }

    /// The metric of `llmload compare` with the test of this figure. `None` for a mean, and for a
    /// figure without a test.
    fn metric(self) -> Option<Metric> {
        match self {
            FigureKind::QueriesPerSecond => Some(Metric::Qps),
            FigureKind::TimeToFirstTokenP50 => Some(Metric::Latency(TTFT.0, TTFT.1, 0.5)),
            FigureKind::TimeToFirstTokenP99 => Some(Metric::Latency(TTFT.0, TTFT.1, 0.99)),
            FigureKind::TimePerOutputTokenP50 => Some(Metric::Latency(TPOT.0, TPOT.1, 0.5)),
            FigureKind::RequestDurationP50 => Some(Metric::Latency(DURATION.0, DURATION.1, 0.5)),
            FigureKind::SuccessRate => Some(Metric::SuccessRate),
            _ => None,
        }
    }

    /// The mean difference over all pairs. `None` for a figure without pairs.
    fn paired(self, pairs: Option<&PairedDifference>) -> Option<MeanDifference> {
        match self {
            FigureKind::TimeToFirstTokenMean => pairs?.time_to_first_token,
            FigureKind::TimePerOutputTokenMean => pairs?.time_per_output_token,
            FigureKind::RequestDurationMean => pairs?.request_duration,
            _ => None,
        }
    }

    fn rule(self) -> Rule {
        self.metric().map_or(Rule::LATENCY, Metric::rule)
    }

    fn is_compared(self) -> bool {
        !matches!(self, FigureKind::Failed | FigureKind::Dropped)
    }
}

/// Compares the routes that differ only in their target.
pub(in crate::report) fn side_by_side(routes: &[RouteReport]) -> Vec<SideBySide> {
    groups(routes).iter().filter_map(|group| SideBySide::new(group)).collect()
}

impl SideBySide {
    /// `None` for a single target, or if no phase was sent to all targets.
    fn new(routes: &[&RouteReport]) -> Option<SideBySide> {
        let (baseline, others) = routes.split_first().filter(|(_, others)| !others.is_empty())?;
        let is_paired = others.iter().all(|other| other.scenario == baseline.scenario);
        let figures = if is_paired { FigureKind::PAIRED } else { FigureKind::SEPARATE };
        let phases = baseline.levels().filter(|phase| phase.sent && !phase.is_search());
        let phases = phases.filter_map(|phase| {
            let others = others.iter().map(|route| {
                let same = route.phases.iter().find(|one| one.name == phase.name && one.sent)?;
                Some(PhaseRun { route, phase: same })
            });
            let others = others.collect::<Option<Vec<PhaseRun<'_>>>>()?;
            let baseline = PhaseRun { route: baseline, phase };
            Some(SideBySidePhase::new(baseline, &others, figures))
        });
        let column = |route: &&RouteReport| Column {
            scenario: route.scenario.clone(),
            target: route.target.clone(),
            model: route.model.clone(),
        };
        let mut all = SideBySide {
            phases: phases.collect(),
            columns: routes.iter().map(column).collect(),
            is_paired,
            tolerance: TOLERANCE,
        };
        all.judge();
        (!all.phases.is_empty()).then_some(all)
    }

    /// Decides which differences count.
    fn judge(&mut self) {
        let mut tested: Vec<(FigureKind, f64, &mut FigureDifference)> = Vec::new();
        for Figure { figure, by_target } in
            self.phases.iter_mut().flat_map(|phase| &mut phase.figures)
        {
            let Some((FigureValue { value: Some(base), .. }, others)) = by_target.split_first_mut()
            else {
                continue;
            };
            let differences = others.iter_mut().filter_map(|other| other.difference.as_mut());
            let differences = differences.filter(|difference| difference.probability.is_some());
            tested.extend(differences.map(|difference| (*figure, *base, difference)));
        }
        let probabilities: Vec<f64> =
            tested.iter().filter_map(|(.., difference)| difference.probability).collect();
        let significant = significance::significant(&probabilities, FALSE_ALARMS);
        for ((figure, base, difference), is_significant) in tested.into_iter().zip(significant) {
            let Some(ratio) = difference.ratio else {
                continue;
            };
            let other = base * (1.0 + ratio);
            difference.change = change(figure.rule(), base, other, is_significant, self.tolerance);
        }
    }
}

impl SideBySidePhase {
    fn new(
        baseline: PhaseRun<'_>,
        others: &[PhaseRun<'_>],
        figures: [FigureKind; 9],
    ) -> SideBySidePhase {
        let figures = figures.into_iter().map(|figure| {
            let value = |run: &PhaseRun<'_>| figure.value(&run.phase.statistics);
            let of_baseline = FigureValue { value: value(&baseline), difference: None };
            let others = others.iter().map(|other| FigureValue {
                value: value(other),
                difference: difference(figure, baseline, *other),
            });
            Figure { figure, by_target: std::iter::once(of_baseline).chain(others).collect() }
        });
        let figures =
            figures.filter(|figure| figure.by_target.iter().any(|one| one.value.is_some()));
        SideBySidePhase {
            phase: baseline.phase.name.clone(),
            load: baseline.phase.load.clone(),
            figures: figures.collect(),
        }
    }
}

/// Returns the difference of a figure, with its test. `change` is not decided yet.
fn difference(
    figure: FigureKind,
    baseline: PhaseRun<'_>,
    other: PhaseRun<'_>,
) -> Option<FigureDifference> {
    let value = |run: PhaseRun<'_>| figure.value(&run.phase.statistics);
    let base = value(baseline).filter(|_| figure.is_compared())?;
    let pairs = other.phase.difference.as_ref();
    let paired = figure.paired(pairs);
    let difference = match paired {
        Some(paired) => paired.mean_seconds,
        None => value(other)? - base,
    };
    let decides = |phase: &PhaseReport| !phase.explore && !phase.cut;
    let evidence = if !(decides(baseline.phase) && decides(other.phase)) {
        Evidence::NotJudged
    } else if let Some(metric) = figure.metric() {
        match metric.estimate(baseline).and(metric.estimate(other)) {
            Some(_) => metric.evidence(baseline, other),
            None => Evidence::TooFew,
        }
    } else if figure == FigureKind::OutputTokensPerRequestSecond {
        Evidence::NotJudged
    } else {
        let probability = paired.zip(pairs).and_then(|(difference, pairs)| {
            significance::mean_differs(
                difference.mean_seconds,
                difference.margin_seconds?,
                pairs.pairs,
            )
        });
        probability.map_or(Evidence::TooFew, Evidence::Probability)
    };
    let (change, probability) = evidence.unjudged();
    Some(FigureDifference {
        ratio: (base > 0.0).then(|| difference / base),
        paired,
        pairs: paired.and(pairs).map(|pairs| pairs.pairs),
        probability,
        change,
    })
}
