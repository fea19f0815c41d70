//! The limits of a search, which are known before it begins.

use std::time::Duration;

use super::evidence;
use super::level::Level;
use crate::schedule::SearchSpec;

/// A step measures at most this many times as long as `SearchSpec::step`.
pub(super) const LONGEST: u32 = 4;
/// A step settles for at most this many times as long as `SearchSpec::step`.
pub(super) const LONGEST_SETTLE: u32 = 4;
/// A repeated step measures at least this many times as long as `SearchSpec::step`.
pub(super) const REPEATED: u32 = 2;
/// The most steps for proofs in a search: repeated steps at both ends of the interval, and the
/// narrowing of the interval. The property tests show that this is enough for an interval with two
/// ends.
pub(super) const MOST_PROOFS: u32 = 6;
/// The steps that a search can take beyond growth and bisection: proofs, distorted steps, and
/// corrections of a bisection that a proof has contradicted.
const SPARE_STEPS: u32 = MOST_PROOFS + 6;

/// The most steps that a search can take.
pub fn most_steps(spec: &SearchSpec) -> usize {
    let steps = 1.0 + doublings(spec) + halvings(2.0, spec);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let steps = steps as usize;
    steps + SPARE_STEPS as usize
}

/// The longest time after which a search starts no further step. The last step and the wait for its
/// requests can end later.
pub fn longest_time(spec: &SearchSpec) -> Duration {
    let steps = u32::try_from(most_steps(spec)).unwrap_or(u32::MAX);
    spec.step.saturating_mul(LONGEST_SETTLE + LONGEST).saturating_mul(steps)
}

/// The most requests that a search by rate can send, if every step is as long as it can be. `None`
/// for a search by concurrency, whose rate depends on the target.
pub fn most_requests(spec: &SearchSpec) -> Option<f64> {
    let (Level::Rate(from), Level::Rate(to)) = Level::ends(spec.range) else { return None };
    let (from, to) = (from.per_second(), to.per_second());
    let step = spec.step.as_secs_f64();
    let (settle, longest) = (step * f64::from(LONGEST_SETTLE), step * f64::from(LONGEST));
    #[allow(clippy::cast_precision_loss)]
    let least = evidence::requests_per_miss(&spec.slo.objectives) as f64;
    let first_visit = |rate: f64| rate * (settle + longest.min(step.max(least / rate)));
    let growth = std::iter::successors(Some(from), |rate| Some(rate * 2.0));
    let growth: f64 = growth.take_while(|rate| *rate < to).map(first_visit).sum();
    let rest =
        halvings(2.0, spec) * first_visit(to) + f64::from(SPARE_STEPS) * to * (settle + longest);
    Some(growth + first_visit(to) + rest)
}

fn doublings(spec: &SearchSpec) -> f64 {
    let (from, to) = Level::ends(spec.range);
    (to.value() / from.value()).log2().ceil()
}

/// The number of halvings of a gap between two levels with this quotient, down to the resolution.
pub(super) fn halvings(quotient: f64, spec: &SearchSpec) -> f64 {
    (quotient.ln() / spec.resolution.as_f64().ln_1p()).log2().ceil().max(0.0)
}
