//! The result of a search, and its text for people.

use super::Search;
use super::level::Level;
use super::step::StepRecord;

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The levels next to the edge are as close as the resolution.
    Found,
    /// The lowest level misses an objective.
    FirstMissed,
    /// The highest level meets all objectives.
    LastMet,
    /// The only level that is left has too few requests for a proof.
    Undecided,
    /// llmload distorted the same step twice.
    Distorted,
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
            Ending::OutOfSteps => "out_of_steps",
            Ending::Interrupted => "interrupted",
        }
    }
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub ending: Ending,
    /// The best step at the highest level that meets all objectives, proven or not.
    pub met: Option<StepRecord>,
    /// The last step at the lowest level that does not meet them.
    pub missed: Option<StepRecord>,
    /// The interval that contains the capacity with a confidence of 95 %: the highest level that
    /// provenly meets the objectives, and the lowest level that provenly misses them.
    pub interval: (Option<Level>, Option<Level>),
}

impl Search {
    /// Returns the result so far, for a search that ends for this reason.
    pub fn outcome(&self, ending: Ending) -> Outcome {
        let last_at = |level: Level| {
            let valid = |step: &&StepRecord| step.plan.level == level && step.verdict.is_some();
            self.steps.iter().rfind(valid).cloned()
        };
        Outcome {
            ending,
            met: self.highest_met().and_then(last_at),
            missed: self.lowest_missed().and_then(last_at),
            interval: (self.highest_proven_success(), self.lowest_proven_miss()),
        }
    }
}
