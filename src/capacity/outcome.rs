//! The result of a search, and its text for people.

use std::time::Duration;

use super::Search;
use super::batch::total;
use super::knee::Knee;
use super::level::Level;
use super::step::StepRecord;
use crate::schedule::{SearchRange, SearchSpec};
use crate::slo::ObjectiveCounts;

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The highest level that meets the objectives and the lowest that misses them are as close as
    /// the resolution.
    Found,
    /// The lowest level misses an objective.
    FirstMissed,
    /// The highest level meets all objectives.
    LastMet,
    /// The only level that is left has too few requests for a proof.
    Undecided,
    /// llmload distorted the same step again and again.
    Distorted,
    /// `rate_limits` or a budget dropped arrivals of the last step.
    Limited,
    /// A request takes longer than a step can settle.
    StepsTooShort,
    /// The search reached its limit of steps or of time.
    OutOfSteps,
    /// A stop, a reload or a manual rate ended the search.
    Interrupted,
}

impl Ending {
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Found => "found",
            Ending::FirstMissed => "first_missed",
            Ending::LastMet => "last_met",
            Ending::Undecided => "undecided",
            Ending::Distorted => "distorted",
            Ending::Limited => "limited",
            Ending::StepsTooShort => "steps_too_short",
            Ending::OutOfSteps => "out_of_steps",
            Ending::Interrupted => "interrupted",
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub ending: Ending,
    /// A step at the highest level that meets all objectives, proven or not.
    pub met: Option<StepRecord>,
    /// A step at the lowest level that does not meet them.
    pub missed: Option<StepRecord>,
    /// The highest level that provenly meets the objectives, and the lowest level that provenly
    /// misses them. The lower end is not above the rate at which the requests of its steps ended.
    pub interval: (Option<Level>, Option<Level>),
    /// The interval contains the capacity with a confidence of 95 % if `SearchSpec::step` is at
    /// least this long. In a shorter step, a queue can be too short to miss an objective.
    pub step_for_confidence: Duration,
    /// True if only the limit of proofs keeps the search from a narrower interval.
    pub is_out_of_proofs: bool,
    /// The level from which on throughput does not grow, if it is below `met`.
    pub knee: Option<Knee>,
    /// The way in which llmload distorted the last step, with the remedy.
    pub distortion: Option<String>,
}

impl Outcome {
    /// Returns true if the interval contains the capacity with a confidence of 95 %.
    pub fn is_confident(&self, spec: &SearchSpec) -> bool {
        spec.step >= self.step_for_confidence
    }

    /// Returns the length of steps that gives a confidence to the next search, in whole seconds. By
    /// chance, its requests can take longer than the requests of this search.
    pub(super) fn advised_step(&self) -> Duration {
        const RESERVE: f64 = 1.25;
        let seconds = (self.step_for_confidence.as_secs_f64() * RESERVE).ceil();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Search {
    /// Returns the result so far, for a search that ends for this reason.
    pub fn outcome(&self, ending: Ending) -> Outcome {
        // A step can contradict the conclusion from all steps at its level. Its values would then
        // contradict the sentence.
        let last_at = |level: Level, is_met: bool| {
            let valid = |step: &&StepRecord| step.plan.level == level && step.verdict.is_some();
            let agrees = |step: &&StepRecord| valid(step) && self.has_met(step) == is_met;
            self.steps.iter().rfind(agrees).or_else(|| self.steps.iter().rfind(valid)).cloned()
        };
        let interval = (
            self.highest_proven_success().map(|level| self.sustained(level)),
            self.lowest_proven_miss(),
        );
        Outcome {
            ending,
            met: self.highest_met().and_then(|level| last_at(level, true)),
            missed: self.lowest_missed().and_then(|level| last_at(level, false)),
            interval,
            step_for_confidence: self.step_for_confidence(),
            is_out_of_proofs: ending == Ending::Found && self.is_out_of_proofs(),
            knee: self.knee(),
            distortion: self.steps.last().and_then(|step| step.result.distortion.clone()),
        }
    }
}

impl Search {
    /// Returns the level, but at most the rate at which the requests of its steps ended. If more
    /// requests arrived than ended, a queue grew, and longer steps would have missed an objective.
    fn sustained(&self, level: Level) -> Level {
        match self.levels.get(&level) {
            // One request more can be in flight at the end than at the start.
            Some(at) if at.measured > 0.0 => level.at_most((at.ended + 1.0) / at.measured),
            _ => level,
        }
    }

    /// The requests per second that ended in the steps at a level. `None` without a request.
    pub(super) fn ended_per_second(&self, level: Level) -> Option<f64> {
        let at = self.levels.get(&level)?;
        (at.measured > 0.0 && at.ended > 0.0).then(|| at.ended / at.measured)
    }

    /// Returns true if the requests of this step alone met all objectives.
    fn has_met(&self, step: &StepRecord) -> bool {
        let mut objectives = self.spec.slo.objectives.iter().zip(&step.result.judged);
        objectives.all(|(objective, batches)| {
            let ObjectiveCounts { judged, met } = total(batches);
            objective.share.is_reached(met, judged)
        })
    }
}

/// The capacity that a search has found. It is 0 if not even the lowest level meets the objectives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    pub requests_per_second: f64,
    /// `None` after a search by rate.
    pub concurrency: Option<f64>,
}

impl Outcome {
    /// Returns the capacity. `None` if the search found none, for example because it was stopped.
    pub fn capacity(&self, range: SearchRange) -> Option<Capacity> {
        let level = self.met.as_ref().map(|met| met.plan.level);
        let is_known = match self.ending {
            Ending::Found | Ending::LastMet | Ending::FirstMissed => true,
            Ending::OutOfSteps => level.is_some(),
            Ending::Undecided
            | Ending::Distorted
            | Ending::Limited
            | Ending::StepsTooShort
            | Ending::Interrupted => false,
        };
        let throughput = self.met.as_ref().map_or(0.0, |met| met.result.requests_per_second);
        is_known.then(|| match (range, level) {
            (SearchRange::Rate { .. }, level) => {
                Capacity { requests_per_second: level.map_or(0.0, Level::value), concurrency: None }
            }
            (SearchRange::Concurrency { .. }, level) => Capacity {
                requests_per_second: throughput,
                concurrency: Some(level.map_or(0.0, Level::value)),
            },
        })
    }
}
