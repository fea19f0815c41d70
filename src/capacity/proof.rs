//! The proofs of a search. They bring the ends of the interval closer to the capacity.
//!
//! Near the capacity, requests wait in a queue and so depend on each other. A proof can then need
//! many long steps, so their number is limited. After the limit, the interval ends at the levels
//! that have a proof.

use super::evidence::Verdict;
use super::limits::MOST_PROOFS;
use super::{Decision, Ending, Level, Reason, Search, StepRecord};
use crate::slo::Share;

impl Search {
    /// Narrows the gap between the highest level that meets the objectives and the lowest level
    /// that misses them. When the gap is small, proves both ends.
    pub(super) fn approach(&self, met: Level, missed: Level) -> Decision {
        if let Some(middle) = met.between(missed, self.spec.resolution) {
            return self.step(middle, Reason::Bisection);
        }
        match self.next_proof(met, missed) {
            Some((level, reason)) if self.proofs_left() > 0 => self.step(level, reason),
            _ => Decision::End(Ending::Found),
        }
    }

    /// Proves the only end of the range that the search has reached.
    pub(super) fn prove(&self, level: Level, ending: Ending) -> Decision {
        match self.levels.get(&level) {
            Some(evidence) if !evidence.is_final && self.proofs_left() > 0 => {
                self.step(level, Reason::Repeat)
            }
            Some(evidence) if evidence.verdict == Verdict::NotJudged => {
                Decision::End(Ending::Undecided)
            }
            _ => Decision::End(ending),
        }
    }

    /// The number of further steps for proofs. A repetition of a step that does not count is none.
    pub(super) fn proofs_left(&self) -> u32 {
        let is_proof = |step: &&StepRecord| step.plan.reason.is_proof();
        let proofs = self.steps.iter().filter(is_proof).count();
        MOST_PROOFS.saturating_sub(u32::try_from(proofs).unwrap_or(u32::MAX))
    }

    /// Returns true if only the limit of proofs keeps the search from a narrower interval.
    pub(super) fn is_out_of_proofs(&self) -> bool {
        let ends = self.highest_met().zip(self.lowest_missed());
        self.proofs_left() == 0
            && ends.is_some_and(|(met, missed)| {
                met.between(missed, self.spec.resolution).is_none()
                    && self.next_proof(met, missed).is_some()
            })
    }

    /// Returns the next step for a proof of the ends of a small gap.
    pub(super) fn next_proof(&self, met: Level, missed: Level) -> Option<(Level, Reason)> {
        let is_open = |level: &Level| self.levels.get(level).is_none_or(|at| !at.is_final);
        let open = [met, missed].into_iter().find(is_open);
        open.map(|level| (level, Reason::Repeat)).or_else(|| self.narrow())
    }

    /// Brings the ends of the interval closer to the capacity, by a coarse bisection. If the levels
    /// next to it remain without a proof, the interval ends at levels that are further away.
    fn narrow(&self) -> Option<(Level, Reason)> {
        // The interval would have no confidence.
        if !self.has_long_steps() {
            return None;
        }
        let (_, to) = Level::ends(self.spec.range);
        let coarse = self.spec.resolution.doubled();
        let lowest = self.undecided().next()?;
        let highest = self.undecided().next_back()?;
        let (success, miss) = (self.highest_proven_success(), self.lowest_proven_miss());
        let lower = match success {
            Some(success) => success.between(lowest, coarse),
            None => self.open_level_below(lowest, highest, coarse),
        };
        let upper = match miss {
            Some(miss) => highest.between(miss, coarse),
            None => Some(highest.doubled(to)).filter(|level| *level > highest),
        };
        let lower = lower.map(|level| (level, Reason::LowerEnd));
        let upper = upper.map(|level| (level, Reason::UpperEnd));
        // An end that is missing comes first, because the number of proofs is limited.
        if success.is_some() && miss.is_none() { upper.or(lower) } else { lower.or(upper) }
    }

    pub(super) fn lowest_proven_miss(&self) -> Option<Level> {
        let mut missed =
            self.levels.iter().filter(|(_, evidence)| evidence.verdict == Verdict::Missed);
        missed.next().map(|(level, _)| *level)
    }

    /// The levels that remain without a proof, between the highest proven success and the lowest
    /// proven miss.
    fn undecided(&self) -> impl DoubleEndedIterator<Item = Level> + '_ {
        let (met, missed) = (self.highest_proven_success(), self.lowest_proven_miss());
        let is_between = move |level: &Level| {
            met.is_none_or(|met| *level > met) && missed.is_none_or(|missed| *level < missed)
        };
        let undecided = self
            .levels
            .iter()
            .filter(|(_, evidence)| evidence.is_final && !evidence.verdict.is_proven());
        undecided.map(|(level, _)| *level).filter(is_between)
    }

    /// A level below the undecided levels at which a further step can bring a proof. Its distance
    /// grows with the square, so the search does not go down level by level.
    fn open_level_below(&self, lowest: Level, highest: Level, coarse: Share) -> Option<Level> {
        let quotient = (highest.value() / lowest.value()).powi(2).max(1.0 + coarse.as_f64());
        let open = || {
            let open = self.levels.iter().filter(|(_, evidence)| !evidence.is_final);
            open.map(|(level, _)| *level).filter(|level| *level < lowest)
        };
        let far = open().rfind(|level| level.value() * quotient <= lowest.value());
        far.or_else(|| open().next())
    }

    /// The highest level that provenly meets the objectives, below every proven miss.
    pub(super) fn highest_proven_success(&self) -> Option<Level> {
        let missed = self.lowest_proven_miss();
        let below = |level: &Level| missed.is_none_or(|missed| *level < missed);
        let met = self.levels.iter().filter(|(_, evidence)| evidence.verdict == Verdict::Met);
        met.map(|(level, _)| *level).rfind(below)
    }
}
