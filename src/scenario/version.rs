//! Requests the server version of each target every ten minutes, because a new version can explain
//! changed measurements.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::Notify;

use super::HttpRouteTable;
use crate::metrics::Metrics;

const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_mins(10);

/// Keeps `llmload_target_info` up to date. Requests all versions at once when `routes_replaced` is
/// notified. Keeps the last version if a server reports none.
pub(super) async fn watch(
    routes: &HttpRouteTable,
    routes_replaced: &Notify,
    metrics: &Metrics,
) -> Infallible {
    loop {
        let update = async {
            for route in &routes.current().routes {
                if let Ok(Some(version)) = route.endpoint.version(TIMEOUT).await {
                    metrics.targets.set_version(&route.target, route.endpoint.address(), &version);
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
