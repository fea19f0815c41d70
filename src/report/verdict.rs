//! Whether a run passed. A run that proves nothing does not.

use serde::{Deserialize, Serialize};

use super::{Distorted, Load};
use crate::slo::{Share, Slo, Tried};
use crate::tally;

/// The share of arrivals that may be dropped: beyond it, the load was not the one that was asked for.
const FEW_DROPS: Share = Share::PERCENT;

/// Whether a run passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it did.
    pub passed: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// An objective, and what was held against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// `ttft`, `tpot`, `e2e_latency` or `success_rate`.
    pub measure: String,
    /// Of those held against it, the share that must meet it.
    pub share: f64,
    /// What they must stay within; none for the success rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_seconds: Option<f64>,
    /// How many were held against it: those that finished and have the measure.
    pub of: u64,
    /// How many met it. One that failed does not.
    pub met: u64,
    /// Whether these are enough.
    pub passed: bool,
}

pub(super) fn objectives(slo: &Slo, whole: &tally::Figures) -> Vec<Objective> {
    let objective = |measure: &str, share: Share, threshold_seconds, tried: Tried| Objective {
        measure: measure.to_owned(),
        share: share.as_f64(),
        threshold_seconds,
        of: tried.of,
        met: tried.met,
        passed: tried.of > 0 && share.is_reached(tried.met, tried.of),
    };
    let timed = slo.objectives.iter().zip(&whole.tried).map(|(goal, tried)| {
        objective(goal.measure.as_str(), goal.share, Some(goal.threshold.as_secs_f64()), *tried)
    });
    let succeeded = slo.success_rate.map(|share| {
        let tried = Tried { of: whole.succeeded + whole.failed(), met: whole.succeeded };
        objective("success_rate", share, None, tried)
    });
    timed.chain(succeeded).collect()
}

pub(super) fn of(streams: &[Load], distortions: &[Distorted], interrupted: bool) -> Verdict {
    let mut reasons = Vec::new();
    if interrupted {
        reasons.push("it was interrupted before its schedule had ended".to_owned());
    }
    for distorted in distortions {
        reasons.push(format!("the generator distorted what it measured: {}", distorted.message));
    }
    for load in streams {
        let name = load.name(streams);
        if load.ledger.succeeded == 0 {
            reasons.push(format!("{name}no request succeeded: there is nothing to judge"));
        }
        let (dropped, arrivals) = (load.ledger.not_sent(), load.ledger.arrivals);
        if dropped > 0 && FEW_DROPS.is_exceeded(dropped, arrivals) {
            reasons.push(format!(
                "{name}{dropped} of {arrivals} arrivals were dropped, more than 1 %: the load was not the one \
                 that was asked for"
            ));
        }
        for objective in load.slo.iter().filter(|objective| !objective.passed) {
            reasons.push(format!("{name}{}", objective.words(load.ledger.not_succeeded())));
        }
    }
    Verdict { passed: reasons.is_empty(), reasons }
}

impl Objective {
    /// `ttft p99 ≤ 1s`.
    pub fn goal(&self) -> String {
        let percent = format!("{}", (self.share * 1e6).round() / 1e4);
        match self.threshold_seconds {
            Some(seconds) => format!("{} p{percent} ≤ {}", self.measure, super::layout::duration(seconds)),
            None => format!("{} ≥ {percent} %", self.measure),
        }
    }

    /// Why it was missed, where so many failed.
    fn words(&self, failed: u64) -> String {
        if self.of == 0 {
            return format!("{}: no request to judge", self.goal());
        }
        let failed = match failed {
            0 => String::new(),
            failed => format!(", and the {failed} that failed count as misses"),
        };
        format!("{} missed: {} of {} met it{failed}", self.goal(), self.met, self.of)
    }
}

impl Load {
    /// A prefix that tells it from the others, where there are any.
    pub(super) fn name(&self, all: &[Load]) -> String {
        if all.len() > 1 { format!("{} → {}: ", self.scenario, self.target) } else { String::new() }
    }
}
