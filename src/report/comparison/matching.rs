//! Matches the routes of two reports.

use super::super::RouteReport;
use super::{Refusal, Run, route_name};

/// Pairs of a route of the base run and the same route of a new run, and the routes without a
/// partner as text.
pub(super) type Matched<'a> = (Vec<(&'a RouteReport, &'a RouteReport)>, Vec<String>);

/// Matches routes by name. If the user chose a route, or if both runs have only one route, these
/// two routes match.
pub(super) fn match_routes<'a>(
    base: &'a Run,
    new: &'a Run,
    label: &str,
) -> Result<Matched<'a>, Refusal> {
    if let (Some(before), Some(after)) = (base.only_route(), new.only_route()) {
        return Ok((vec![(before, after)], Vec::new()));
    }
    if base.is_chosen() || new.is_chosen() {
        let unclear = if base.only_route().is_none() { base } else { new };
        let (argument, routes) = (unclear.argument.clone(), unclear.route_names());
        return Err(Refusal::SeveralRoutes { argument, routes });
    }
    let (mut pairs, mut missing) = (Vec::new(), Vec::new());
    for before in base.routes() {
        let name = route_name(before);
        match new.routes().iter().find(|route| route_name(route) == name) {
            Some(after) => pairs.push((before, after)),
            None => missing.push(format!("{name} is in the base run, but not in {label}")),
        }
    }
    for after in new.routes() {
        let name = route_name(after);
        if base.routes().iter().all(|route| route_name(route) != name) {
            missing.push(format!("{name} is only in {label}"));
        }
    }
    Ok((pairs, missing))
}
