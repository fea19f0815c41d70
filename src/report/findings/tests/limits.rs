//! Tests of the next step: it names a limit of llmload, and no level without data that support it.

use super::*;
use crate::report::{SearchReport, StepReport};

/// A run that looks saturated, in which llmload dropped arrivals for this reason.
fn limited(reason: &str, dropped: u64) -> RouteReport {
    let mut route = with_objectives(saturated(), [0.01, 0.9, 3.2]);
    route.ledger.arrivals = 1000;
    route.ledger.dropped.insert(reason.to_owned(), dropped);
    route
}

#[test]
fn the_next_step_after_a_limit_of_llmload_names_this_limit_and_no_level() {
    let findings = all(limited("rate_limit", 11));
    assert_eq!(
        text(&findings, Code::NextStep).unwrap(),
        "Next, raise `rate_limits` of the target or lower the load, and then repeat the test, because \
         `rate_limits` dropped 11 arrivals"
    );
    let of_levels = [Code::BestLevel, Code::ThroughputKnee, Code::RequestsQueue, Code::LevelChoice];
    assert!(findings.iter().all(|finding| !of_levels.contains(&finding.code)), "{findings:?}");
    let budget = text(&all(limited("budget", 500)), Code::NextStep).unwrap();
    assert!(budget.starts_with("Next, raise `budgets` of the scenario or wait"), "{budget}");
    let mut refused = limited("rate_limit", 11);
    refused.ledger.failed.insert("rate_limited".to_owned(), 30);
    let step = text(&all(refused), Code::NextStep).unwrap();
    assert!(step.starts_with("Next, lower the load, because the endpoint refused 30"), "{step}");
    // 1 % is tolerated, and arrivals that another reason dropped are no limit.
    for route in [limited("rate_limit", 10), limited("max_concurrency", 500)] {
        let step = text(&all(route), Code::NextStep).unwrap();
        assert!(step.starts_with("Next, find the limit between"), "{step}");
    }
}

#[test]
fn the_next_step_after_a_search_that_a_limit_ended_is_to_raise_this_limit() {
    let ended = |limit: &str| {
        let step = StepReport {
            level: 4.0,
            limit: Some(limit.to_owned()),
            distortion: Some("dropped".to_owned()),
            ..StepReport::default()
        };
        let ending = "limited".to_owned();
        let search = SearchReport { ending, steps: vec![step], ..SearchReport::default() };
        let name = "search".to_owned();
        let phase = PhaseReport { name, search: Some(search), ..PhaseReport::default() };
        let mut route = RouteReport { phases: vec![phase], ..RouteReport::default() };
        // One of many arrivals is enough, because it ends the search.
        route.ledger.arrivals = 10_000;
        let reason = if limit == "budgets" { "budget" } else { "rate_limit" };
        route.ledger.dropped.insert(reason.to_owned(), 1);
        all(route)
    };
    let findings = ended("rate_limits");
    let step = text(&findings, Code::NextStep).unwrap();
    assert!(step.starts_with("Next, raise `rate_limits`") && step.ends_with("1 arrival"), "{step}");
    assert_eq!(text(&findings, Code::DistortedSteps), None);
    let step = text(&ended("budgets"), Code::NextStep).unwrap();
    assert!(step.starts_with("Next, raise `budgets`"), "{step}");
}

#[test]
fn a_miss_that_chance_can_explain_leads_to_a_longer_run_and_to_no_other_level() {
    let mut route = with_objectives(saturated(), [0.01, 0.9, 1.02]);
    route.phases[2].slo[0].sure = false;
    let findings = all(route);
    assert_eq!(
        text(&findings, Code::NextStep).unwrap(),
        "Next, run concurrency 100 for longer, because chance can explain its miss"
    );
    let best = text(&findings, Code::BestLevel).unwrap();
    assert!(best.ends_with("ttft p99 was 1.02 s instead of 1 s, which chance can explain"));
    let mut lowest = with_objectives(saturated(), [1.02, 1.5, 3.2]);
    lowest.phases[0].slo[0].sure = false;
    let step = text(&all(lowest), Code::NextStep).unwrap();
    assert!(step.starts_with("Next, run concurrency 5 for longer"), "{step}");
}

#[test]
fn a_value_that_does_not_depend_on_the_load_leads_to_no_other_level() {
    let slow = all(with_objectives(saturated(), [2.0, 2.1, 2.15]));
    assert_eq!(
        text(&slow, Code::NextStep).unwrap(),
        "Next, try shorter prompts or responses, or a faster server, because the load has no clear \
         effect on ttft p99: 2 s at concurrency 5, and 2.1 s at concurrency 35"
    );
    let met = all(with_objectives(saturated(), [0.9, 0.97, 1.05]));
    let step = text(&met, Code::NextStep).unwrap();
    assert!(step.starts_with("Next, run concurrency 35 for longer before you choose"), "{step}");
    assert!(!step.contains("llmload capacity"), "{step}");
    // 10 % more is an effect.
    let depends = all(with_objectives(saturated(), [0.9, 0.97, 1.07]));
    let step = text(&depends, Code::NextStep).unwrap();
    assert!(step.starts_with("Next, find the limit between"), "{step}");
}
