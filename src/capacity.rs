//! The search for the capacity of a target: the highest rate, or the highest number of requests in
//! flight, that meets the objectives.
//!
//! A [`Search`] decides, and does nothing else: [`Search::next`] returns the step to run, and
//! [`Search::record`] takes the result. It reads no clock and sends no request.
//!
//! 1. Growth: from the lowest level on, the level doubles until a step misses an objective.
//! 2. Bisection: the next level is halfway (geometrically) between the highest level that meets the
//!    objectives and the lowest level that misses them, until both are as close as the resolution.
//! 3. Proof: a step passes or fails by an exact binomial test, see `binomial` and `evidence`. If a
//!    level has too few requests for a proof, or too short a measured time, longer steps are
//!    repeated there, and their requests are added. If they bring no proof, the interval contains
//!    the level, and ends at a level with a proof that is further away. The number of these steps
//!    is limited.
//!
//! | module | idea |
//! |---|---|
//! | `batch` | the judged requests of a step, and the dependence between them |
//! | `binomial` | the exact tests of a percentage |
//! | `evidence` | the conclusion from all requests at one level |
//! | `level` | rates and concurrencies, and the levels between two of them |
//! | `limits` | the limits of a search, known before it begins |
//! | `measure` | the interface to the module that counts requests |
//! | `knee` | the level from which on throughput does not grow |
//! | `pace` | the lengths of a step, from the latency of the requests |
//! | `proof` | the steps that bring the ends of the interval closer to the capacity |
//! | `remaining` | the time that a search is expected to need |
//! | `step` | the plan and the result of one step |
//! | `outcome` | the result of a search |
//! | `text` | the texts for people |

mod batch;
mod binomial;
mod evidence;
mod knee;
mod level;
mod limits;
mod measure;
mod outcome;
mod pace;
mod proof;
mod remaining;
mod step;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use batch::{Batch, Batches, total};
pub use binomial::proves_miss;
use evidence::Evidence;
pub use evidence::Verdict;
pub use knee::Knee;
pub use level::Level;
use limits::{LONGEST, REPEATED};
pub use limits::{longest_time, most_requests, most_steps};
pub use measure::{MeasureSteps, StepWindow};
pub use outcome::{Capacity, Ending, Outcome};
pub use step::{Limit, Quantiles, Reason, StepPlan, StepRecord, StepResult};
pub use text::{condition, name, seconds};

use crate::schedule::SearchSpec;

/// After this many distorted steps in a row, the search ends.
const MOST_DISTORTED: usize = 3;

/// The next action of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run this step.
    Step(StepPlan),
    /// The search has ended.
    End(Ending),
}

/// A search for the highest level that meets all objectives.
#[derive(Clone, Debug)]
pub struct Search {
    spec: Arc<SearchSpec>,
    steps: Vec<StepRecord>,
    levels: BTreeMap<Level, Evidence>,
    elapsed: Duration,
}

impl Search {
    pub fn new(spec: Arc<SearchSpec>) -> Search {
        Search { spec, steps: Vec::new(), levels: BTreeMap::new(), elapsed: Duration::ZERO }
    }

    pub fn spec(&self) -> &Arc<SearchSpec> {
        &self.spec
    }

    /// The steps that have ended.
    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    /// Decides how the search continues.
    pub fn next(&self) -> Decision {
        let (from, to) = Level::ends(self.spec.range);
        let Some(last) = self.steps.last() else { return self.step(from, Reason::First) };
        if self.steps.iter().rev().take_while(|step| is_distorted(step)).count() >= MOST_DISTORTED {
            return Decision::End(Ending::Distorted);
        }
        if self.steps.len() >= most_steps(&self.spec) || self.elapsed >= longest_time(&self.spec) {
            return Decision::End(self.ending_without_steps());
        }
        if last.result.limit.is_some() {
            return Decision::End(Ending::Limited);
        }
        if is_distorted(last) {
            return Decision::Step(StepPlan { reason: Reason::Distorted, ..last.plan });
        }
        if last.is_unsettled {
            let again = self.settled_again(last);
            return again.map_or(Decision::End(Ending::StepsTooShort), Decision::Step);
        }
        match (self.highest_met(), self.lowest_missed()) {
            (None, None) => self.step(from, Reason::First),
            (None, Some(missed)) => self.prove(missed, Ending::FirstMissed),
            (Some(met), None) if met == to => self.prove(met, Ending::LastMet),
            (Some(met), None) => self.step(met.doubled(to), Reason::Growth),
            (Some(met), Some(missed)) => self.approach(met, missed),
        }
    }

    /// Adds the result of the step that [`Search::next`] returned.
    pub fn record(&mut self, plan: StepPlan, result: StepResult) -> &StepRecord {
        self.elapsed += result.elapsed;
        let objectives = &self.spec.slo.objectives;
        let (mut verdict, mut verdicts) = (None, Vec::new());
        let is_unsettled = self.is_unsettled(&plan, &result);
        if result.distortion.is_none() && !is_unsettled {
            let new = || Evidence::new(objectives.len());
            let evidence = self.levels.entry(plan.level).or_insert_with(new);
            verdicts = evidence.add(&result, objectives, self.spec.step * LONGEST);
            verdict = Some(evidence.verdict);
        }
        self.steps.push(StepRecord { plan, result, is_unsettled, verdict, verdicts });
        // The record was pushed in the line above.
        &self.steps[self.steps.len() - 1]
    }

    /// The ending of a search that can take no further step. If the gap is small enough, only
    /// proofs are missing, and the interval shows this.
    fn ending_without_steps(&self) -> Ending {
        match (self.highest_met(), self.lowest_missed()) {
            (Some(met), Some(missed)) if met.between(missed, self.spec.resolution).is_none() => {
                Ending::Found
            }
            _ => Ending::OutOfSteps,
        }
    }

    /// The highest level that meets the objectives, below every level that misses them.
    fn highest_met(&self) -> Option<Level> {
        let missed = self.lowest_missed();
        let below = |level: &Level| missed.is_none_or(|missed| *level < missed);
        let met = self.levels.iter().filter(|(_, evidence)| evidence.verdict.is_met());
        met.map(|(level, _)| *level).rfind(below)
    }

    fn lowest_missed(&self) -> Option<Level> {
        let mut missed = self.levels.iter().filter(|(_, evidence)| !evidence.verdict.is_met());
        missed.next().map(|(level, _)| *level)
    }

    fn step(&self, level: Level, reason: Reason) -> Decision {
        let (objectives, step) = (&self.spec.slo.objectives, self.spec.step);
        let (shortest, requests) = match reason {
            Reason::Repeat | Reason::LowerEnd | Reason::UpperEnd => {
                let shortest = (step * REPEATED).max(self.missing_time(level));
                (shortest, 2 * evidence::fewest_requests(objectives))
            }
            _ => (step, evidence::requests_per_miss(objectives)),
        };
        Decision::Step(StepPlan {
            level,
            reason,
            settle: self.settle(level),
            shortest: self.shortest(level, shortest),
            longest: step * LONGEST,
            requests,
        })
    }
}

fn is_distorted(step: &StepRecord) -> bool {
    step.result.distortion.is_some()
}

#[cfg(test)]
mod tests;
