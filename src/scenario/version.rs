//! Requests the server version of each target every ten minutes, because a new version can explain
//! changed measurements.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::HttpRouteTable;
use crate::metrics::Metrics;
use crate::status::RouteMonitor;

const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_mins(10);

/// Keeps `llmload_target_info` up to date. Requests all versions at once when `routes_replaced` is
/// notified. Keeps the last version if a server reports none. The first version of each
/// target is also recorded in `monitors`, for the report of a run.
pub(super) async fn watch(
    routes: &HttpRouteTable,
    routes_replaced: &Notify,
    metrics: &Metrics,
    monitors: &[Arc<RouteMonitor>],
) -> Infallible {
    loop {
        let update = async {
            for route in &routes.current().routes {
                if let Ok(Some(version)) = route.endpoint.version(TIMEOUT).await {
                    metrics.targets.set_version(&route.target, route.endpoint.address(), &version);
                    for monitor in monitors.iter().filter(|one| one.target == route.target) {
                        let _only_the_first = monitor.server_version.set(version.clone());
                    }
                }
            }
            tokio::time::sleep(INTERVAL).await;
        };
        tokio::select! {
            () = update => {}
            () = routes_replaced.notified() => {}
        }
    }
}
