//! Compares reports phase by phase: is a new run worse than the base run?
//!
//! Phases are compared only if they have the same name and the same load, because a latency without
//! its load says nothing. A change counts if it is significant and larger than a tolerance. The
//! significance is corrected for the number of tests (the module `significance`): if nothing has
//! changed, the complete comparison has a false alarm in at most 5 of 100 cases.
//!
//! The tests assume that the values are independent. In reality, requests in one queue depend on
//! each other, and two runs of the same server differ too. This is the reason for the tolerance.

mod capacity;
mod change;
mod markdown;
mod matching;
mod metrics;
mod read;
mod setup;
mod side_by_side;
mod significance;
#[cfg(test)]
mod tests;
mod text;

use serde::Serialize;

use super::{Outcome, PhaseReport, ReasonCode, RouteReport};
use crate::measurement::printable;
pub use capacity::{ComparedSearch, FoundCapacity, NewCapacity};
pub use change::Change;
use change::{change, change_text};
use matching::match_routes;
use metrics::{Evidence, Metric, PhaseRun};
pub use read::{ReadError, Run, read, split_route};
pub use side_by_side::{
    Column, Figure, FigureDifference, FigureKind, FigureValue, SideBySide, SideBySidePhase,
};
pub(super) use side_by_side::{groups, names, side_by_side};
pub use significance::Estimate;

/// The probability that a comparison of two equal runs finds any change.
const FALSE_ALARMS: f64 = 0.05;
/// The usual value of [`Rules::tolerance`].
pub const TOLERANCE: f64 = 0.05;

/// The name of a route without control characters.
fn route_name(route: &RouteReport) -> String {
    printable(&route.route(), 256)
}

/// The rules of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// A fraction of the base value. A smaller change does not count.
    pub tolerance: f64,
    /// Compares the phases with the same name and the same load, although the schedules differ.
    pub allow_different_schedules: bool,
}

/// The reason why reports cannot be compared. The user must change the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the schedules of the runs differ, so their values do not belong to the same load:\n  {}\n\
         repeat a run with the schedule of the other, or pass --allow-different-schedules to \
         compare only the phases with the same name and the same load",
        .0.join("\n  ")
    )]
    DifferentSchedules(Vec<String>),
    #[error(
        "{argument} has several routes ({routes}); choose one of them as in \
         `{argument}#scenario/target`"
    )]
    SeveralRoutes { argument: String, routes: String },
}

/// The value of a metric in a new run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NewValue {
    /// `None` if the run does not have this metric.
    pub estimate: Option<Estimate>,
    /// The new value / the base value − 1.
    pub change_ratio: Option<f64>,
    /// The probability of such a difference, if both runs measure the same. `None` if there was no
    /// test.
    pub probability: Option<f64>,
    pub change: Change,
}

/// The values of one metric in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedMetric {
    pub name: String,
    pub base: Option<Estimate>,
    /// One entry per new run.
    pub new: Vec<NewValue>,
    #[serde(skip)]
    metric: Metric,
}

/// A phase of the base run, with the same phase of all new runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedPhase {
    /// The scenario and the target in the base run.
    pub route: String,
    pub phase: String,
    pub load: String,
    pub metrics: Vec<ComparedMetric>,
}

/// The kind of a reason why a comparison did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComparisonCode {
    /// Metrics of a phase are worse.
    Worse,
    /// The verdict of a run is invalid.
    InvalidRun,
    /// The new run did not complete a phase, or it does not have a latency of the base run.
    NotMeasured,
    /// No latency and no rate has enough values.
    TooFewValues,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComparisonReason {
    pub code: ComparisonCode,
    pub text: String,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `failed` if a metric is worse, and `invalid` if nothing can be judged.
    pub result: Outcome,
    /// The reasons why the comparison did not pass.
    pub reasons: Vec<ComparisonReason>,
    /// Differences between the runs that can explain a change.
    pub notes: Vec<String>,
    /// The arguments of the command line, the base run first.
    pub runs: Vec<String>,
    pub tolerance: f64,
    pub phases: Vec<ComparedPhase>,
    pub searches: Vec<ComparedSearch>,
}

