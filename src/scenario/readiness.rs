//! Waits until a target is ready, and learns its model. The list of models at `/models` shows both.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{HttpRouteTable, RouteSpec, ScenarioContext};
use crate::measurement::FailureDetail;
use crate::metrics::Metrics;
use crate::plan::Start;
use crate::remedy::{DiagnosedTarget, Diagnosis};
use crate::status::RouteMonitor;

/// The timeout of one request. It is longer than the default connect timeout, so that a failed
/// connection is reported as such.
const TIMEOUT: Duration = Duration::from_secs(6);
/// From the start of one request to the start of the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// After this time, llmload warns about a target that is still not ready.
const REMINDER_INTERVAL: Duration = Duration::from_mins(5);

pub(super) struct Ready {
    /// The configured model, or the only model in the list.
    pub(super) model: String,
    /// True if the target refused to list its models, so a run should test the key with a request.
    pub(super) is_key_in_doubt: bool,
}

/// Waits until the target is ready, if `start` requires it or the model is not configured.
///
/// In a run, fails if the target rejects the key. A daemon waits, because somebody can correct the
/// key on the server.
pub(super) async fn wait(
    start: &Start,
    route: &RouteSpec,
    monitor: &RouteMonitor,
    context: &ScenarioContext,
) -> Result<Ready, Diagnosis> {
    if let (false, Some(model)) = (*start == Start::WhenReady, &route.target.model) {
        return Ok(Ready { model: model.clone(), is_key_in_doubt: false });
    }
    let is_run = context.run_options.is_some();
    let (scenario, target) = (&monitor.scenario, &monitor.target);
    let mut log = WaitLog::new(Instant::now());
    loop {
        let started = Instant::now();
        let obstacle = match check(route, monitor, &context.metrics).await {
            Ok(Ready { model, is_key_in_doubt }) => {
                return Ok(Ready { model, is_key_in_doubt: is_key_in_doubt && is_run });
            }
            Err(Obstacle::KeyRejected(problem)) if is_run => return Err(problem),
            Err(obstacle) => obstacle,
        };
        let is_lasting = !matches!(obstacle, Obstacle::Target(_));
        let waiting_for = obstacle.to_string();
        match log.severity(&waiting_for, is_lasting, Instant::now()) {
            Some(Severity::Warning) => {
                tracing::warn!(scenario, target, "waiting for {waiting_for}");
            }
            Some(Severity::Info) => tracing::info!(scenario, target, "waiting for {waiting_for}"),
            None => {}
        }
        monitor.schedule_state.set_waiting(waiting_for);
        tokio::time::sleep_until(started + INTERVAL).await;
    }
}

/// The reason why a target is not ready: the text after "waiting for" in the log. If the target
/// responds, somebody probably has to change the target or the configuration.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    /// The target does not respond, or it responds with a server error.
    #[error("the target: {0}")]
    Target(Diagnosis),
    #[error("a model: {0}")]
    Model(Diagnosis),
    /// The target responds with status 401 or 403, so the model is unknown.
    #[error("a model: {0}")]
    KeyRejected(Diagnosis),
}

async fn check(
    route: &RouteSpec,
    monitor: &RouteMonitor,
    metrics: &Metrics,
) -> Result<Ready, Obstacle> {
    let RouteSpec { target, endpoint, .. } = route;
    let address = monitor.info().address;
    let diagnosed = DiagnosedTarget { target, address: &address };
    let (status, models) = endpoint.models(TIMEOUT).await.map_err(|detail| {
        let FailureDetail { failure, message, .. } = &detail;
        let problem = format!("{failure} ({message})");
        Obstacle::Target(Diagnosis::new(problem, diagnosed.remedy(&detail)))
    })?;
    if status >= 500 {
        return Err(Obstacle::Target(diagnosed.server_error(status)));
    }
    metrics.targets.set_ready(&monitor.target, endpoint.address());
    let is_key_in_doubt = matches!(status, 401 | 403);
    match diagnosed.choose_model(status, &models) {
        (Some(model), problem) => {
            // This warning explains why requests to this model will fail.
            if let Some(problem) = problem {
                let (scenario, target) = (&monitor.scenario, &monitor.target);
                tracing::warn!(scenario, target, "{problem}");
            }
            Ok(Ready { model, is_key_in_doubt })
        }
        (None, Some(problem)) if is_key_in_doubt => Err(Obstacle::KeyRejected(problem)),
        (None, Some(problem)) => Err(Obstacle::Model(problem)),
        (None, None) => Err(Obstacle::Model(Diagnosis::new(
            "the target lists no model that llmload can use",
            "set `model` (or `--model`)",
        ))),
    }
}

