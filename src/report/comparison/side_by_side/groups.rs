//! The routes that belong beside each other in tables and charts.

use crate::report::{ObjectiveResult, RouteReport};

/// Divides the routes into groups that differ only in their target: the targets of a scenario, and
/// scenarios with one target and the same schedule, prompts and objectives.
pub(in crate::report) fn groups(routes: &[RouteReport]) -> Vec<Vec<&RouteReport>> {
    let mut groups: Vec<Vec<&RouteReport>> = Vec::new();
    for scenario in routes.chunk_by(|one, next| one.scenario == next.scenario) {
        let same = match scenario {
            [only] => groups.iter_mut().find(|group| belongs_to(only, group)),
            _ => None,
        };
        match same {
            Some(group) => group.extend(scenario),
            None => groups.push(scenario.iter().collect()),
        }
    }
    groups
}

/// The names of the scenarios of a group.
pub(in crate::report) fn names<'a>(scenarios: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = scenarios.collect();
    names.dedup();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// Returns true if this route differs from the group only in its target. `route` is the only route
/// of its scenario.
fn belongs_to(route: &RouteReport, group: &[&RouteReport]) -> bool {
    let has_pairs = group.windows(2).any(|pair| pair[0].scenario == pair[1].scenario);
    let is_other_target = group.iter().all(|other| other.target != route.target);
    // The chart and the table of a search belong to one target.
    let is_searching = route.phases.iter().any(|phase| phase.search.is_some());
    !has_pairs
        && is_other_target
        && !is_searching
        && group.first().is_some_and(|first| has_same_load(first, route))
}

fn has_same_load(one: &RouteReport, other: &RouteReport) -> bool {
    let phases = |route: &RouteReport| {
        let phases = route.phases.iter().map(|phase| {
            let slo: Vec<String> = phase.slo.iter().map(ObjectiveResult::criterion).collect();
            let plan = (phase.planned_seconds, phase.planned_arrivals, phase.explore);
            (phase.name.clone(), phase.load.clone(), plan, slo)
        });
        phases.collect::<Vec<_>>()
    };
    one.gaps == other.gaps
        && one.prompts == other.prompts
        && one.max_tokens == other.max_tokens
        && phases(one) == phases(other)
}
