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
//!    repeated there, and their requests are added. After three steps without a proof, the interval
//!    contains the level, and ends at a level with a proof that is further away.
//!
//! | module | idea |
//! |---|---|
//! | `batch` | the judged requests of a step, and the dependence between them |
//! | `binomial` | the exact tests of a percentage |
//! | `evidence` | the conclusion from all requests at one level |
//! | `level` | rates and concurrencies, and the levels between two of them |
//! | `limits` | the limits of a search, known before it begins |
//! | `measure` | the interface to the module that counts requests |
//! | `pace` | the lengths of a step, from the latency of the requests |
//! | `remaining` | the time that a search is expected to need |
//! | `step` | the plan and the result of one step |
//! | `outcome` | the result of a search |
//! | `text` | the texts for people |

mod batch;
mod binomial;
mod evidence;
mod level;
mod limits;
mod measure;
mod outcome;
mod pace;
mod remaining;
mod step;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use batch::{Batch, Batches, total};
pub use evidence::Verdict;
pub use level::Level;
use limits::{LONGEST, REPEATED};
pub use limits::{longest_time, most_requests, most_steps};
pub use measure::{MeasureSteps, StepWindow};
pub use outcome::{Capacity, Ending, Outcome};
pub use step::{Quantiles, Reason, StepPlan, StepRecord, StepResult};
pub use text::{condition, name, seconds};

use crate::schedule::SearchSpec;
use crate::slo::{Objective, Share};

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

/// The steps at one level.
#[derive(Clone, Debug)]
struct Evidence {
    looks: u32,
    /// One entry for each objective.
    judged: Vec<Batches>,
    /// The measured time, in seconds.
    measured: f64,
    /// The requests that ended in the measured time.
    ended: f64,
    /// The longest latency of a step, in seconds.
    latency: f64,
    verdict: Verdict,
}

/// If the latencies show that requests depend on each other, a proof of success needs a measured
/// time of this many requests, one after the other. A queue remembers its past for many requests,
/// and each step begins with an empty queue, which flatters the level. With this number, the
/// intervals of the simulated servers in the tests contain the true capacity as often as they
/// should.
const REQUESTS_OF_A_QUEUE: f64 = 72.0;

impl Evidence {
    /// Returns the conclusion about each objective.
    fn verdicts(&self, objectives: &[Objective]) -> Vec<Verdict> {
        let judged = objectives.iter().zip(&self.judged);
        let is_short = self.missing_time() > 0.0;
        let verdict = |(objective, batches): (&Objective, &Batches)| match evidence::judge(
            objective, batches,
        ) {
            Verdict::Met if is_short => Verdict::ProbablyMet,
            verdict => verdict,
        };
        judged.map(verdict).collect()
    }

    /// The measured time, in seconds, without which no success is proven.
    fn missing_time(&self) -> f64 {
        let missing = REQUESTS_OF_A_QUEUE * self.latency - self.measured;
        let has_queue = || self.judged.iter().any(|all| batch::effect_of_latencies(all) > 1.0);
        if missing > 0.0 && has_queue() { missing } else { 0.0 }
    }

    /// Returns true if no further step at this level can change the conclusion.
    fn is_final(&self) -> bool {
        self.verdict.is_proven() || self.looks >= evidence::MOST_LOOKS
    }
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
        if last.result.distortion_lasts {
            return Decision::End(Ending::Distorted);
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
            let evidence = self.levels.entry(plan.level).or_insert_with(|| Evidence {
                looks: 0,
                judged: vec![Batches::new(); objectives.len()],
                measured: 0.0,
                ended: 0.0,
                latency: 0.0,
                verdict: Verdict::NotJudged,
            });
            evidence.looks += 1;
            evidence.measured += result.measured.as_secs_f64();
            evidence.ended += result.ended_per_second * result.measured.as_secs_f64();
            for (all, new) in evidence.judged.iter_mut().zip(&result.judged) {
                all.extend_from_slice(new);
            }
            evidence.latency = evidence.latency.max(result.latency.unwrap_or_default());
            verdicts = evidence.verdicts(objectives);
            evidence.verdict = verdicts.iter().min().copied().unwrap_or(Verdict::NotJudged);
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

    /// Narrows the gap between the highest level that meets the objectives and the lowest level
    /// that misses them. When the gap is small, proves both ends.
    fn approach(&self, met: Level, missed: Level) -> Decision {
        if let Some(middle) = met.between(missed, self.spec.resolution) {
            return self.step(middle, Reason::Bisection);
        }
        let is_final = |level| self.levels.get(&level).is_some_and(Evidence::is_final);
        if !is_final(met) {
            return self.step(met, Reason::Repeat);
        }
        if !is_final(missed) {
            return self.step(missed, Reason::Repeat);
        }
        self.narrow().unwrap_or(Decision::End(Ending::Found))
    }

    /// Brings the ends of the interval closer to the capacity, by a coarse bisection. If the levels
    /// next to it remain without a proof, the interval ends at levels that are further away.
    fn narrow(&self) -> Option<Decision> {
        // The interval would have no confidence.
        if !self.has_long_steps() {
            return None;
        }
        let (_, to) = Level::ends(self.spec.range);
        let coarse = self.spec.resolution.doubled();
        let lowest = self.undecided().next()?;
        let highest = self.undecided().next_back()?;
        let lower = match self.highest_proven_success() {
            Some(success) => success.between(lowest, coarse),
            None => self.open_level_below(lowest, highest, coarse),
        };
        let upper = || match self.lowest_proven_miss() {
            Some(miss) => highest.between(miss, coarse),
            None => Some(highest.doubled(to)).filter(|level| *level > highest),
        };
        lower
            .map(|level| self.step(level, Reason::LowerEnd))
            .or_else(|| Some(self.step(upper()?, Reason::UpperEnd)))
    }

    fn prove(&self, level: Level, ending: Ending) -> Decision {
        match self.levels.get(&level) {
            Some(evidence) if !evidence.is_final() => self.step(level, Reason::Repeat),
            Some(evidence) if evidence.verdict == Verdict::NotJudged => {
                Decision::End(Ending::Undecided)
            }
            _ => Decision::End(ending),
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

    fn lowest_proven_miss(&self) -> Option<Level> {
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
            .filter(|(_, evidence)| evidence.is_final() && !evidence.verdict.is_proven());
        undecided.map(|(level, _)| *level).filter(is_between)
    }

    /// A level below the undecided levels at which a further step can bring a proof. Its distance
    /// grows with the square, so the search does not go down level by level.
    fn open_level_below(&self, lowest: Level, highest: Level, coarse: Share) -> Option<Level> {
        let quotient = (highest.value() / lowest.value()).powi(2).max(1.0 + coarse.as_f64());
        let open = || {
            let open = self.levels.iter().filter(|(_, evidence)| !evidence.is_final());
            open.map(|(level, _)| *level).filter(|level| *level < lowest)
        };
        let far = open().rfind(|level| level.value() * quotient <= lowest.value());
        far.or_else(|| open().next())
    }

    /// The highest level that provenly meets the objectives, below every proven miss.
    fn highest_proven_success(&self) -> Option<Level> {
        let missed = self.lowest_proven_miss();
        let below = |level: &Level| missed.is_none_or(|missed| *level < missed);
        let met = self.levels.iter().filter(|(_, evidence)| evidence.verdict == Verdict::Met);
        met.map(|(level, _)| *level).rfind(below)
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
