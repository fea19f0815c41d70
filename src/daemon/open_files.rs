//! Checks that the process can open as many files as a plan can need. During a reload, the requests
//! of removed routes (a route is one scenario on one target) still use files while they drain.

use std::sync::Arc;

use super::Error;
use crate::plan::connection_limit;
use crate::scenario::{RouteSpec, ScenarioSpec};
use crate::status::RouteMonitor;

/// Raises the limit of open files as far as the system allows. Checks that the limit is enough for
/// a new plan, which can need `needed` files, and for the `draining` files of removed routes.
///
/// # Errors
/// Fails if the limit is too low.
pub(super) fn check(needed: u64, draining: u64) -> Result<(), Error> {
    // If the limit cannot be read, there is nothing to check.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    if limit < needed {
        Err(Error::Files { limit, needed })
    } else if limit < needed + draining {
        Err(Error::DrainingFiles { limit, needed, draining })
    } else {
        Ok(())
    }
}

/// Returns the number of files that requests use now and that are not a part of the new plan: the
/// requests on the routes that drain already, and on the `running` routes that the new plan removes
/// or limits.
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

/// Returns the highest number of connections of a running route under the new plan. It is 0 if the
/// new plan does not have the route.
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
