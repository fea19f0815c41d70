//! The verdict of a run: passed, failed or invalid, with reasons. A run without a valid measurement
//! does not pass.
//!
//! Each phase is judged separately, because an objective that is met at a low level and missed at a
//! high level says nothing about the mean of both levels.

pub(super) mod dropped;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Distortion, PhaseReport, RouteReport, SearchReport, Statistics};
use crate::capacity::Ending;
use crate::check::numbers::{duration, integer};
use crate::generator;
use crate::measurement::Failure;
use crate::slo::Share;

/// The highest percentage of dropped arrivals with which a run can pass. If a route (one scenario
/// on one target) has no objectives, this is also the highest percentage of failed requests.
const TOLERATED_SHARE: Share = Share::PERCENT;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub result: Outcome,
    /// True if the run passed and every objective was met by enough requests.
    pub sure: bool,
    /// The reasons why the run did not pass.
    pub reasons: Vec<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    /// The target did not meet the requirements.
    Failed,
    /// The run proves nothing, so it should be repeated.
    Invalid,
}

/// A reason why a run did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: ReasonCode,
    /// The scenario and the target: `scenario → target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The name of the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The objective: `ttft p99`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
    pub text: String,
}

/// The kind of a reason. The first two fail a run, and all others make it invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    ObjectiveMissed,
    /// All requests failed, or too many without objectives.
    Failures,
    /// llmload itself distorted the measurement.
    Distorted,
    /// Too many requests failed in llmload or its machine.
    ClientFailures,
    /// The run was stopped before its schedules ended.
    Interrupted,
    /// Too many arrivals were dropped.
    Dropped,
    /// `rate_limits` of a target dropped too many arrivals.
    RateLimits,
    /// A budget of a scenario was used up, so too many arrivals were dropped.
    Budget,
    /// No request can be judged by an objective.
    TooFewRequests,
    /// No request was sent, or none finished.
    NothingSent,
    /// A target was not ready in time.
    NotReady,
    /// A target refused the key, or had no quota left.
    Refused,
    /// `--for` ended the run before or in a phase with objectives.
    CutShort,
    /// The run failed in llmload.
    Error,
}

impl Outcome {
    /// The value in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Invalid => "invalid",
        }
    }
}

impl ReasonCode {
    /// Returns true if the target did not meet a requirement. All other reasons make a run invalid.
    pub fn is_of_target(self) -> bool {
        matches!(self, ReasonCode::ObjectiveMissed | ReasonCode::Failures)
    }

    /// The value in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ReasonCode::ObjectiveMissed => "objective_missed",
            ReasonCode::Failures => "failures",
            ReasonCode::Distorted => "distorted",
            ReasonCode::ClientFailures => "client_failures",
            ReasonCode::Interrupted => "interrupted",
            ReasonCode::Dropped => "dropped",
            ReasonCode::RateLimits => "rate_limits",
            ReasonCode::Budget => "budget",
            ReasonCode::TooFewRequests => "too_few_requests",
            ReasonCode::NothingSent => "nothing_sent",
            ReasonCode::NotReady => "not_ready",
            ReasonCode::Refused => "refused",
            ReasonCode::CutShort => "cut_short",
            ReasonCode::Error => "error",
        }
    }
}

impl Reason {
    /// Creates a reason that belongs to the run.
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Reason {
        Reason { code, route: None, phase: None, objective: None, text: text.into() }
    }

    fn of_route(code: ReasonCode, route: &RouteReport, text: impl Into<String>) -> Reason {
        Reason { route: Some(route.route()), ..Reason::new(code, text) }
    }

    fn of_phase(self, phase: &PhaseReport) -> Reason {
        Reason { phase: Some(phase.name.clone()), ..self }
    }
}

impl Verdict {
    pub fn has_passed(&self) -> bool {
        self.result == Outcome::Passed
    }

