//! The start of a schedule: after the preparation, or at a time that all shards of a run share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{HttpRouteSet, RunOptions, ScenarioError, ScenarioTask};
use crate::calendar::rfc3339;
use crate::launch::ReadinessGate;
use crate::schedule_state::{Activity, ScheduleState};
use crate::timetable::Moment;

/// The longest time without a look at the wall clock, which somebody can set.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// The driver waits for the first arrival more precisely than this module does, so it gets control
/// this long before the start.
const LEAD: Duration = Duration::from_millis(100);

impl ScenarioTask {
    /// Waits for the scenario in `after`, prepares the routes, and waits for the common start of a
    /// run. Returns the routes and the start of the schedule. A run limits the time of the
    /// preparation.
    pub(super) async fn prepare_in_time(
        &self,
        gate: &Arc<ReadinessGate>,
        schedule_state: &ScheduleState,
    ) -> Result<(HttpRouteSet, Instant), ScenarioError> {
        let scenario = &self.spec.scenario;
        if let (Some(predecessor), Some(name)) = (&self.predecessor, &scenario.after) {
            schedule_state.set_waiting(format!("scenario `{name}` to end"));
            tracing::info!(scenario = scenario.name, "waiting for scenario `{name}` to end");
            predecessor.wait().await;
            schedule_state.set_waiting("the target");
        }
        let Some(RunOptions { ready_timeout, start_at, .. }) = self.context.run_options else {
            return Ok((self.prepare(gate).await?, Instant::now()));
        };
        // A scenario that waits for another scenario starts after it.
        let start_at = start_at.filter(|_| self.predecessor.is_none());
        let until_start = start_at.map(|start| until(start).unwrap_or_default());
        let limit = until_start.map_or(ready_timeout, |left| left.min(ready_timeout));
        let prepared = tokio::time::timeout(limit, self.prepare(gate)).await;
        let routes = prepared.unwrap_or_else(|_elapsed| {
            let waiting_for = match schedule_state.activity() {
                Activity::Waiting(waiting_for) => waiting_for,
                _ => "the target".to_owned(),
            };
            let scenario = scenario.name.clone();
            Err(match start_at.filter(|_| limit < ready_timeout) {
                Some(start_at) => ScenarioError::MissedStart { scenario, waiting_for, start_at },
                None => ScenarioError::NotReady { scenario, waiting_for, ready_timeout },
            })
        })?;
        let Some(start_at) = start_at else { return Ok((routes, Instant::now())) };
        schedule_state.set_waiting(rfc3339(start_at));
        Ok((routes, wait_until(start_at).await))
    }
}

/// Waits until shortly before the wall clock shows this time. Returns the instant of this time.
async fn wait_until(start: SystemTime) -> Instant {
    loop {
        match until(start).map(|left| left.saturating_sub(LEAD)) {
            Some(left) if !left.is_zero() => tokio::time::sleep(left.min(CLOCK_CHECK)).await,
            _ => {
                let now = Moment { instant: Instant::now(), wall: SystemTime::now() };
                return now.instant_at(start);
            }
        }
    }
}

/// Returns the time until the wall clock shows `start`; `None` if that time has passed.
fn until(start: SystemTime) -> Option<Duration> {
    start.duration_since(SystemTime::now()).ok()
}

pub(super) fn log_ready(scenario: &str, routes: &HttpRouteSet, options: Option<RunOptions>) {
    let start = options.and_then(|options| options.start_at).map(rfc3339);
    for route in &routes.routes {
        let (target, model) = (&route.target, &route.template.model);
        if let Some(start) = &start {
            tracing::info!(scenario, target, model, "target ready, schedule starts at {start}");
        } else {
            tracing::info!(scenario, target, model, "target ready, schedule starts");
        }
    }
}
