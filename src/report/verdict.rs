//! The verdict of a run: passed or not, with reasons. A run without a valid measurement does not
//! pass.

use serde::{Deserialize, Serialize};

use super::{Distortion, RouteReport};
use crate::check::numbers::duration;
use crate::generator;
use crate::measurement::Failure;
use crate::slo::{Criterion, Share, Slo};
use crate::tally;

/// The highest percentage of dropped arrivals with which a run can pass. If a route (one scenario
/// on one target) has no objectives, this is also the highest percentage of failed requests.
const TOLERATED_SHARE: Share = Share::PERCENT;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub passed: bool,
    /// The reasons why the run did not pass.
    pub reasons: Vec<String>,
}

/// An objective, and the number of requests that met the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveResult {
    /// `ttft`, `tpot`, `e2e_latency` or `success_rate`.
    pub measure: String,
    /// The fraction of the judged requests that must meet the objective, from 0 to 1.
    pub share: f64,
    /// The highest latency that meets the objective. `None` for the success rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_seconds: Option<f64>,
    /// The number of judged requests. A finished request is judged if it has this measure, or if it
    /// failed. The JSON key is `of`, because a rename would break the format.
    #[serde(rename = "of")]
    pub judged: u64,
    /// The number of requests that met the objective. A failed request never meets an objective.
    pub met: u64,
    pub passed: bool,
}

pub(super) fn objective_results(slo: &Slo, total: &tally::RawStatistics) -> Vec<ObjectiveResult> {
    let results =
        slo.objectives.iter().zip(&total.objectives).map(|(objective, counts)| ObjectiveResult {
            measure: match objective.criterion {
                Criterion::Latency(metric, _) => metric.as_str(),
                Criterion::Success => "success_rate",
            }
            .to_owned(),
            share: objective.share.as_f64(),
            threshold_seconds: objective.threshold().map(|threshold| threshold.as_secs_f64()),
            judged: counts.judged,
            met: counts.met,
            passed: counts.judged > 0 && objective.share.is_reached(counts.met, counts.judged),
        });
    results.collect()
}

pub(super) fn judge(
    routes: &[RouteReport],
    distortions: &[Distortion],
    interrupted: bool,
    error: Option<String>,
) -> Verdict {
    let mut reasons = Vec::from_iter(error);
    if interrupted {
        reasons.push("the run was interrupted before its schedule ended".to_owned());
    }
    // The routes give the same reason with their total counts.
    let is_of_route = routes.iter().any(|route| failed_in_client(route).is_some());
    for distortion in distortions {
        if is_of_route && distortion.kind == generator::Distortion::ClientResource.as_str() {
            continue;
        }
        reasons.push(format!("llmload distorted the measurement: {}", distortion.message));
    }
    for route in routes {
        let prefix = route.prefix(routes);
        let invalid = invalid_reasons(route).chain(too_many_failures(route));
        reasons.extend(invalid.map(|reason| format!("{prefix}{reason}")));
        for objective in route.slo.iter().filter(|objective| !objective.passed) {
            reasons.push(format!("{prefix}{}", objective.miss(route.ledger.total_failed())));
        }
    }
    Verdict { passed: reasons.is_empty(), reasons }
}

/// Returns the reasons why the measurement of a route is not valid.
pub(super) fn invalid_reasons(route: &RouteReport) -> impl Iterator<Item = String> + use<> {
    let (dropped, arrivals) = (route.ledger.total_dropped(), route.ledger.arrivals);
    let sent = arrivals - dropped.min(arrivals);
    let failed_in_client = failed_in_client(route);
    let no_success = (route.ledger.succeeded == 0).then(|| no_success(route));
    let too_many_dropped = TOLERATED_SHARE.is_exceeded(dropped, arrivals).then(|| {
        format!(
            "{dropped} of {arrivals} arrivals were dropped, more than 1 %: the offered rate was not \
             reached, only {sent} requests were sent"
        )
    });
    no_success.into_iter().chain(too_many_dropped).chain(failed_in_client)
}

/// Returns the reason why no request of a route succeeded: the classes of all failures.
fn no_success(route: &RouteReport) -> String {
    let mut classes: Vec<_> = route.ledger.failed.iter().collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
    match route.ledger.total_failed() {
        0 => "no request succeeded, so nothing can be judged".to_owned(),
        failed => format!("all {failed} requests failed: {}", classes.join(", ")),
    }
}

/// Returns a reason if too many requests failed in llmload or its machine. No objective allows such
/// failures, because they say nothing about the target.
fn failed_in_client(route: &RouteReport) -> Option<String> {
    let (failed, finished) = (route.ledger.total_failed_in_client(), route.ledger.finished);
    let most_frequent = route.failures.iter().filter(|class| is_of_client(&class.reason));
    let remedy = most_frequent.max_by_key(|class| class.count).map(|class| &class.remedy);
    TOLERATED_SHARE.is_exceeded(failed, finished).then(|| {
        format!(
            "{failed} of {finished} requests failed because of llmload or its machine, more than 1 \
             %; {}",
            remedy.map_or("check the log of llmload", String::as_str)
        )
    })
}

/// Returns true if this class of failures says nothing about the target.
pub(super) fn is_of_client(reason: &str) -> bool {
    [Failure::ClientResource, Failure::Internal].iter().any(|failure| failure.as_str() == reason)
}

/// Returns a reason if a route has no objectives and too many of its requests failed, not counting
/// the requests that failed in llmload or its machine. Without this rule, a run without objectives
/// would pass although the server fails.
fn too_many_failures(route: &RouteReport) -> Option<String> {
    let (failed, finished) = (
        route.ledger.total_failed() - route.ledger.total_failed_in_client(),
        route.ledger.finished,
    );
    (route.slo.is_empty()
        && route.ledger.succeeded > 0
        && TOLERATED_SHARE.is_exceeded(failed, finished))
    .then(|| {
        format!(
            "{failed} of {finished} requests failed, more than 1 %; to allow more failures, set \
             `slo.success_rate`"
        )
    })
}

impl ObjectiveResult {
    /// Returns the objective as text: `ttft p99 ≤ 1 s`.
    pub fn criterion(&self) -> String {
        let percent = format!("{}", (self.share * 1e6).round() / 1e4);
        match self.threshold_seconds {
            Some(seconds) => format!("{} p{percent} ≤ {}", self.measure, duration(seconds)),
            None => format!("{} ≥ {percent} %", self.measure),
        }
    }

    /// Returns the reason why the objective was missed. For a latency, the text also
    /// contains the number of failed requests, because a failed request counts as a miss.
    fn miss(&self, failed: u64) -> String {
        let criterion = self.criterion();
        if self.judged == 0 {
            return format!("{criterion}: no request to judge");
        }
        let failed = match (failed, self.threshold_seconds) {
            (0, _) | (_, None) => String::new(),
            (1, _) => "; 1 failed request counts as a miss".to_owned(),
            _ => format!("; {failed} failed requests count as misses"),
        };
        let (met, judged) = (self.met, self.judged);
        let verb = match self.threshold_seconds {
            Some(seconds) => format!("were within {}", duration(seconds)),
            None => "succeeded".to_owned(),
        };
        let needed = Share::new(self.share).map_or(judged, |share| share.needed(judged));
        format!("{criterion} missed: {met} of {judged} requests {verb}, {needed} needed{failed}")
    }
}

impl RouteReport {
    /// Returns a prefix for texts. It names the route if the report has several routes.
    pub(super) fn prefix(&self, all: &[RouteReport]) -> String {
        if all.len() > 1 { format!("{}: ", self.route()) } else { String::new() }
    }
}
