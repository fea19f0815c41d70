//! The evidence about one level: the judged requests of all its steps, and the conclusion from
//! them.

use std::time::Duration;

use super::batch::{Batch, Batches, effect_of_latencies, effect_of_misses, total};
use super::binomial::{Sample, fewest_to_prove};
use super::step::StepResult;
use crate::slo::{Objective, ObjectiveCounts, Share};

/// The probability that an interval does not contain the true capacity: 5 %, so the confidence is
/// 95 %.
const ERROR: f64 = 0.05;
/// The most steps at one level. The conclusion is drawn anew after each of them.
pub(super) const MOST_LOOKS: u32 = 3;
/// After this many steps at a level, the search can foresee that a further step brings no proof.
/// The first step is too short for it.
const LOOKS_TO_FORESEE: u32 = 2;
/// The probability of a wrong proof in one look. The error of the interval is divided equally
/// between its two ends, and the error of each end between the looks (the inequality of
/// Bonferroni).
#[allow(clippy::cast_lossless)]
const ERROR_PER_LOOK: f64 = ERROR / 2.0 / MOST_LOOKS as f64;
/// The largest fraction that a proof uses. An objective that requires a larger fraction counts as
/// proven if a sample proves this fraction, because no sample can prove that no request ever misses
/// an objective.
const MOST_PROVABLE: Share = Share::permille(999);
const EVERY_REQUEST: Share = Share::percent(100);

/// The conclusion about a level or about one of its objectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The sample proves that the objective is missed.
    Missed,
    /// In the sample, too few requests met the objective. The sample is too small for a proof.
    ProbablyMissed,
    /// No request had the value that the objective judges.
    NotJudged,
    /// In the sample, enough requests met the objective. The sample is too small for a proof.
    ProbablyMet,
    /// The sample proves that the objective is met.
    Met,
}

impl Verdict {
    /// Returns true for a proof, in either direction.
    pub fn is_proven(self) -> bool {
        matches!(self, Verdict::Met | Verdict::Missed)
    }

    /// Returns true if the requests met the objective, proven or not.
    pub fn is_met(self) -> bool {
        matches!(self, Verdict::Met | Verdict::ProbablyMet)
    }

    /// Returns true if the requests missed an objective, proven or not.
    pub fn is_missed(self) -> bool {
        matches!(self, Verdict::Missed | Verdict::ProbablyMissed)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Missed => "missed",
            Verdict::ProbablyMissed => "probably_missed",
            Verdict::NotJudged => "not_judged",
            Verdict::ProbablyMet => "probably_met",
            Verdict::Met => "met",
        }
    }
}

/// The steps at one level.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub looks: u32,
    /// One entry for each objective.
    pub judged: Vec<Batches>,
    /// The measured time, in seconds.
    pub measured: f64,
    /// The requests that ended in the measured time.
    pub ended: f64,
    /// The longest latency of a step, in seconds.
    pub latency: f64,
    pub verdict: Verdict,
    /// True if no further step at this level can change the conclusion.
    pub is_final: bool,
}

/// If the latencies show that requests depend on each other, a proof of success needs a measured
/// time of this many requests, one after the other. A queue remembers its past for many requests,
/// and each step begins with an empty queue, which flatters the level. With this number, the
/// intervals of the simulated servers in the tests contain the true capacity as often as they
/// should.
pub(super) const REQUESTS_OF_A_QUEUE: f64 = 72.0;

impl Evidence {
    pub fn new(objectives: usize) -> Evidence {
        Evidence {
            looks: 0,
            judged: vec![Batches::new(); objectives],
            measured: 0.0,
            ended: 0.0,
            latency: 0.0,
            verdict: Verdict::NotJudged,
            is_final: false,
        }
    }

    /// Adds the result of a step. Returns the conclusion about each objective. `longest` is the
    /// longest measured time of a further step.
    pub fn add(
        &mut self,
        result: &StepResult,
        objectives: &[Objective],
        longest: Duration,
    ) -> Vec<Verdict> {
        self.looks += 1;
        self.measured += result.measured.as_secs_f64();
        self.ended += result.ended_per_second * result.measured.as_secs_f64();
        for (all, new) in self.judged.iter_mut().zip(&result.judged) {
            all.extend_from_slice(new);
        }
        self.latency = self.latency.max(result.latency.unwrap_or_default());
        let verdicts = self.verdicts(objectives);
        self.verdict = verdicts.iter().min().copied().unwrap_or(Verdict::NotJudged);
        self.is_final = self.verdict.is_proven()
            || self.looks >= MOST_LOOKS
            || self.looks >= LOOKS_TO_FORESEE && !self.can_be_proven(objectives, longest);
        verdicts
    }

    /// Returns true if the remaining steps at this level can bring a proof, as far as the steps so
    /// far show: with the same percentage of requests that meet the objective, and the same
    /// dependence between them.
    fn can_be_proven(&self, objectives: &[Objective], longest: Duration) -> bool {
        let steps = MOST_LOOKS.saturating_sub(self.looks);
        let factor = 1.0 + f64::from(steps) * longest.as_secs_f64() / self.measured.max(1e-9);
        let mut judged = objectives.iter().zip(&self.judged);
        judged.all(|(objective, batches)| judge_more(objective, batches, factor).is_proven())
    }

