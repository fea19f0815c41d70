//! Starts the tasks that read the metrics pages of the targets of a scenario.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::ScenarioSpec;
use crate::observe;
use crate::schedule_state::ScheduleState;
use crate::status::RouteMonitor;

/// Starts one task for each metrics page. The tasks end when the caller drops the set.
pub(super) fn start(
    spec: &ScenarioSpec,
    monitors: &[Arc<RouteMonitor>],
    schedule_state: &Arc<ScheduleState>,
) -> JoinSet<Infallible> {
    let routes = spec.routes.iter().zip(monitors);
    let pages =
        routes.flat_map(|(route, monitor)| route.metrics_pages.iter().zip(&monitor.observed));
    let watches = pages.map(|(page, observed)| {
        observe::watch(Arc::clone(page), Arc::clone(observed), Arc::clone(schedule_state))
    });
    let mut tasks = JoinSet::new();
    for watch in watches {
        tasks.spawn(watch);
    }
    tasks
}
