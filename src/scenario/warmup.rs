//! Requests that are sent first, one by one, outside ledger and histograms: what a server does once
//! after its start (graphs, caches, pools) shall not look like load.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::{HttpRoute, ScenarioContext};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::exchange;
use crate::status::RouteMonitor;

/// How long until a pause is looked at again.
const PAUSED: Duration = Duration::from_millis(100);

/// Sends so many requests, each once the one before has ended, however it did.
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
    let last_words = LastWords::default();
    let mut failed = 0;
    for k in 0..u64::from(count) {
        while context.paused.is_on() {
            tokio::time::sleep(PAUSED).await;
        }
        let arrival = Arrival { k, due: Instant::now(), phase: None, lengths: None };
        let finished =
            exchange(&*route.endpoint, arrival, || route.request_spec(arrival), &last_words).await;
        if let Some(labels) = monitor.labels() {
            context.metrics.warmup_request_ended(&labels);
        }
        failed += u32::from(finished.outcome.is_err());
        finished.drain_body().await;
    }
    let (scenario, target) = (&monitor.scenario, &monitor.target);
    if let Some(words) = last_words.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
        tracing::warn!(scenario, target, failed, count, "warm-up requests failed: {words}");
    } else {
        tracing::info!(scenario, target, count, "warmed up");
    }
}

/// How the last failure put it.
#[derive(Default)]
struct LastWords(Mutex<Option<String>>);

impl Observe for LastWords {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        if let Event::Failed { detail, .. } = event {
            let words = format!("{}: {}", detail.failure, detail.message);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
    }
}
