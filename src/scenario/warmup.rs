//! Sends the warm-up requests of a route before the schedule starts. A route is one scenario on one
//! target. The first requests to a server are slow, so no metric counts them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{HttpRoute, ScenarioContext};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::exchange;
use crate::guard::Permit;
use crate::measurement::{Failure, FailureDetail};
use crate::remedy::{DiagnosedTarget, Diagnosis};
use crate::schedule_state::ScheduleState;
use crate::status::RouteMonitor;

/// A warm-up that waits checks at this interval if it can continue.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The reason for which a scenario waits.
const WARMUP: &str = "its warm-up";

/// Sends `count` requests, one after the other.
///
/// In a run, fails at once if the target rejects the key or the quota is used up, because all later
/// requests would fail too.
pub(super) async fn send(
    route: &HttpRoute,
    count: u32,
    monitor: &RouteMonitor,
    context: &ScenarioContext,
) -> Result<(), Diagnosis> {
    if count == 0 {
        return Ok(());
    }
    monitor.schedule_state.set_waiting(WARMUP);
    let last_failure = LastFailure::default();
    let mut failed = 0_u32;
    for k in 0..u64::from(count) {
        let mut arrival = Arrival { k, due: Instant::now(), phase: None, lengths: None, turn: 0 };
        let permit = permit(route, &arrival, &monitor.schedule_state, context).await;
        arrival.due = Instant::now();
        let build = || route.template.request_spec(arrival);
        let finished = exchange(&*route.endpoint, arrival, build, &last_failure).await;
        // A warm-up request has no breaker.
        let _no_change = permit.finish(&finished.request_outcome(), Instant::now());
        if let Some(labels) = monitor.labels() {
            context.metrics.warmup_request_ended(&labels);
        }
        let is_refused = matches!(finished.outcome, Err(Failure::Auth | Failure::Quota));
        let failure = finished.outcome.is_err().then(|| last_failure.get()).flatten();
        finished.drain_body().await;
        let Some(detail) = failure else { continue };
        let info = monitor.info();
        let diagnosed = DiagnosedTarget { target: &info.configured, address: &info.address };
        let problem = format!("a warm-up request failed: {}", text(&detail));
        let diagnosis = Diagnosis::new(problem, diagnosed.remedy(&detail));
        if is_refused && context.run_options.is_some() {
            return Err(diagnosis);
        }
        failed += 1;
        monitor.schedule_state.set_waiting(format!("{WARMUP}: {diagnosis}"));
    }
    let (scenario, target) = (&monitor.scenario, &monitor.target);
    if let Some(failure) = last_failure.get().map(|detail| text(&detail)) {
        tracing::warn!(scenario, target, failed, count, "warm-up requests failed: {failure}");
    } else {
        tracing::info!(scenario, target, count, "warm-up completed");
    }
    Ok(())
}

/// Waits until llmload is not paused and the limits of the target admit the request. A warm-up
/// request is never dropped.
async fn permit(
    route: &HttpRoute,
    arrival: &Arrival,
    state: &ScheduleState,
    context: &ScenarioContext,
) -> Permit {
    let demand = route.template.demand(arrival, 0);
    let mut has_waited = false;
    loop {
        // A pause can begin while the limits hold the request back.
        if context.paused.is_on() {
            tokio::time::sleep(CHECK_INTERVAL).await;
            continue;
        }
        match route.guard.admit_unmeasured(demand, (Instant::now(), SystemTime::now())) {
            Ok(permit) => {
                if has_waited {
                    state.set_waiting(WARMUP);
                }
                return permit;
            }
            Err(reason) => {
                state.set_waiting(format!("{WARMUP}, which `{}` holds back", reason.as_str()));
                has_waited = true;
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        }
    }
}

fn text(detail: &FailureDetail) -> String {
    format!("{}: {}", detail.failure, detail.message)
}

#[derive(Default)]
struct LastFailure(Mutex<Option<FailureDetail>>);

impl LastFailure {
    fn get(&self) -> Option<FailureDetail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observe for LastFailure {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        if let Event::Failed { detail, .. } = event {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(detail.clone());
        }
    }
}
