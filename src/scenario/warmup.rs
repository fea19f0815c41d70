//! Sends the warm-up requests of a route (one scenario on one target) one after the other, before
//! the schedule starts. No count and no histogram includes these requests, because the first
//! requests to a server are slow: the server still builds its graphs, caches and pools.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{HttpRoute, ScenarioContext};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::exchange;
use crate::status::RouteMonitor;

/// How often a paused warm-up checks whether the pause has ended.
const PAUSE_CHECK: Duration = Duration::from_millis(100);

/// Sends `count` requests. Each request starts after the previous request has ended, successfully
/// or not.
pub(super) async fn send(
    route: &HttpRoute,
    count: u32,
    monitor: &RouteMonitor,
    context: &ScenarioContext,
) {
    if count == 0 {
        return;
    }
    monitor.schedule_state.set_waiting("its warm-up");
    let last_failure = LastFailure::default();
    let mut failed = 0;
    for k in 0..u64::from(count) {
        while context.paused.is_on() {
            tokio::time::sleep(PAUSE_CHECK).await;
        }
        let arrival = Arrival { k, due: Instant::now(), phase: None, lengths: None };
        let build = || route.template.request_spec(arrival);
        let finished = exchange(&*route.endpoint, arrival, build, &last_failure).await;
        if let Some(labels) = monitor.labels() {
            context.metrics.warmup_request_ended(&labels);
        }
        failed += u32::from(finished.outcome.is_err());
        finished.drain_body().await;
    }
    let (scenario, target) = (&monitor.scenario, &monitor.target);
    let last_failure = last_failure.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = last_failure {
        tracing::warn!(scenario, target, failed, count, "warm-up requests failed: {failure}");
    } else {
        tracing::info!(scenario, target, count, "warm-up completed");
    }
}

/// The text of the last failure.
#[derive(Default)]
struct LastFailure(Mutex<Option<String>>);

impl Observe for LastFailure {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        if let Event::Failed { detail, .. } = event {
            let failure = format!("{}: {}", detail.failure, detail.message);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        }
    }
}
