//! Which version of its server each target runs, asked again now and then: a roll-out over there
//! explains what changes in the figures here.

use std::time::Duration;

use tokio::sync::Notify;

use super::Observer;
use crate::endpoint::HttpEndpoint;
use crate::launch::RouteTable;
use crate::metrics::Metrics;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is believed.
const AGAIN: Duration = Duration::from_mins(10);

/// Keeps `llmload_target_info` true, for ever; asks at once when `changed` says that there may be others
/// to ask. A server that does not answer or tell keeps what it said.
pub(super) async fn keep(
    routes: &RouteTable<HttpEndpoint, Observer>,
    changed: &Notify,
    metrics: &Metrics,
) {
    loop {
        let told = async {
            for route in &routes.now().routes {
                if let Ok(Some(version)) = route.endpoint.version(PATIENCE).await {
                    metrics.targets.set_version(&route.target, route.endpoint.address(), &version);
                }
            }
            tokio::time::sleep(AGAIN).await;
        };
        tokio::select! {
            () = told => {}
            () = changed.notified() => {}
        }
    }
}
