//! The evidence about one level: the judged requests of all its steps, and the conclusion from
//! them.

use super::batch::{Batch, Batches, effect_of_latencies, effect_of_misses, total};
use super::binomial::{Sample, fewest_to_prove};
use crate::slo::{Objective, ObjectiveCounts, Share};

/// The probability that an interval does not contain the true capacity: 5 %, so the confidence is
/// 95 %.
const ERROR: f64 = 0.05;
/// The most steps at one level. The conclusion is drawn anew after each of them.
pub(super) const MOST_LOOKS: u32 = 3;
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

/// Judges one objective by the requests of all batches.
pub(super) fn judge(objective: &Objective, batches: &[Batch]) -> Verdict {
    let ObjectiveCounts { judged, met } = total(batches);
    if judged == 0 {
        return Verdict::NotJudged;
    }
    let required = objective.share.min(MOST_PROVABLE).as_f64();
    let is_reached = objective.share.is_reached(met, judged);
    // Few or no misses say nothing about the dependence between misses. Many do.
    let effect = effect_of_misses(batches);
    let effect = if is_reached { effect.max(effect_of_latencies(batches)) } else { effect };
    let sample = Sample { judged: real(judged) / effect, met: real(met) / effect };
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
