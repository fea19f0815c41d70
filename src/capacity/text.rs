//! The texts of a search for people: a line for each step, and the result in one sentence.

use std::fmt;

use super::batch::total;
use super::evidence::Verdict;
use super::knee::Knee;
use super::level::Level;
use super::limits::MOST_PROOFS;
use super::outcome::{Ending, Outcome};
use super::step::{StepPlan, StepRecord};
use crate::schedule::SearchSpec;
use crate::slo::{Criterion, Objective, ObjectiveCounts};

impl StepPlan {
    /// Returns the plan of the step: `20/s for 1m, after 12 s to settle`.
    pub fn text(&self) -> String {
        let time = self.measured_time().unwrap_or(self.shortest);
        format!(
            "{} for {}, after {} to settle",
            self.level,
            seconds(time.as_secs_f64()),
            seconds(self.settle.as_secs_f64())
        )
    }
}

impl StepRecord {
    /// Returns the result of the step: `20/s meets the objectives: ttft p99 0.31 s, 19.8
    /// requests/s`.
    pub fn text(&self, spec: &SearchSpec) -> String {
        let level = self.plan.level;
        if let Some(reason) = self.exclusion() {
            return format!("{level} does not count: {reason}");
        }
        let conclusion = match self.verdict {
            Some(Verdict::Met) => "meets the objectives",
            Some(Verdict::ProbablyMet) => "meets the objectives so far",
            Some(Verdict::Missed) => "misses an objective",
            Some(Verdict::ProbablyMissed) => "misses an objective so far",
            Some(Verdict::NotJudged) | None => "has no result",
        };
        let values = self.observed_text(&spec.slo.objectives);
        let early = if self.result.is_cut_short { ", ended early" } else { "" };
        format!(
            "{level} {conclusion}: {values}, {:.1} requests/s{early}",
            self.result.requests_per_second
        )
    }

    /// Returns the reason why the step does not count. `None` if it counts.
    pub fn exclusion(&self) -> Option<String> {
        let settle = seconds(self.plan.settle.as_secs_f64());
        let latency = self.result.latency.filter(|_| self.is_unsettled).map(|latency| {
            format!("its requests took {}, longer than the {settle} to settle", seconds(latency))
        });
        self.result.distortion.clone().or(latency)
    }

    /// Returns the measured value of each objective: `ttft p99 0.31 s, success 100 %`.
    pub fn observed_text(&self, objectives: &[Objective]) -> String {
        let values = objectives.iter().enumerate().map(|(index, objective)| {
            format!("{} {}", name(objective), self.observed_value(index, objective))
        });
        values.collect::<Vec<_>>().join(", ")
    }

    /// Returns the measured value of one objective. If it is unknown, returns the number of
    /// requests that met the objective.
    pub fn observed_value(&self, index: usize, objective: &Objective) -> String {
        match self.result.observed.get(index).copied().flatten() {
            Some(value) if objective.criterion == Criterion::Success => percent(value),
            Some(value) => seconds(value),
            None => {
                let batches = self.result.judged.get(index).map_or(&[][..], Vec::as_slice);
                let ObjectiveCounts { judged, met } = total(batches);
                if judged == 0 { "unknown".to_owned() } else { format!("met by {met} of {judged}") }
            }
        }
    }

    /// Returns the name and the measured value of the worst objective.
    fn worst_text(&self, objectives: &[Objective]) -> Option<String> {
        let worst = self.verdicts.iter().enumerate().min_by_key(|(_, verdict)| **verdict);
        let (index, _) = worst?;
        let objective = objectives.get(index)?;
        let value = self.observed_value(index, objective);
        let dropped = match self.result.dropped {
            0 => String::new(),
            dropped => format!(", with {dropped} arrivals dropped at `max_concurrency`"),
        };
        Some(format!("{}: {value}{dropped}", name(objective)))
    }
}

impl Outcome {
    /// Returns the result in one sentence.
    pub fn sentence(&self, spec: &SearchSpec) -> String {
        let objectives = &spec.slo.objectives;
        let all = objectives.iter().map(condition).collect::<Vec<_>>().join(" and ");
        let (from, to) = Level::ends(spec.range);
        let is = |level: Level, one: &'static str, many: &'static str| match level {
            Level::Rate(_) => one,
            Level::Concurrency(_) => many,
        };
        let missed = self.missed.as_ref().map(|step| {
            let worst = step.worst_text(objectives).unwrap_or_default();
            format!("{} missed {worst}", step.plan.level)
        });
        let Some(met) = &self.met else {
            return match (self.ending, missed) {
                (Ending::FirstMissed, Some(missed)) => format!(
                    "Not even {from} meets {all}: {missed}; start at a lower level, or raise the \
                     objectives."
                ),
                _ => format!("The capacity is not known: {}.", self.reason()),
            };
        };
        let level = met.plan.level;
        let verb = is(level, "meets", "meet");
        let throughput = met.throughput_text();
        let beyond = match (self.ending, missed) {
            (Ending::LastMet, _) => {
                format!("this is the highest level of the search, so the capacity is at least {to}")
            }
            (Ending::Found, Some(missed)) => missed,
            (_, Some(missed)) => format!("{missed}; {}", self.reason()),
            (_, None) => self.reason(),
        };
        let interval = self.interval_text(spec);
        let knee = self.knee.map_or_else(String::new, |knee| format!(" {}", knee.sentence(met)));
        format!("{level} {verb} {all}; {beyond}; {throughput}{interval}.{knee}")
    }