    /// Returns the conclusion about each objective.
    fn verdicts(&self, objectives: &[Objective]) -> Vec<Verdict> {
        let judged = objectives.iter().zip(&self.judged);
        let is_short = self.missing_time() > 0.0;
        let verdict = |(objective, batches): (&Objective, &Batches)| match judge(objective, batches)
        {
            Verdict::Met if is_short => Verdict::ProbablyMet,
            verdict => verdict,
        };
        judged.map(verdict).collect()
    }

    /// The measured time, in seconds, without which no success is proven.
    pub fn missing_time(&self) -> f64 {
        let missing = REQUESTS_OF_A_QUEUE * self.latency - self.measured;
        let has_queue = || self.judged.iter().any(|all| effect_of_latencies(all) > 1.0);
        if missing > 0.0 && has_queue() { missing } else { 0.0 }
    }
}

/// Judges one objective by the requests of all batches.
pub(super) fn judge(objective: &Objective, batches: &[Batch]) -> Verdict {
    judge_more(objective, batches, 1.0)
}

/// Judges one objective as if `factor` times as many requests had the same results.
fn judge_more(objective: &Objective, batches: &[Batch], factor: f64) -> Verdict {
    let ObjectiveCounts { judged, met } = total(batches);
    if judged == 0 {
        return Verdict::NotJudged;
    }
    let required = objective.share.min(MOST_PROVABLE).as_f64();
    let is_reached = objective.share.is_reached(met, judged);
    // Few or no misses say nothing about the dependence between misses. Many do.
    let effect = effect_of_misses(batches);
    let effect = if is_reached { effect.max(effect_of_latencies(batches)) } else { effect };
    let weight = factor / effect;
    let sample = Sample { judged: real(judged) * weight, met: real(met) * weight };
    match is_reached {
        true if sample.proves_met(required, ERROR_PER_LOOK) => Verdict::Met,
        true => Verdict::ProbablyMet,
        // One miss disproves an objective of 100 %.
        false if objective.share == EVERY_REQUEST => Verdict::Missed,
        false if sample.proves_missed(required, ERROR_PER_LOOK) => Verdict::Missed,
        false => Verdict::ProbablyMissed,
    }
}

/// Returns the conclusion about a level, which must meet all objectives. `batches` has one entry
/// for each objective.
pub(super) fn judge_all(objectives: &[Objective], batches: &[Batches]) -> Verdict {
    let verdicts =
        objectives.iter().zip(batches).map(|(objective, counts)| judge(objective, counts));
    verdicts.min().unwrap_or(Verdict::NotJudged)
}

/// Returns the lowest number of requests that can prove that a level meets all objectives.
pub(super) fn fewest_requests(objectives: &[Objective]) -> u64 {
    fewest_to_prove(strictest(objectives), ERROR_PER_LOOK)
}

/// Returns the size of the smallest sample that still meets the strictest objective if one request
/// misses it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn requests_per_miss(objectives: &[Objective]) -> u64 {
    /// Larger than the rounding error of the quotient.
    const ROUNDING: f64 = 1e-6;
    (1.0 / (1.0 - strictest(objectives)) - ROUNDING).ceil() as u64
}

fn strictest(objectives: &[Objective]) -> f64 {
    let shares = objectives.iter().map(|objective| objective.share.min(MOST_PROVABLE).as_f64());
    shares.fold(0.5, f64::max)
}

#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::Criterion;

    fn objective(share: f64) -> Objective {
        Objective { criterion: Criterion::Success, share: Share::new(share).unwrap() }
    }

    fn batches(counts: &[(u64, u64)]) -> Batches {
        counts.iter().map(|&(judged, met)| ObjectiveCounts { judged, met }.into()).collect()
    }

    #[test]
    fn a_level_is_proven_only_by_enough_requests() {
        let p99 = objective(0.99);
        let verdict = |counts: &[(u64, u64)]| judge(&p99, &batches(counts));
        assert_eq!(verdict(&[(100, 100)]), Verdict::ProbablyMet);
        assert_eq!(verdict(&[(600, 600)]), Verdict::Met);
        assert_eq!(verdict(&[(100, 98)]), Verdict::ProbablyMissed);
        assert_eq!(verdict(&[(100, 90)]), Verdict::Missed);
        assert_eq!(verdict(&[]), Verdict::NotJudged);
        assert_eq!(fewest_requests(&[p99]), 477);
        assert_eq!(requests_per_miss(&[p99, objective(0.5)]), 100);
    }

    #[test]
    fn misses_that_cluster_prove_less_than_spread_misses() {
        let p90 = objective(0.9);
        let spread = batches(&[(100, 82); 10]);
        let mut clustered = batches(&[(100, 100); 10]);
        (clustered[3].counts.met, clustered[4].counts.met) = (10, 10);
        assert_eq!(total(&spread), total(&clustered));
        assert_eq!(judge(&p90, &spread), Verdict::Missed);
        assert_eq!(judge(&p90, &clustered), Verdict::ProbablyMissed);
    }

    #[test]
    fn a_level_is_as_good_as_its_worst_objective() {
        let objectives = [objective(0.99), objective(0.5)];
        let good = batches(&[(1000, 1000)]);
        let bad = batches(&[(1000, 100)]);
        assert_eq!(judge_all(&objectives, &[good.clone(), good.clone()]), Verdict::Met);
        assert_eq!(judge_all(&objectives, &[good.clone(), bad]), Verdict::Missed);
        assert_eq!(judge_all(&objectives, &[good, batches(&[])]), Verdict::NotJudged);
        let one_miss = [batches(&[(100_000, 99_999)])];
        assert_eq!(judge_all(&[objective(1.0)], &one_miss), Verdict::Missed);
    }
}
