//! The server version of each target, requested now and then. A roll-out on the server explains
//! changes in the measurements.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::Notify;

use super::HttpRouteTable;
use crate::metrics::Metrics;

/// The timeout of one request for the version.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two requests for the version.
const INTERVAL: Duration = Duration::from_mins(10);

/// Keeps `llmload_target_info` up to date, and requests all versions at once after a notification
/// of
/// `routes_replaced`. If a server does not respond or reports no version, the last one stays.
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
