//! The report of a search for the capacity of a target: the result, and every step with the reason
//! for its level.

use serde::{Deserialize, Serialize};

use super::layout::Block;
use super::{Level, LevelKind, PhaseReport};
use crate::capacity::{self, Ending, Limit, Quantiles, StepRecord, Verdict};
use crate::check::numbers::{duration, integer, three_digits};
use crate::schedule::{SearchRange, SearchSpec};
use crate::schedule_state::SearchState;
use crate::slo::Objective;

/// The most columns for objectives. More would be wider than 80 columns.
const MOST_COLUMNS: usize = 2;
/// The probability that the interval contains the capacity.
const CONFIDENCE: f64 = 0.95;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// Why the search ended: `found`, `first_missed`, `last_met`, `undecided`, `distorted`,
    /// `limited`, `steps_too_short`, `out_of_steps` or `interrupted`.
    pub ending: String,
    /// The result for people.
    pub sentence: String,
    pub from: Level,
    pub to: Level,
    /// The largest distance between `met` and `missed`, as a fraction of `met`.
    pub resolution: f64,
    /// The shortest measured time of a step.
    pub step_seconds: f64,
    /// The objectives as text: `ttft p99 ≤ 1 s`.
    pub objectives: Vec<String>,
    /// The highest level that meets the objectives. `None` if no level does.
    pub met: Option<f64>,
    /// The lowest level that misses them. `None` if no level does.
    pub missed: Option<f64>,
    /// The highest level that provenly meets the objectives, but at most the rate at which the
    /// requests of its steps ended.
    pub lower: Option<f64>,
    /// The lowest level that provenly misses them.
    pub upper: Option<f64>,
    /// The probability that the capacity is between `lower` and `upper`. `None` if the steps are
    /// too short for a confidence.
    pub confidence: Option<f64>,
    /// True if only the limit of steps for proofs kept the search from a narrower interval.
    #[serde(default)]
    pub out_of_proofs: bool,
    /// The level from which on throughput does not grow, if it is below `met`.
    #[serde(default)]
    pub knee: Option<f64>,
    /// The throughput at the level `met`, in successes per second.
    pub requests_per_second: Option<f64>,
    /// The throughput at the level `met`, in output tokens per second.
    pub output_tokens_per_second: Option<f64>,
    pub steps: Vec<StepReport>,
    /// The strictest threshold of TTFT, for the chart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_threshold_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The rate per second, or the number of requests in flight.
    pub level: f64,
    /// The level for people.
    pub name: String,
    /// Why the search chose the level: `first`, `growth`, `bisection`, `repeat`, `lower_end`,
    /// `upper_end`, `distorted` or `unsettled`.
    pub reason: String,
    /// The conclusion from all steps at this level so far: `met`, `probably_met`, `not_judged`,
    /// `probably_missed` or `missed`. `None` if the step does not count.
    pub verdict: Option<String>,
    pub settle_seconds: f64,
    pub measured_seconds: f64,
    /// The length of the step with the wait for its last request.
    pub seconds: f64,
    /// True if the step ended early, because it could not meet the objectives any more.
    pub cut_short: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distortion: Option<String>,
    /// The limit of llmload that dropped arrivals of the step: `rate_limits` or `budgets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// True if the requests took longer than `settle_seconds`, so the step does not count.
    #[serde(default)]
    pub unsettled: bool,
    /// The arrivals that were due in the measured time.
    pub requests: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// The requests that failed in llmload or its machine in any part of the step.
    #[serde(default)]
    pub failed_in_client: u64,
    /// The arrivals that llmload dropped, for any reason.
    pub dropped: u64,
    /// The successes in the measured time, per second. At a rate: those that ended in it. In a
    /// closed loop, each success counts by the part of its duration that is in the measured time.
    pub requests_per_second: f64,
    pub output_tokens_per_second: f64,
    /// True if `output_tokens_per_second` counts events with text instead of tokens.
    pub is_token_estimate: bool,
    pub time_to_first_token_seconds: QuantileReport,
    pub time_per_output_token_seconds: QuantileReport,
    pub request_duration_seconds: QuantileReport,
    /// One entry per objective.
    pub objectives: Vec<StepObjective>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantileReport {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepObjective {
    /// `ttft p99`, `success`.
    pub name: String,
    /// The highest permitted latency. `None` for the success rate.
    #[serde(default)]
    pub threshold_seconds: Option<f64>,
    /// The measured value for people.
    pub text: String,
    /// The measured quantile in seconds, or the success rate.
    pub measured: Option<f64>,
    /// The judged requests. If the step ended early, the remaining planned requests count as met.
    pub judged: u64,
    pub met: u64,
    /// The conclusion from all steps at this level so far. `None` if the step does not count.
    pub verdict: Option<String>,
}

impl SearchReport {
    /// Creates the report of a search. A search that still runs counts as interrupted.
    pub fn new(state: &SearchState) -> SearchReport {
        let spec = state.search.spec();
        let outcome =
            state.outcome.clone().unwrap_or_else(|| state.search.outcome(Ending::Interrupted));
        let (from, to) = capacity::Level::ends(spec.range);
        let value = |step: &Option<StepRecord>| step.as_ref().map(|step| step.plan.level.value());
        let throughput = outcome.met.as_ref().map(|met| &met.result);
        let steps = state.search.steps();
        SearchReport {
            ending: outcome.ending.as_str().to_owned(),
            sentence: outcome.sentence(spec),
            from: level(spec.range, from),
            to: level(spec.range, to),
            resolution: spec.resolution.as_f64(),
            step_seconds: spec.step.as_secs_f64(),
            objectives: spec.slo.objectives.iter().map(capacity::condition).collect(),
            met: value(&outcome.met),
            missed: value(&outcome.missed),
            lower: outcome.interval.0.map(capacity::Level::value),
            upper: outcome.interval.1.map(capacity::Level::value),
            confidence: outcome.is_confident(spec).then_some(CONFIDENCE),
            out_of_proofs: outcome.is_out_of_proofs,
            knee: outcome.knee.map(|knee| knee.level.value()),
            requests_per_second: throughput.map(|result| result.requests_per_second),
            output_tokens_per_second: throughput.map(|result| result.tokens_per_second),
            steps: steps.iter().map(|step| StepReport::new(step, spec)).collect(),
            ttft_threshold_seconds: spec.slo.strictest_ttft().map(|time| time.as_secs_f64()),
        }
    }

    /// True if the search ended with this ending.
    pub(super) fn has_ended(&self, ending: Ending) -> bool {
        self.ending == ending.as_str()
    }

    /// The limit of llmload that ended the search.
    pub(super) fn limit(&self) -> Option<Limit> {
        let name = self.steps.last()?.limit.as_deref()?;
        [Limit::Rate, Limit::Budget].into_iter().find(|limit| limit.as_str() == name)
    }

    /// True if the search has proven that a level meets the objectives.
    pub(super) fn is_sure(&self) -> bool {
        self.lower.is_some() && self.confidence.is_some()
    }

    /// The table of steps.
    pub(super) fn blocks(&self) -> Vec<Block> {
        if self.steps.is_empty() {
            return Vec::new();
        }
        let mut blocks = vec![self.table()];
        let verdicts = || self.steps.iter().map(result_text);
        if verdicts().any(|text| text.contains('?')) {
            let percent = |fraction: f64| format!("; {:.0} % confidence", fraction * 100.0);
            let confidence = self.confidence.map(percent).unwrap_or_default();
            blocks.push(Block::Line {
                text: format!(
                    "? = not proven: too few requests, or a measured time that is too \
                     short{confidence}"
                ),
            });
        }
        if verdicts().any(|text| text.ends_with('*')) {
            blocks.push(Block::Line {
                text: "* = the step ended early, because it could not meet the objectives any more"
                    .to_owned(),
            });
        }
        let excluded = self.steps.iter().filter_map(|step| Some((step, step.exclusion()?)));
        blocks.extend(excluded.map(|(step, reason)| Block::Line {
            text: format!("{} does not count: {reason}", step.name),
        }));
        blocks
    }

    fn table(&self) -> Block {
        let names = self.steps.first().map(|step| &step.objectives[..]).unwrap_or_default();
        let shown = names.len().min(MOST_COLUMNS);
        let has_drops = self.steps.iter().any(|step| step.dropped > 0);
        // A narrow screen cuts the table on the right, so the result is on the left.
        let mut columns = vec!["step".to_owned(), "result".to_owned()];
        columns.extend(names.iter().take(shown).map(|objective| objective.name.clone()));
        columns.extend(["QPS", "tokens/s", "requests"].map(str::to_owned));
        columns.extend(has_drops.then(|| "dropped".to_owned()));
        columns.push("time".to_owned());
        let row = |step: &StepReport| {
            let mut cells = vec![step.name.clone(), result_text(step)];
            cells
                .extend(step.objectives.iter().take(shown).map(|objective| objective.text.clone()));
            cells.push(three_digits(step.requests_per_second));
            let about = if step.is_token_estimate { "≈ " } else { "" };
            cells.push(format!("{about}{}", three_digits(step.output_tokens_per_second)));
            cells.push(integer(step.sent()));
            cells.extend(has_drops.then(|| integer(step.dropped)));
            cells.push(duration(step.measured_seconds));
            cells
        };
        let rows = self.steps.iter().map(row).collect();
        Block::Table { title: "Steps of the search".to_owned(), columns, rows }
    }
}

impl StepReport {
    /// The state of a step without a verdict.
    pub(super) fn state(&self) -> &'static str {
        match (&self.limit, self.unsettled) {
            (Some(_), _) => "limited",
            (None, true) => "unsettled",
            (None, false) => "distorted",
        }
    }

    /// The arrivals that llmload sent.
    pub(super) fn sent(&self) -> u64 {
        self.requests.saturating_sub(self.dropped)
    }

    /// The reason why the step does not count.
    fn exclusion(&self) -> Option<String> {
        let settle = duration(self.settle_seconds);
        let text = || format!("its requests took longer than the {settle} to settle");
        self.distortion.clone().or_else(|| self.unsettled.then(text))
    }

    fn new(step: &StepRecord, spec: &SearchSpec) -> StepReport {
        let (plan, result) = (&step.plan, &step.result);
        let objectives = spec.slo.objectives.iter().enumerate();
        StepReport {
            level: plan.level.value(),
            name: plan.level.to_string(),
            reason: plan.reason.as_str().to_owned(),
            verdict: step.verdict.map(|verdict| verdict.as_str().to_owned()),
            settle_seconds: plan.settle.as_secs_f64(),
            measured_seconds: result.measured.as_secs_f64(),
            seconds: result.elapsed.as_secs_f64(),
            cut_short: result.is_cut_short,
            distortion: result.distortion.clone(),
            limit: result.limit.map(|limit| limit.as_str().to_owned()),
            unsettled: step.is_unsettled,
            requests: result.requests,
            succeeded: result.succeeded,
            failed: result.failed,
            failed_in_client: result.failed_in_client,
            dropped: result.all_dropped,
            requests_per_second: result.requests_per_second,
            output_tokens_per_second: result.tokens_per_second,
            is_token_estimate: result.tokens_are_estimated,
            time_to_first_token_seconds: result.time_to_first_token.into(),
            time_per_output_token_seconds: result.time_per_output_token.into(),
            request_duration_seconds: result.request_duration.into(),
            objectives: objectives
                .map(|(index, objective)| step_objective(step, index, objective))
                .collect(),
        }
    }
}

