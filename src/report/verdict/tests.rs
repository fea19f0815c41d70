//! Tests of the verdict about searches. The tests of complete runs check the other reasons.

use super::*;
use crate::capacity::Limit;
use crate::report::StepReport;

const NO_CLIENT_FAILURE: [u64; 2] = [0, 0];

/// A search by rate of 10,000 requests. Each step has this number of requests that failed in
/// llmload; a step with such a request is distorted.
fn search(ending: Ending, failed_in_client: [u64; 2]) -> PhaseReport {
    let step = |failed_in_client: u64| StepReport {
        failed_in_client,
        distortion: (failed_in_client > 0).then(|| "no local port".to_owned()),
        ..StepReport::default()
    };
    let report = SearchReport {
        ending: ending.as_str().to_owned(),
        met: Some(4.0),
        lower: Some(4.0),
        confidence: Some(0.95),
        steps: failed_in_client.map(step).to_vec(),
        ..SearchReport::default()
    };
    let failed = failed_in_client.iter().sum();
    let statistics =
        Statistics { succeeded: 10_000, failed, failed_in_client: failed, ..Statistics::default() };
    PhaseReport { name: "search".to_owned(), search: Some(report), statistics, ..started() }
}

fn started() -> PhaseReport {
    PhaseReport { load: "constant 5/s".to_owned(), sent: true, ..PhaseReport::default() }
}

/// A route whose requests failed in llmload `failed_in_client` times.
fn route(phases: Vec<PhaseReport>, failed_in_client: u64) -> RouteReport {
    let mut route = RouteReport { phases, ..RouteReport::default() };
    let succeeded = route.phases.iter().map(|phase| phase.statistics.succeeded).sum();
    route.ledger.succeeded = succeeded;
    route.ledger.finished = succeeded + failed_in_client;
    let class = Failure::ClientResource.as_str().to_owned();
    route.ledger.failed.insert(class, failed_in_client);
    route
}

fn verdict(route: RouteReport) -> (Outcome, Vec<ReasonCode>, bool) {
    let end = End { error: None, interrupted: false, time_limit: None };
    let verdict = judge(&[route], &[], end);
    (verdict.result, verdict.reasons.iter().map(|reason| reason.code).collect(), verdict.sure)
}

#[test]
fn failures_in_llmload_in_a_repeated_step_do_not_make_a_search_invalid() {
    let repeated = route(vec![search(Ending::Found, [500, 0])], 500);
    assert_eq!(verdict(repeated), (Outcome::Passed, Vec::new(), true));
    // The report of a step that did not end has no count of its requests.
    let mut unfinished = search(Ending::Found, NO_CLIENT_FAILURE);
    unfinished.statistics.failed = 500;
    unfinished.statistics.failed_in_client = 500;
    let statistics = Statistics { succeeded: 10_000, ..Statistics::default() };
    let good = PhaseReport { name: "constant".to_owned(), statistics, ..started() };
    let elsewhere = route(vec![good, unfinished], 500);
    assert_eq!(verdict(elsewhere), (Outcome::Passed, Vec::new(), true));
    // The requests of a search do not hide the failures of another phase.
    let statistics =
        Statistics { succeeded: 98, failed: 2, failed_in_client: 2, ..Statistics::default() };
    let other = PhaseReport { name: "constant".to_owned(), statistics, ..started() };
    let both = route(vec![other, search(Ending::Found, [500, 0])], 502);
    assert_eq!(verdict(both).1, [ReasonCode::ClientFailures]);
}

#[test]
fn a_search_that_proves_nothing_is_invalid() {
    for (ending, code) in [
        (Ending::Distorted, ReasonCode::Distorted),
        (Ending::StepsTooShort, ReasonCode::TooFewRequests),
        (Ending::Undecided, ReasonCode::TooFewRequests),
    ] {
        let ended = route(vec![search(ending, NO_CLIENT_FAILURE)], 0);
        assert_eq!(verdict(ended), (Outcome::Invalid, vec![code], false));
    }
}

#[test]
fn a_search_without_a_confidence_passes_but_is_not_sure() {
    let mut phase = search(Ending::Found, NO_CLIENT_FAILURE);
    phase.search.as_mut().unwrap().confidence = None;
    assert_eq!(verdict(route(vec![phase], 0)), (Outcome::Passed, Vec::new(), false));
}

#[test]
fn arrivals_that_the_breaker_dropped_are_a_failure_of_the_target() {
    let statistics = Statistics {
        arrivals: 100,
        dropped: 79,
        succeeded: 1,
        failed: 20,
        ..Statistics::default()
    };
    let phase = PhaseReport { name: "constant".to_owned(), statistics, ..started() };
    let dropped = |reasons: [(&str, u64); 2]| {
        let mut route = route(vec![phase.clone()], 0);
        route.ledger.dropped = reasons.map(|(reason, count)| (reason.to_owned(), count)).into();
        route.ledger.failed.clear();
        verdict(route)
    };
    let (outcome, codes, _) = dropped([("breaker", 79), ("late", 0)]);
    assert_eq!(outcome, Outcome::Failed);
    assert!(codes.iter().all(|code| *code == ReasonCode::Failures), "{codes:?}");
    let (outcome, codes, _) = dropped([("breaker", 70), ("late", 9)]);
    assert_eq!(outcome, Outcome::Invalid);
    assert!(codes.contains(&ReasonCode::Dropped), "{codes:?}");
    for (limit, code) in [("rate_limit", ReasonCode::RateLimits), ("budget", ReasonCode::Budget)] {
        let (outcome, codes, _) = dropped([("breaker", 60), (limit, 19)]);
        assert_eq!(outcome, Outcome::Invalid);
        assert!(codes.contains(&code) && !codes.contains(&ReasonCode::Dropped), "{codes:?}");
        // Two arrivals for another reason are more than 1 %.
        let (_, codes, _) = dropped([("late", 2), (limit, 77)]);
        assert!(codes.contains(&ReasonCode::Dropped), "{codes:?}");
    }
}

#[test]
fn a_search_that_a_limit_of_llmload_ended_is_invalid_because_of_this_limit() {
    for (limit, code) in
        [(Limit::Rate, ReasonCode::RateLimits), (Limit::Budget, ReasonCode::Budget)]
    {
        let mut phase = search(Ending::Limited, NO_CLIENT_FAILURE);
        let steps = &mut phase.search.as_mut().unwrap().steps;
        steps[1].limit = Some(limit.as_str().to_owned());
        assert_eq!(verdict(route(vec![phase], 0)), (Outcome::Invalid, vec![code], false));
    }
}
