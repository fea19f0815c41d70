//! One step of a search: the plan before it runs, and the result after it.

use std::time::Duration;

use super::batch::{Batch, Batches, total};
use super::evidence::{self, Verdict};
use super::level::Level;
use crate::slo::{Objective, ObjectiveCounts};

/// The number of batches into which the shortest time of a step is divided.
const BATCHES: u32 = 24;

/// Why the search chose the level of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The first step, at the lowest level.
    First,
    /// Every level so far met the objectives, so the level is doubled.
    Growth,
    /// The level is halfway between the highest level that meets the objectives and the lowest
    /// level that misses them.
    Bisection,
    /// The level meets or misses the objectives by too few requests to prove it.
    Repeat,
    /// The level brings the lower end of the interval closer to the capacity.
    LowerEnd,
    /// The level brings the upper end of the interval closer to the capacity.
    UpperEnd,
    /// llmload distorted the previous step, so the step is repeated.
    Distorted,
    /// The requests of the previous step took longer than its time to settle, so the step is
    /// repeated with a longer time.
    Unsettled,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::First => "first",
            Reason::Growth => "growth",
            Reason::Bisection => "bisection",
            Reason::Repeat => "repeat",
            Reason::LowerEnd => "lower_end",
            Reason::UpperEnd => "upper_end",
            Reason::Distorted => "distorted",
            Reason::Unsettled => "unsettled",
        }
    }

    /// Returns true if the step is long enough for a proof.
    pub(super) fn is_proof(self) -> bool {
        matches!(self, Reason::Repeat | Reason::LowerEnd | Reason::UpperEnd)
    }
}

/// A limit in the configuration of llmload that dropped arrivals of a step. It would also drop
/// arrivals of a repeated step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `rate_limits` of the target.
    Rate,
    /// A budget of the scenario.
    Budget,
}

impl Limit {
    /// The key in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Rate => "rate_limits",
            Limit::Budget => "budgets",
        }
    }
}

/// A step to run: first a time to settle, which is not measured, and then a measured time.
///
/// The measured time ends when `shortest` has passed and `requests` arrivals were due, but at the
/// latest after `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPlan {
    pub level: Level,
    pub reason: Reason,
    pub settle: Duration,
    pub shortest: Duration,
    pub longest: Duration,
    pub requests: u64,
}

impl StepPlan {
    /// Returns the length of the measured time at a constant rate; `None` for a closed loop, whose
    /// rate depends on the target.
    pub fn measured_time(&self) -> Option<Duration> {
        let Level::Rate(rate) = self.level else { return None };
        #[allow(clippy::cast_precision_loss)]
        let needed = self.requests as f64 / rate.per_second();
        let needed = Duration::try_from_secs_f64(needed).unwrap_or(self.longest);
        Some(needed.clamp(self.shortest, self.longest))
    }

    /// The length of one batch. Requests that are due in the same batch are counted together.
    pub fn batch(&self) -> Duration {
        (self.shortest / BATCHES).max(Duration::from_nanos(1))
    }

    /// Returns the index of the last batch that a step can have.
    pub fn last_batch(&self) -> u128 {
        self.longest.max(self.shortest).as_nanos() / self.batch().as_nanos()
    }

    /// Returns true if the objectives cannot be met any more: even if all the remaining planned
    /// requests meet them, the step proves that the level misses an objective. This is a decision
    /// by count, so a long stall in an early part of a step is no reason to stop.
    ///
    /// `judged` has one entry for each objective. `planned` is the number of requests in the
    /// measured time.
    pub fn is_hopeless(&self, objectives: &[Objective], judged: &[Batches], planned: u64) -> bool {
        objectives.iter().zip(judged).any(|(objective, batches)| {
            let ObjectiveCounts { judged, met } = total(batches);
            let missed = judged - met;
            let allowed = planned.saturating_sub(objective.share.needed(planned));
            missed > allowed && {
                let filled = self.filled(batches, planned);
                evidence::judge(objective, &filled) == Verdict::Missed
            }
        })
    }