fn step_objective(step: &StepRecord, index: usize, objective: &Objective) -> StepObjective {
    let batches = step.result.judged.get(index).map_or(&[][..], Vec::as_slice);
    let counts = capacity::total(batches);
    StepObjective {
        name: capacity::name(objective),
        threshold_seconds: objective.threshold().map(|time| time.as_secs_f64()),
        text: step.observed_value(index, objective),
        measured: step.result.observed.get(index).copied().flatten(),
        judged: counts.judged,
        met: counts.met,
        verdict: step.verdicts.get(index).map(|verdict| verdict.as_str().to_owned()),
    }
}

impl From<Quantiles> for QuantileReport {
    fn from(quantiles: Quantiles) -> QuantileReport {
        let Quantiles { p50, p90, p99 } = quantiles;
        QuantileReport { p50, p90, p99 }
    }
}

impl PhaseReport {
    /// True if the phase searches the capacity of the target.
    pub fn is_search(&self) -> bool {
        // A search that never began has no result.
        self.search.is_some() || self.load.starts_with("search ")
    }
}

/// True for the verdict of a level that meets the objectives, proven or not.
pub(super) fn is_success(verdict: &str) -> bool {
    [Verdict::Met, Verdict::ProbablyMet].iter().any(|met| met.as_str() == verdict)
}

