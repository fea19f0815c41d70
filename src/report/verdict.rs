//! Whether a run passed. A run that proves nothing does not.

use serde::{Deserialize, Serialize};

use super::{Distorted, Load};
use crate::check::numbers::duration;
use crate::slo::{Goal, Share, Slo};
use crate::tally;

/// The share of arrivals that may be dropped, and of requests that may fail where nobody says otherwise.
const FEW: Share = Share::PERCENT;

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
    let objectives = slo.objectives.iter().zip(&whole.tried).map(|(objective, tried)| Objective {
        measure: match objective.goal {
            Goal::Within(measure, _) => measure.as_str(),
            Goal::Succeed => "success_rate",
        }
        .to_owned(),
        share: objective.share.as_f64(),
        threshold_seconds: objective.threshold().map(|threshold| threshold.as_secs_f64()),
        of: tried.of,
        met: tried.met,
        passed: tried.of > 0 && objective.share.is_reached(tried.met, tried.of),
    });
    objectives.collect()
}

pub(super) fn of(
    streams: &[Load],
    distortions: &[Distorted],
    interrupted: bool,
    broken: Option<String>,
) -> Verdict {
    let mut reasons = Vec::from_iter(broken);
    if interrupted {
        reasons.push("it was interrupted before its schedule had ended".to_owned());
    }
    for distorted in distortions {
        reasons.push(format!("the generator distorted what it measured: {}", distorted.message));
    }
    for load in streams {
        let name = load.name(streams);
        reasons.extend(void(load).chain(failing(load)).map(|words| format!("{name}{words}")));
        for objective in load.slo.iter().filter(|objective| !objective.passed) {
            reasons.push(format!("{name}{}", objective.words(load.ledger.not_succeeded())));
        }
    }
    Verdict { passed: reasons.is_empty(), reasons }
}

/// Why a stream of load proves nothing, whatever its figures are.
pub(super) fn void(load: &Load) -> impl Iterator<Item = String> + use<> {
    let (dropped, arrivals) = (load.ledger.not_sent(), load.ledger.arrivals);
    let nothing = (load.ledger.succeeded == 0)
        .then(|| "no request succeeded: there is nothing to judge".to_owned());
    let another = FEW.is_exceeded(dropped, arrivals).then(|| {
        format!(
            "{dropped} of {arrivals} arrivals were dropped, more than 1 %: the load was not the one that was \
             asked for"
        )
    });
    nothing.into_iter().chain(another)
}

/// Who asked for nothing does not want a run to pass while the server is down.
fn failing(load: &Load) -> Option<String> {
    let (failed, finished) = (load.ledger.not_succeeded(), load.ledger.finished);
    (load.slo.is_empty() && load.ledger.succeeded > 0 && FEW.is_exceeded(failed, finished)).then(|| {
        format!(
            "{failed} of {finished} requests failed, more than 1 %; write `slo: {{success_rate: 90%}}` where more \
             may"
        )
    })
}

impl Objective {
    /// `ttft p99 ≤ 1s`.
    pub fn goal(&self) -> String {
        let percent = format!("{}", (self.share * 1e6).round() / 1e4);
        match self.threshold_seconds {
            Some(seconds) => format!("{} p{percent} ≤ {}", self.measure, duration(seconds)),
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
        if all.len() > 1 { format!("{}: ", self.stream()) } else { String::new() }
    }
}