impl Comparison {
    /// Compares new runs with a base run.
    ///
    /// # Errors
    /// If the schedules differ and the rules do not allow this, or if the routes to compare are not
    /// clear.
    pub fn new(base: &Run, new: &[Run], rules: Rules) -> Result<Comparison, Refusal> {
        let mut comparison = Comparison {
            result: Outcome::Passed,
            reasons: Vec::new(),
            notes: Vec::new(),
            runs: std::iter::once(base)
                .chain(new)
                .map(|run| printable(&run.argument, 256))
                .collect(),
            tolerance: rules.tolerance,
            phases: Vec::new(),
            searches: Vec::new(),
        };
        let mut pairs = Vec::new();
        let mut differences = Vec::new();
        for (index, run) in new.iter().enumerate() {
            let label = label(index, new.len());
            comparison.add_invalid_reasons(&label, run);
            comparison.notes.extend(setup::run_notes(&label, base.report(), run.report()));
            let (matched, missing) = match_routes(base, run, &label)?;
            differences.extend(missing);
            for (before, after) in &matched {
                let name = route_name(before);
                differences.extend(setup::schedule_differences(&name, &label, before, after));
                comparison.notes.extend(setup::route_notes(&name, &label, before, after));
            }
            pairs.push(matched);
        }
        comparison.add_invalid_reasons("the base run", base);
        if !differences.is_empty() && !rules.allow_different_schedules {
            return Err(Refusal::DifferentSchedules(differences));
        }
        comparison.notes.splice(0..0, differences);
        if !comparison.reasons.is_empty() {
            comparison.result = Outcome::Invalid;
            return Ok(comparison);
        }
        comparison.compare_phases(base.routes(), &pairs);
        comparison.judge(rules.tolerance);
        Ok(comparison)
    }

    /// Adds the reasons why a run cannot be compared.
    fn add_invalid_reasons(&mut self, label: &str, run: &Run) {
        let verdict = &run.report().verdict;
        if verdict.result != Outcome::Invalid {
            return;
        }
        let misses = [ReasonCode::ObjectiveMissed, ReasonCode::Failures];
        let invalid = verdict.reasons.iter().filter(|reason| !misses.contains(&reason.code));
        self.reasons.extend(invalid.map(|reason| ComparisonReason {
            code: ComparisonCode::InvalidRun,
            text: format!("{label} is invalid: {}", printable(&reason.text, 512)),
        }));
    }

    /// Adds the values and the tests of all phases. `pairs` has the matched routes of each new run.
    fn compare_phases(
        &mut self,
        base: &[RouteReport],
        pairs: &[Vec<(&RouteReport, &RouteReport)>],
    ) {
        for before in base {
            let routes: Vec<Option<&RouteReport>> = pairs
                .iter()
                .map(|matched| {
                    matched.iter().find(|pair| std::ptr::eq(pair.0, before)).map(|pair| pair.1)
                })
                .collect();
            for phase in before.levels() {
                if phase.is_search() {
                    self.compare_search(before, phase, &routes);
                } else if phase.sent {
                    self.compare_phase(PhaseRun { route: before, phase }, &routes);
                } else {
                    let place = place(before, phase);
                    self.notes.push(format!("{place}: the base run did not send this phase"));
                }
            }
        }
    }