    /// Returns the counts of a step that ended early, as if all the remaining planned requests had
    /// met the objective. So a step that ends early never looks worse than a complete step.
    pub fn filled(&self, batches: &[Batch], planned: u64) -> Batches {
        let mut filled = batches.to_vec();
        let expected = usize::try_from(self.expected_batches()).unwrap_or(usize::MAX);
        let rest = planned.saturating_sub(total(batches).judged);
        if rest == 0 {
            return filled;
        }
        let empty = expected.saturating_sub(filled.len()).max(1);
        let part = |index: usize| {
            let (index, empty) = (u64::try_from(index), u64::try_from(empty));
            let (index, empty) = (index.unwrap_or(u64::MAX), empty.unwrap_or(u64::MAX));
            rest / empty + u64::from(index < rest % empty)
        };
        filled.extend((0..empty).map(|index| {
            let judged = part(index);
            Batch::from(ObjectiveCounts { judged, met: judged })
        }));
        filled
    }

    fn expected_batches(&self) -> u128 {
        let length = self.measured_time().unwrap_or(self.shortest);
        length.as_nanos().div_ceil(self.batch().as_nanos())
    }
}

/// Three quantiles of a latency, in seconds. `None` if there are too few values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantiles {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
}

/// The measured part of a step. Its requests are the requests that were due in the measured time,
/// including those that ended later, while llmload waited for the end of the last request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepResult {
    /// The length of the step with all its parts, in particular the wait for the last request.
    pub elapsed: Duration,
    /// The length of the measured time.
    pub measured: Duration,
    /// The number of requests that were due in the measured time.
    pub requests: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// The number of arrivals that llmload dropped because `max_concurrency` requests were in
    /// flight. The target did not keep up, so these arrivals miss every objective.
    pub dropped: u64,
    /// The number of arrivals that llmload dropped for any reason.
    pub all_dropped: u64,
    /// The judged requests, one entry for each objective.
    pub judged: Vec<Batches>,
    /// The measured quantile of each objective in seconds, and the success rate as a fraction.
    pub observed: Vec<Option<f64>>,
    /// True if the step ended before its planned time, because it was hopeless.
    pub is_cut_short: bool,
    /// The way in which llmload distorted the step.
    pub distortion: Option<String>,
    /// The limit that dropped arrivals of the step, if this is the distortion.
    pub limit: Option<Limit>,
    /// The requests that failed in llmload or its machine in any part of the step.
    pub failed_in_client: u64,
    /// The p90 of the duration of the successes in all parts of the step, in seconds; the longest
    /// duration if there are fewer than ten.
    pub latency: Option<f64>,
    /// Requests per second that ended in the measured time, successful or not, whenever they were
    /// due.
    pub ended_per_second: f64,
    /// Successes per second in the measured time, whenever they were due. At a rate: those that
    /// ended in it. In a closed loop, each success counts by the part of its duration that is in
    /// the measured time.
    pub requests_per_second: f64,
    /// Output tokens per second of the same successes.
    pub tokens_per_second: f64,
    /// True if the endpoint does not count tokens, so llmload counted events with text instead.
    pub tokens_are_estimated: bool,
    pub time_to_first_token: Quantiles,
    pub time_per_output_token: Quantiles,
    pub request_duration: Quantiles,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    pub plan: StepPlan,
    pub result: StepResult,
    /// True if the requests took longer than the time to settle, so the step does not count.
    pub is_unsettled: bool,
    /// The conclusion from this step and all earlier steps at the same level. `None` if the step
    /// does not count.
    pub verdict: Option<Verdict>,
    /// The conclusions for each objective.
    pub verdicts: Vec<Verdict>,
}

impl StepRecord {
    /// Returns true if the level has met the objectives so far, proven or not.
    pub(super) fn has_met(&self) -> bool {
        self.verdict.is_some_and(Verdict::is_met)
    }
}