    /// True if a reason has this code.
    pub fn has(&self, code: ReasonCode) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

/// How a run ended.
pub(in crate::report) struct End {
    /// The error that ended the run, if any.
    pub error: Option<Reason>,
    /// True if the run was stopped before its schedules ended.
    pub interrupted: bool,
    /// The value of `--for`.
    pub time_limit: Option<Duration>,
}

pub(super) fn judge(routes: &[RouteReport], distortions: &[Distortion], end: End) -> Verdict {
    let End { error, interrupted, time_limit } = end;
    let has_ended_early = error.is_some() || interrupted;
    let mut reasons = Vec::from_iter(error);
    if interrupted {
        let text = "the run was interrupted before its schedule ended";
        reasons.push(Reason::new(ReasonCode::Interrupted, text));
    }
    // A search repeats a distorted step, and its own result shows if that was in vain. A finding
    // explains the distortion.
    let distortions = if is_only_search(routes) { &[] } else { distortions };
    // The routes give the same reason with their total counts.
    let is_of_route = routes.iter().any(|route| failed_in_client(route).is_some());
    for distortion in distortions {
        if is_of_route && distortion.kind == generator::Distortion::ClientResource.as_str() {
            continue;
        }
        let text = format!("llmload distorted the measurement: {}", distortion.message);
        reasons.push(Reason::new(ReasonCode::Distorted, text));
    }
    // An objective that is missed in any case decides, although the run is not complete.
    let mut is_missed_for_certain = false;
    for route in routes {
        let prefix = route.prefix(routes);
        let of_route = invalid_reasons(route).into_iter().chain(too_many_failures(route));
        let mut reasons_of_route: Vec<Reason> = of_route.collect();
        for phase in &route.phases {
            let search = phase.search.as_ref().filter(|_| !phase.explore);
            let Some(reason) = search.and_then(search_reason) else { continue };
            is_missed_for_certain |= reason.code == ReasonCode::ObjectiveMissed;
            let of_route = Reason::of_route(reason.code, route, reason.text);
            reasons_of_route.push(of_route.of_phase(phase));
        }
        for phase in route.judged_phases() {
            for missed in misses(route, phase) {
                let is_complete = phase.sent && !phase.cut && !has_ended_early;
                is_missed_for_certain |= missed.0.is_missed_for_certain(phase, is_complete);
                reasons_of_route.push(missed.1);
            }
        }
        if !has_ended_early {
            reasons_of_route.extend(cut_short(route, time_limit));
        }
        reasons.extend(
            reasons_of_route
                .into_iter()
                .map(|reason| Reason { text: format!("{prefix}{}", reason.text), ..reason }),
        );
    }
    let has = |codes: &[ReasonCode]| reasons.iter().any(|reason| codes.contains(&reason.code));
    let result = if reasons.is_empty() {
        Outcome::Passed
    } else if has(&[ReasonCode::Distorted, ReasonCode::ClientFailures, ReasonCode::Error]) {
        Outcome::Invalid
    } else if is_missed_for_certain || reasons.iter().all(|reason| reason.code.is_of_target()) {
        Outcome::Failed
    } else {
        Outcome::Invalid
    };
    let results =
        routes.iter().flat_map(|route| route.judged_phases().flat_map(|phase| &phase.slo));
    let searches =
        routes.iter().flat_map(|route| &route.phases).filter_map(|phase| phase.search.as_ref());
    let sure = result == Outcome::Passed
        && results.into_iter().all(|result| result.sure)
        && searches.into_iter().all(SearchReport::is_sure);
    Verdict { result, sure, reasons }
}

/// True if the routes send no load except searches.
pub(super) fn is_only_search(routes: &[RouteReport]) -> bool {
    let mut levels = routes.iter().flat_map(RouteReport::levels).peekable();
    levels.peek().is_some() && levels.all(PhaseReport::is_search)
}

/// Returns the reason why a search does not pass. It passes if its lowest level meets the
/// objectives.
fn search_reason(search: &SearchReport) -> Option<Reason> {
    let is = |ending| search.has_ended(ending);
    let code = if is(Ending::FirstMissed) {
        ReasonCode::ObjectiveMissed
    } else if is(Ending::Distorted) {
        ReasonCode::Distorted
    } else if is(Ending::Limited) {
        search.limit().map_or(ReasonCode::Dropped, dropped::code)
    } else if is(Ending::Undecided)
        || is(Ending::StepsTooShort)
        || is(Ending::OutOfSteps) && search.met.is_none()
    {
        ReasonCode::TooFewRequests
    } else {
        return None;
    };
    Some(Reason::new(code, search.sentence.clone()))
}

/// Returns the missed objectives of a phase, and the reason for each of them.
fn misses<'a>(
    route: &'a RouteReport,
    phase: &'a PhaseReport,
) -> impl Iterator<Item = (&'a super::ObjectiveResult, Reason)> {
    let missed = phase.slo.iter().filter(|objective| !objective.passed && objective.judged > 0);
    missed.map(|objective| {
        let text = objective.miss(phase.statistics.failed);
        let text =
            if route.levels().count() > 1 { format!("{}: {text}", phase.name) } else { text };
        let reason = Reason::of_route(ReasonCode::ObjectiveMissed, route, text).of_phase(phase);
        (objective, Reason { objective: Some(objective.label()), ..reason })
    })
}

