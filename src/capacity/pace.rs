//! The lengths of a step, which follow from the latency of the requests in earlier steps.
//!
//! A request that is due just after the start of a step finds an empty target, so its latency
//! flatters the level. In a measured time that is shorter than a request, the throughput depends on
//! chance. So both times are at least as long as some requests.

use std::time::Duration;

use super::evidence::{Evidence, MOST_LOOKS, REQUESTS_OF_A_QUEUE};
use super::limits::{LONGEST, LONGEST_SETTLE};
use super::step::{StepPlan, StepRecord, StepResult};
use super::{Level, Search, evidence};

/// The time to settle is this many times as long as a request.
const REQUESTS_TO_SETTLE: f64 = 2.0;
/// The measured time is at least this many times as long as a request.
const REQUESTS_TO_MEASURE: f64 = 4.0;
/// The measured time of all steps at a level, in `SearchSpec::step`, if it must be long.
#[allow(clippy::cast_lossless)]
const STEPS_AT_A_LEVEL: f64 = (1 + LONGEST * (MOST_LOOKS - 1)) as f64;
/// A confidence needs a `SearchSpec::step` of this many requests, one after the other. Then the
/// steps at a level are long enough for a proof although requests depend on each other.
const REQUESTS_FOR_CONFIDENCE: f64 = REQUESTS_OF_A_QUEUE / STEPS_AT_A_LEVEL;
/// The shortest time to settle is this part of `SearchSpec::step`.
const SHORTEST_SETTLE: u32 = 5;

impl Search {
    /// The time to settle at a level.
    pub(super) fn settle(&self, level: Level) -> Duration {
        let step = self.spec.step;
        self.requests(level, REQUESTS_TO_SETTLE)
            .clamp(step / SHORTEST_SETTLE, self.longest_settle())
    }

    /// Returns the shortest `SearchSpec::step` with which the interval has a confidence.
    pub(super) fn step_for_confidence(&self) -> Duration {
        let latencies = self.levels.values().filter(|at| at.verdict.is_met()).map(|at| at.latency);
        let longest = latencies.fold(0.0, f64::max);
        let time = Duration::try_from_secs_f64(longest * REQUESTS_FOR_CONFIDENCE);
        time.unwrap_or(Duration::MAX)
    }

    /// Returns true if the steps are long enough for a confidence.
    pub(super) fn has_long_steps(&self) -> bool {
        self.spec.step >= self.step_for_confidence()
    }

    /// The measured time that is missing for a proof of success at a level. Zero if the steps are
    /// too short to reach it.
    pub(super) fn missing_time(&self, level: Level) -> Duration {
        let is_usable = |at: &&Evidence| at.verdict.is_met() && self.has_long_steps();
        let missing = self.levels.get(&level).filter(is_usable).map(Evidence::missing_time);
        Duration::try_from_secs_f64(missing.unwrap_or_default()).unwrap_or(Duration::MAX)
    }

    fn longest_settle(&self) -> Duration {
        self.spec.step * LONGEST_SETTLE
    }

    /// The shortest measured time at a level, for a step whose shortest time would be `planned`.
    pub(super) fn shortest(&self, level: Level, planned: Duration) -> Duration {
        self.requests(level, REQUESTS_TO_MEASURE).max(planned).min(self.spec.step * LONGEST)
    }

    /// The time of this many requests, one after the other. The latency is that of the highest
    /// level up to `level` at which it is known and no queue made it longer.
    pub(super) fn requests(&self, level: Level, number: f64) -> Duration {
        let is_usable = |step: &&StepRecord| step.is_unsettled || step.has_met();
        let below = self.steps.iter().filter(|step| step.plan.level <= level).filter(is_usable);
        let latest = below.filter(|step| step.result.latency.is_some());
        let latest = latest.max_by_key(|step| step.plan.level);
        let latency = latest.and_then(|step| step.result.latency).unwrap_or_default();
        Duration::try_from_secs_f64(latency * number).unwrap_or(Duration::MAX)
    }

    /// Returns true if the step proves nothing, because its requests took longer than its time to
    /// settle. A miss counts in any case, because a short time to settle flatters the level.
    pub(super) fn is_unsettled(&self, plan: &StepPlan, result: &StepResult) -> bool {
        let is_longer = |latency: f64| latency > plan.settle.as_secs_f64();
        let verdict = || evidence::judge_all(&self.spec.slo.objectives, &result.judged);
        result.distortion.is_none()
            && result.latency.is_some_and(is_longer)
            && !verdict().is_missed()
    }

    /// Returns the plan to repeat an unsettled step with a longer time to settle. `None` if a step
    /// cannot settle for a longer time.
    pub(super) fn settled_again(&self, unsettled: &StepRecord) -> Option<StepPlan> {
        let plan = unsettled.plan;
        (plan.settle < self.longest_settle()).then(|| StepPlan {
            reason: super::Reason::Unsettled,
            settle: self.settle(plan.level),
            shortest: self.shortest(plan.level, plan.shortest),
            ..plan
        })
    }
}