    /// Returns why a search without a complete result ended, as the end of a sentence.
    fn reason(&self) -> String {
        match (self.ending, &self.distortion) {
            (Ending::Distorted | Ending::Limited, Some(cause)) => {
                format!("the last step does not count ({cause})")
            }
            (ending, _) => reason(ending).to_owned(),
        }
    }

    fn interval_text(&self, spec: &SearchSpec) -> String {
        let place = match self.interval {
            (Some(lower), Some(upper)) => format!("within {} to {upper}", short(lower)),
            (Some(lower), None) => format!("at least {lower}"),
            (None, Some(upper)) => format!("below {upper}"),
            (None, None) if self.is_out_of_proofs => {
                return format!("; no level has a proof after the limit of {MOST_PROOFS} steps");
            }
            (None, None) => return String::new(),
        };
        if self.is_confident(spec) {
            let limit = if self.is_out_of_proofs {
                format!(", after the limit of {MOST_PROOFS} steps for proofs")
            } else {
                String::new()
            };
            return format!("; 95 % confident: {place}{limit}");
        }
        format!(
            "; probably {place}, but steps of {} are too short for a confidence; use steps of {:.0} s",
            seconds(spec.step.as_secs_f64()),
            self.advised_step().as_secs_f64()
        )
    }
}

/// A short form for the log: `47 at a time (found)`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.met {
            Some(met) => write!(f, "{} meets the objectives", met.plan.level)?,
            None => f.write_str("no level meets the objectives")?,
        }
        write!(f, " ({})", self.ending.as_str())
    }
}

impl StepRecord {
    /// Returns the throughput of the step: `31.6 requests/s, 3,120 tokens/s`.
    fn throughput_text(&self) -> String {
        let result = &self.result;
        let requests = format!("{:.1} requests/s", result.requests_per_second);
        if result.tokens_per_second <= 0.0 {
            return requests;
        }
        let about = if result.tokens_are_estimated { "≈ " } else { "" };
        format!("{requests}, {about}{} tokens/s", separated(result.tokens_per_second))
    }
}

impl Knee {
    /// Returns the sentence about the knee of a search with this highest level that meets the
    /// objectives.
    fn sentence(&self, met: &StepRecord) -> String {
        format!(
            "Throughput stops growing at {}: {:.1} requests/s there, {:.1} requests/s at {}.",
            self.level, self.requests_per_second, self.highest_per_second, met.plan.level
        )
    }
}

/// Why a search ended, without the cause of a distortion.
fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::Found | Ending::FirstMissed | Ending::LastMet => "the search is complete",
        Ending::Undecided => {
            "no request could be judged, because the endpoint does not return the values that the \
             objectives limit"
        }
        Ending::Distorted => "llmload distorted the last step",
        Ending::Limited => "a limit in the configuration dropped arrivals of the last step",
        Ending::StepsTooShort => {
            "the requests take much longer than a step; use longer steps, at least as long as a \
             request"
        }
        Ending::OutOfSteps => {
            "the search reached its limit of steps, because the results of its steps contradict \
             each other; use longer steps"
        }
        Ending::Interrupted => "the search was stopped",
    }
}

/// Returns the name of an objective: `ttft p99`, `success`.
pub fn name(objective: &Objective) -> String {
    match objective.criterion {
        Criterion::Latency(metric, _) => format!("{} p{}", metric.as_str(), objective.share),
        Criterion::Success => "success".to_owned(),
    }
}

/// Returns an objective as a condition: `ttft p99 ≤ 1 s`, `success ≥ 99 %`.
pub fn condition(objective: &Objective) -> String {
    match objective.criterion {
        Criterion::Latency(_, threshold) => {
            format!("{} ≤ {}", name(objective), seconds(threshold.as_secs_f64()))
        }
        Criterion::Success => format!("success ≥ {} %", objective.share),
    }
}

/// Returns a level without its unit if the unit follows in the same sentence.
fn short(level: Level) -> String {
    match level {
        Level::Rate(rate) => rate.to_string(),
        Level::Concurrency(slots) => slots.to_string(),
    }
}

/// Returns a time with three significant digits: `312 ms`, `1.04 s`, `12 s`.
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = if seconds < 0.9995 { (seconds * 1e3, "ms") } else { (seconds, "s") };
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

fn percent(fraction: f64) -> String {
    // A rate below 100 % never prints as 100 %.
    let floor = (fraction * 1000.0).floor() / 10.0;
    format!("{floor} %")
}

/// Returns an integer with separators: `3,120`.
fn separated(number: f64) -> String {
    let digits = format!("{number:.0}");
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|digit| char::from(*digit)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_have_three_digits_and_separators() {
        assert_eq!(
            [0.0312, 0.312, 1.0, 1.04, 12.04, 250.0].map(seconds),
            ["31.2 ms", "312 ms", "1 s", "1.04 s", "12 s", "250 s"]
        );
        assert_eq!(
            [5.0, 999.0, 3120.4, 1_234_567.0].map(separated),
            ["5", "999", "3,120", "1,234,567"]
        );
        assert_eq!([1.0, 0.9999, 0.985].map(percent), ["100 %", "99.9 %", "98.5 %"]);
    }
}