/// Returns a reason if `--for` ended the run before or in a phase with objectives.
fn cut_short(route: &RouteReport, time_limit: Option<Duration>) -> Option<Reason> {
    let is_judged =
        route.phases.iter().any(|phase| phase.is_judged() && (phase.cut || !phase.sent));
    let text = cut_phases(route, time_limit?)?;
    is_judged.then(|| Reason::of_route(ReasonCode::CutShort, route, text))
}

/// Names the phases that `--for` cut off; `None` if there are none.
pub(super) fn cut_phases(route: &RouteReport, time_limit: Duration) -> Option<String> {
    const MOST_NAMES: usize = 5;
    let cut = route.levels().filter(|phase| phase.cut).map(|phase| {
        let seconds = duration(phase.statistics.seconds);
        match phase.planned_seconds {
            Some(planned) => {
                format!("{} was cut after {seconds} of {}", phase.name, duration(planned))
            }
            None => format!("{} was cut after {seconds}", phase.name),
        }
    });
    let mut parts: Vec<String> = cut.collect();
    let names: Vec<&str> =
        route.levels().filter(|phase| !phase.sent).map(|phase| phase.name.as_str()).collect();
    if let Some(more) = names.len().checked_sub(MOST_NAMES).filter(|more| *more > 0) {
        let first = names[..MOST_NAMES].join(", ");
        parts.push(format!("{first} and {more} more phases were not sent"));
    } else if let [one] = names[..] {
        parts.push(format!("{one} was not sent"));
    } else if let [first @ .., last] = &names[..] {
        parts.push(format!("{} and {last} were not sent", first.join(", ")));
    }
    let limit = duration(time_limit.as_secs_f64());
    (!parts.is_empty()).then(|| format!("--for {limit} ended the schedule: {}", parts.join("; ")))
}

/// Returns the reasons why the measurement of a route is not valid. If all requests failed, this is
/// a reason too.
pub(super) fn invalid_reasons(route: &RouteReport) -> Vec<Reason> {
    let failed_in_client = failed_in_client(route);
    let no_success = (route.ledger.succeeded == 0).then(|| no_success(route));
    let too_few = route.judged_phases().flat_map(|phase| {
        let results = phase.slo.iter().filter(|objective| {
            objective.judged == 0 && phase.statistics.succeeded + phase.statistics.failed > 0
        });
        results.map(move |objective| {
            let text =
                format!("{}: no request of {} can be judged", objective.criterion(), phase.name);
            let reason = Reason::of_route(ReasonCode::TooFewRequests, route, text).of_phase(phase);
            Reason { objective: Some(objective.label()), ..reason }
        })
    });
    let mut reasons: Vec<Reason> = no_success.into_iter().chain(dropped::too_many(route)).collect();
    reasons.extend(failed_in_client);
    reasons.extend(too_few);
    reasons
}