/// The result of a step: `met`, `met?`, `missed*`.
fn result_text(step: &StepReport) -> String {
    let is = |verdict: Verdict| step.verdict.as_deref() == Some(verdict.as_str());
    let text = if is(Verdict::Met) {
        "met"
    } else if is(Verdict::ProbablyMet) {
        "met?"
    } else if is(Verdict::Missed) {
        "missed"
    } else if is(Verdict::ProbablyMissed) {
        "missed?"
    } else if is(Verdict::NotJudged) {
        "not judged"
    } else {
        step.state()
    };
    format!("{text}{}", if step.cut_short { "*" } else { "" })
}

fn level(range: SearchRange, level: capacity::Level) -> Level {
    let kind = match range {
        SearchRange::Rate { .. } => LevelKind::Rate,
        SearchRange::Concurrency { .. } => LevelKind::Concurrency,
    };
    Level { kind, value: level.value() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(dropped: u64) -> StepReport {
        StepReport {
            name: "5/s".to_owned(),
            verdict: Some(Verdict::Met.as_str().to_owned()),
            measured_seconds: 12.0,
            requests: 60,
            dropped,
            requests_per_second: 5.02,
            output_tokens_per_second: 512.0,
            objectives: vec![StepObjective {
                name: "ttft p99".to_owned(),
                text: "310 ms".to_owned(),
                ..StepObjective::default()
            }],
            ..StepReport::default()
        }
    }

    fn table(steps: Vec<StepReport>) -> (Vec<String>, Vec<Vec<String>>) {
        let search = SearchReport { steps, ..SearchReport::default() };
        match search.blocks().remove(0) {
            Block::Table { columns, rows, .. } => (columns, rows),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_of_steps_begins_with_the_result_and_has_each_value_in_its_column() {
        let (columns, rows) = table(vec![step(0)]);
        let expected = ["step", "result", "ttft p99", "QPS", "tokens/s", "requests", "time"];
        assert_eq!(columns, expected);
        assert_eq!(rows, [["5/s", "met", "310 ms", "5.02", "512", "60", "12 s"]]);
    }

    #[test]
    fn dropped_arrivals_have_a_column_if_a_step_has_some_and_do_not_count_as_requests() {
        let (columns, rows) = table(vec![step(0), step(7)]);
        let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
        let of = |name: &str| rows.iter().map(|row| row[at(name)].clone()).collect::<Vec<_>>();
        assert_eq!(of("dropped"), ["0", "7"]);
        assert_eq!(of("requests"), ["60", "53"]);
        assert!(rows.iter().all(|row| row.len() == columns.len()));
    }

    #[test]
    fn a_step_that_a_limit_ended_is_limited_and_names_the_limit() {
        let distortion = Some("llmload dropped 7 arrivals because of `rate_limits`".to_owned());
        let limit = Some(Limit::Rate.as_str().to_owned());
        let limited = StepReport { verdict: None, distortion, limit, ..step(7) };
        let search = SearchReport { steps: vec![step(0), limited], ..SearchReport::default() };
        assert_eq!(search.limit(), Some(Limit::Rate));
        let blocks = search.blocks();
        let Block::Table { rows, .. } = &blocks[0] else { panic!("{blocks:?}") };
        assert_eq!(rows[1][1], "limited");
        let is_named = |block: &Block| matches!(block, Block::Line { text } if text.contains("does not count: llmload dropped 7"));
        assert!(blocks.iter().any(is_named), "{blocks:?}");
    }
}
