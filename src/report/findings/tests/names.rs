//! Tests of the names in findings: those of levels and of routes.

use super::*;

#[test]
fn levels_without_enough_requests_for_a_p99_are_named_together() {
    let mut route = saturated();
    for phase in &mut route.phases[..2] {
        phase.statistics.succeeded = 99;
    }
    assert_eq!(
        text(&all(route.clone()), Code::TooFewRequests).unwrap(),
        "concurrency 5 and concurrency 35 have fewer than 100 successes, which are too few for a p99"
    );
    route.phases.iter_mut().for_each(|phase| phase.statistics.succeeded = 100);
    assert_eq!(text(&all(route), Code::TooFewRequests), None);
}

#[test]
fn a_report_of_several_routes_names_the_route_of_each_finding() {
    let named = |target: &str| RouteReport {
        scenario: "s".to_owned(),
        target: target.to_owned(),
        ..saturated()
    };
    let findings = find(&[named("a"), named("b")], Circumstances::default());
    let knees: Vec<_> =
        findings.iter().filter(|finding| finding.code == Code::ThroughputKnee).collect();
    assert_eq!(knees.len(), 2);
    assert_eq!(knees[1].route.as_deref(), Some("s → b"));
    assert!(knees[1].text.starts_with("s → b: throughput stopped growing"), "{}", knees[1].text);
}
