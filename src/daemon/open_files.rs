//! Compares the number of files that a plan can open with the limit of the process. During a
//! reload, the requests of removed routes still hold files.

use std::sync::Arc;

use super::Error;
use crate::plan::connection_limit;
use crate::scenario::{RouteSpec, ScenarioSpec};
use crate::status::RouteMonitor;

/// Raises the limit of open files as far as the system allows. Then compares the limit with
/// `needed` (for the new plan) plus `draining` (for requests of removed routes).
///
/// # Errors
/// Fails if the limit is too low.
pub(super) fn check(needed: u64, draining: u64) -> Result<(), Error> {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    if limit < needed {
        Err(Error::Files { limit, needed })
    } else if limit < needed + draining {
        Err(Error::DrainingFiles { limit, needed, draining })
    } else {
        Ok(())
    }
}

/// Counts the files of requests that go beyond the new plan. On a route that drains already, these
/// are all requests. On a running route, these are the requests above its new limit.
pub(super) fn draining(
    running: &[Arc<RouteMonitor>],
    draining: &[Arc<RouteMonitor>],
    new: &[ScenarioSpec],
) -> u64 {
    let files = |route: &RouteMonitor, connections: u64| {
        connections * route.info().configured.location.sockets_per_connection()
    };
    let connections = |route: &RouteMonitor| route.state.tasks.len() as u64;
    let already = draining.iter().map(|route| files(route, connections(route)));
    let removed = running
        .iter()
        .map(|route| files(route, connections(route).saturating_sub(limit_in(new, route))));
    already.chain(removed).sum()
}

/// The highest number of connections of a running route under the new plan; 0 if the plan removes
/// it.
fn limit_in(new: &[ScenarioSpec], running: &RouteMonitor) -> u64 {
    let info = running.info();
    let is_same = |route: &RouteSpec| {
        route.target.name == running.target
            && route.target.model == info.configured.model
            && (route.target.model.is_some() || route.info.address == info.address)
    };
    let mut specs = new.iter().filter(|spec| spec.scenario.name == running.scenario);
    let same = specs.find(|spec| spec.routes.iter().any(is_same));
    same.map_or(0, |spec| connection_limit(spec.scenario.max_concurrency))
}