/// Returns the reason why no request of a route succeeded: the classes of all failures.
fn no_success(route: &RouteReport) -> Reason {
    let mut classes: Vec<_> = route.ledger.failed.iter().collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let classes: Vec<_> =
        classes.iter().map(|(class, count)| format!("{} {class}", integer(**count))).collect();
    let (code, text) = match (route.ledger.total_failed(), route.ledger.arrivals) {
        (0, 0) => (ReasonCode::NothingSent, "no request was sent".to_owned()),
        (0, _) => (ReasonCode::NothingSent, "no request has ended".to_owned()),
        (failed, _) => {
            let text = format!("all {} requests failed: {}", integer(failed), classes.join(", "));
            (ReasonCode::Failures, text)
        }
    };
    Reason::of_route(code, route, text)
}

/// Returns a reason if too many requests failed in llmload or its machine. No objective allows such
/// failures, because they say nothing about the target.
fn failed_in_client(route: &RouteReport) -> Option<Reason> {
    let failed = route.outside_of_searches(|all| all.failed_in_client);
    let finished = route.outside_of_searches(|all| all.succeeded + all.failed);
    let most_frequent = route.failures.iter().filter(|class| is_of_client(&class.reason));
    let remedy = most_frequent.max_by_key(|class| class.count).map(|class| &class.remedy);
    TOLERATED_SHARE.is_exceeded(failed, finished).then(|| {
        let text = format!(
            "{} of {} requests failed because of llmload or its machine, more than 1 %; {}",
            integer(failed),
            integer(finished),
            remedy.map_or("check the log of llmload", String::as_str)
        );
        Reason::of_route(ReasonCode::ClientFailures, route, text)
    })
}

/// Returns true if this class of failures says nothing about the target.
pub(super) fn is_of_client(reason: &str) -> bool {
    [Failure::ClientResource, Failure::Internal].iter().any(|failure| failure.as_str() == reason)
}

/// Returns a reason if a route has no objectives and too many of its requests failed, not counting
/// the requests that failed in llmload or its machine. Without this rule, a run without objectives
/// would pass although the server fails.
fn too_many_failures(route: &RouteReport) -> Option<Reason> {
    let all_failed = route.deciding(|all| all.failed);
    let failed = all_failed.saturating_sub(route.deciding(|all| all.failed_in_client));
    let finished = all_failed + route.deciding(|all| all.succeeded);
    (!route.has_objectives()
        && route.ledger.succeeded > 0
        && TOLERATED_SHARE.is_exceeded(failed, finished))
    .then(|| {
        let text = format!(
            "{} of {} requests failed, more than 1 %; to allow more failures, set \
             slo.success_rate in the configuration",
            integer(failed),
            integer(finished)
        );
        Reason::of_route(ReasonCode::Failures, route, text)
    })
}

impl RouteReport {
    /// Returns a prefix for texts. It names the route if the report has several routes.
    pub(super) fn prefix(&self, all: &[RouteReport]) -> String {
        if all.len() > 1 { format!("{}: ", self.route()) } else { String::new() }
    }

    /// Returns a sum over all phases, without those that explore, and without searches, which look
    /// for the level at which requests fail.
    fn deciding(&self, of: impl Fn(&Statistics) -> u64) -> u64 {
        let phases = self.phases.iter().filter(|phase| !phase.explore && !phase.is_search());
        phases.map(|phase| of(&phase.statistics)).sum()
    }

    /// Returns a sum over all phases that are no searches. A step of a search with requests that
    /// failed in llmload or its machine does not count, so a search judges these failures itself.
    fn outside_of_searches(&self, of: impl Fn(&Statistics) -> u64) -> u64 {
        let phases = self.phases.iter().filter(|phase| !phase.is_search());
        phases.map(|phase| of(&phase.statistics)).sum()
    }

    /// The phases whose objectives decide.
    pub(super) fn judged_phases(&self) -> impl Iterator<Item = &PhaseReport> {
        self.phases.iter().filter(|phase| phase.is_judged())
    }
}

impl PhaseReport {
    fn is_judged(&self) -> bool {
        !self.explore && (!self.slo.is_empty() || self.is_search())
    }
}

#[cfg(test)]
mod tests;
