//! Which version of its server each target runs, asked again now and then: a roll-out over there
//! explains what changes in the figures here.

use std::time::Duration;

use super::Observer;
use crate::endpoint::HttpEndpoint;
use crate::launch::Lanes;
use crate::metrics::Metrics;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is believed.
const AGAIN: Duration = Duration::from_mins(10);

/// Keeps `llmload_target_info` true, for ever. A server that does not answer or tell keeps what it said.
pub(super) async fn keep(lanes: &Lanes<HttpEndpoint, Observer>, metrics: &Metrics) {
    loop {
        for lane in &lanes.now().lanes {
            if let Ok(Some(version)) = lane.endpoint.version(PATIENCE).await {
                metrics.target_version(&lane.target, &version);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