/// Decides how to log a wait. A new obstacle is logged as information, or as a warning if it is
/// lasting. Every five minutes, a wait is logged as a warning.
struct WaitLog {
    obstacle: String,
    /// The last warning, or the start of the wait.
    since: Instant,
    has_warned: bool,
}

#[derive(Debug, PartialEq)]
enum Severity {
    Info,
    Warning,
}

impl WaitLog {
    fn new(since: Instant) -> WaitLog {
        WaitLog { obstacle: String::new(), since, has_warned: false }
    }

    /// `None` if this obstacle was logged already.
    fn severity(&mut self, obstacle: &str, is_lasting: bool, now: Instant) -> Option<Severity> {
        let is_reminder = now.saturating_duration_since(self.since) >= REMINDER_INTERVAL;
        let is_new = obstacle != self.obstacle;
        if is_new {
            obstacle.clone_into(&mut self.obstacle);
        }
        if is_reminder || is_lasting && !self.has_warned {
            (self.since, self.has_warned) = (now, true);
            return Some(Severity::Warning);
        }
        is_new.then_some(Severity::Info)
    }
}

/// Waits until any target responds without a server error. So a target that stays away does not
/// stop the other targets of the scenario.
pub(super) async fn wait_for_return(routes: &HttpRouteTable, metrics: &Metrics) {
    let mut logs: HashMap<String, WaitLog> = HashMap::new();
    loop {
        let started = Instant::now();
        // Read the routes in each iteration, because a reload can replace them.
        let current = routes.current();
        logs.retain(|target, _| current.routes.iter().any(|route| route.target == *target));
        for route in &current.routes {
            let obstacle = match route.endpoint.models(TIMEOUT).await {
                Ok((status, _)) if status < 500 => {
                    metrics.targets.set_ready(&route.target, route.endpoint.address());
                    route.observer.incidents.target_answered();
                    return;
                }
                Ok((status, _)) => format!("status {status}"),
                Err(FailureDetail { failure, message, .. }) => format!("{failure} ({message})"),
            };
            let log = logs.entry(route.target.clone()).or_insert_with(|| WaitLog::new(started));
            if log.severity(&obstacle, true, Instant::now()).is_some() {
                let target = &route.target;
                tracing::warn!(
                    target,
                    "the readiness check fails: {obstacle}; the next cycle begins when the target \
                     responds"
                );
            }
        }
        tokio::time::sleep_until(started + INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lasting_obstacle_causes_a_warning_before_five_minutes() {
        let begin = Instant::now();
        let mut log = WaitLog::new(begin);
        let mut severity = |obstacle: &str, is_lasting, second| {
            log.severity(obstacle, is_lasting, begin + Duration::from_secs(second))
        };
        assert_eq!(severity("a server", false, 0), Some(Severity::Info));
        assert_eq!(severity("a server", false, 1), None);
        assert_eq!(severity("a model", true, 2), Some(Severity::Warning));
        assert_eq!(severity("a model", true, 301), None);
        assert_eq!(severity("another model", true, 301), Some(Severity::Info));
        assert_eq!(severity("another model", true, 302), Some(Severity::Warning));
        assert_eq!(severity("another model", true, 303), None);
        assert_eq!(severity("a server", false, 602), Some(Severity::Warning), "after five minutes");
        assert_eq!(severity("a server", false, 603), None);
    }
}