    fn compare_phase(&mut self, base: PhaseRun<'_>, routes: &[Option<&RouteReport>]) {
        let phase = setup::phase_name(base.phase);
        let place = place(base.route, base.phase);
        let mut runs = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let run = route.and_then(|route| {
                let same = route.phases.iter().find(|new| {
                    new.name == base.phase.name && setup::have_same_load(base.phase, new)
                })?;
                Some(PhaseRun { route, phase: same })
            });
            runs.push(run);
            let Some(run) = run else { continue };
            let label = label(index, routes.len());
            if !run.phase.sent || (run.phase.cut && !base.phase.cut) {
                self.reasons.push(ComparisonReason {
                    code: ComparisonCode::NotMeasured,
                    text: format!("{place}: {label} did not complete this phase"),
                });
            }
            if run.phase.sent && !run.phase.explore {
                for missing in metrics::missing(base.phase, run.phase) {
                    self.reasons.push(ComparisonReason {
                        code: ComparisonCode::NotMeasured,
                        text: format!("{place}: {label} has no value for {missing}"),
                    });
                }
            }
        }
        if runs.iter().all(Option::is_none) {
            return;
        }
        let all = Metric::all().into_iter().map(|metric| compared(metric, base, &runs));
        self.phases.push(ComparedPhase {
            route: route_name(base.route),
            phase,
            load: printable(&base.phase.load, 128),
            metrics: all.filter(ComparedMetric::has_value).collect(),
        });
    }

    /// Decides which changes count, and the result.
    fn judge(&mut self, tolerance: f64) {
        let mut tested: Vec<(Metric, Option<Estimate>, &mut NewValue)> = Vec::new();
        for compared in self.phases.iter_mut().flat_map(|phase| &mut phase.metrics) {
            let ComparedMetric { metric, base, new, .. } = compared;
            let new = new.iter_mut().filter(|value| value.probability.is_some());
            tested.extend(new.map(|value| (*metric, *base, value)));
        }
        let probabilities: Vec<f64> =
            tested.iter().filter_map(|(_, _, value)| value.probability).collect();
        let significant = significance::significant(&probabilities, FALSE_ALARMS);
        let is_comparable = tested.iter().any(|(metric, ..)| *metric != Metric::SuccessRate)
            || self.searches.iter().any(ComparedSearch::is_judged);
        for ((metric, base, value), is_significant) in tested.into_iter().zip(significant) {
            let (Some(base), Some(new)) = (base, value.estimate) else { continue };
            value.change = change(metric.rule(), base.value, new.value, is_significant, tolerance);
        }
        let worse = [self.worse_capacities(), self.worse_reasons()].concat();
        self.result = if !worse.is_empty() {
            Outcome::Failed
        } else if !self.reasons.is_empty() {
            Outcome::Invalid
        } else if is_comparable {
            Outcome::Passed
        } else {
            self.reasons.push(ComparisonReason {
                code: ComparisonCode::TooFewValues,
                text: "the runs have too few values, so no latency and no rate can be compared"
                    .to_owned(),
            });
            Outcome::Invalid
        };
        self.reasons.splice(0..0, worse);
    }
    /// Returns a reason for each phase of each new run with worse metrics.
    fn worse_reasons(&self) -> Vec<ComparisonReason> {
        let mut reasons = Vec::new();
        for phase in &self.phases {
            for index in 0..self.runs.len() - 1 {
                let worse = phase.metrics.iter().filter_map(|metric| {
                    let value = metric.new.get(index)?;
                    let change = value.change_text()?;
                    (value.change == Change::Worse).then(|| format!("{} ({change})", metric.name))
                });
                let worse: Vec<String> = worse.collect();
                if !worse.is_empty() {
                    let (place, label) = (phase.place(), label(index, self.runs.len() - 1));
                    reasons.push(ComparisonReason {
                        code: ComparisonCode::Worse,
                        text: format!("{place}: {label} is worse in {}", worse.join(", ")),
                    });
                }
            }
        }
        reasons
    }

    /// The number of changes of this kind.
    fn number_of(&self, change: Change) -> usize {
        let metrics = self.phases.iter().flat_map(|phase| &phase.metrics);
        let searches = self.searches.iter().map(|search| search.number_of(change));
        metrics.flat_map(|metric| &metric.new).filter(|value| value.change == change).count()
            + searches.sum::<usize>()
    }

    /// The result as a sentence.
    fn sentence(&self) -> String {
        let metrics = |number: usize, verb: &str| match number {
            1 => format!("1 metric is {verb}"),
            _ => format!("{number} metrics are {verb}"),
        };
        let better = self.number_of(Change::Better);
        match self.result {
            Outcome::Passed if better > 0 => {
                format!("passed: no metric is worse, {}", metrics(better, "better"))
            }
            Outcome::Passed => "passed: no metric is worse".to_owned(),
            Outcome::Failed => {
                format!("failed: {}", metrics(self.number_of(Change::Worse), "worse"))
            }
            Outcome::Invalid => "invalid: the comparison proves nothing".to_owned(),
        }
    }
}

impl ComparedPhase {
    fn place(&self) -> String {
        format!("{}, {}", self.route, self.phase)
    }
}

impl ComparedMetric {
    fn has_value(&self) -> bool {
        self.base.is_some() || self.new.iter().any(|value| value.estimate.is_some())
    }
}

impl NewValue {
    /// Returns the change as a percentage: `+10.2 %`.
    fn change_text(&self) -> Option<String> {
        self.change_ratio.map(change_text)
    }
}

/// The place of a phase in a text.
fn place(route: &RouteReport, phase: &PhaseReport) -> String {
    format!("{}, {}", route_name(route), setup::phase_name(phase))
}

/// The name of a new run in a text. With several new runs, the base run is the first of all runs.
fn label(index: usize, number: usize) -> String {
    if number == 1 { "the new run".to_owned() } else { format!("run {}", index + 2) }
}

/// Returns the values and the tests of a metric. `change` is not decided yet.
fn compared(metric: Metric, base: PhaseRun<'_>, runs: &[Option<PhaseRun<'_>>]) -> ComparedMetric {
    let before = metric.estimate(base);
    let new = runs.iter().map(|run| {
        let run = run.filter(|run| run.phase.sent);
        let estimate = run.and_then(|run| metric.estimate(run));
        let evidence = match (run, before, estimate) {
            (Some(run), Some(_), Some(_)) => {
                let decides = |phase: &PhaseReport| !phase.explore && !phase.cut;
                if decides(base.phase) && decides(run.phase) {
                    metric.evidence(base, run)
                } else {
                    Evidence::NotJudged
                }
            }
            _ => Evidence::TooFew,
        };
        let (change, probability) = evidence.unjudged();
        let ratio = before.zip(estimate).filter(|(before, _)| before.value > 0.0);
        NewValue {
            estimate,
            change_ratio: ratio.map(|(before, after)| after.value / before.value - 1.0),
            probability,
            change,
        }
    });
    ComparedMetric { name: metric.name(), base: before, new: new.collect(), metric }
}
