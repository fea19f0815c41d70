//! Waits until a target is ready, and learns the model that the target serves. The target's list of
//! models shows both.

use std::time::Duration;

use tokio::time::Instant;

use super::{HttpRouteTable, RouteSpec};
use crate::measurement::FailureDetail;
use crate::metrics::Metrics;
use crate::plan::Start;
use crate::remedy::{DiagnosedTarget, Diagnosis};
use crate::status::RouteMonitor;

/// The timeout of one request for the list of models. It is longer than the default time for a
/// connection, so the reason is known if no connection is established.
const TIMEOUT: Duration = Duration::from_secs(6);
/// The time from the start of one request to the start of the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time after which llmload logs a warning about a target that is still not ready.
const REMINDER_INTERVAL: Duration = Duration::from_mins(5);

/// Waits until the target is ready, if `start` requires this or if the model is not configured.
/// Returns the configured model, or else the model that the target lists.
pub(super) async fn wait(
    start: &Start,
    route: &RouteSpec,
    monitor: &RouteMonitor,
    metrics: &Metrics,
) -> String {
    if let (false, Some(model)) = (*start == Start::WhenReady, &route.target.model) {
        return model.clone();
    }
    let (scenario, target) = (&monitor.scenario, &monitor.target);
    let mut log = WaitLog::new(Instant::now());
    loop {
        let started = Instant::now();
        let obstacle = match check(route, monitor, metrics).await {
            Ok(model) => return model,
            Err(obstacle) => obstacle,
        };
        let Obstacle { waiting_for, is_lasting } = obstacle;
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

/// The reason why a target is not ready.
struct Obstacle {
    /// The words after "waiting for" in the log message.
    waiting_for: String,
    /// True if the target responds. Then it is running, so somebody probably has to change the
    /// target or the configuration before it becomes ready.
    is_lasting: bool,
}

/// Requests the list of models once. Returns the model if the target is ready.
async fn check(
    route: &RouteSpec,
    monitor: &RouteMonitor,
    metrics: &Metrics,
) -> Result<String, Obstacle> {
    let RouteSpec { target, endpoint, .. } = route;
    let address = monitor.info().address;
    let diagnosed = DiagnosedTarget { target, address: &address };
    let passing = |waiting_for| Obstacle { waiting_for, is_lasting: false };
    let (status, models) = endpoint.models(TIMEOUT).await.map_err(|detail| {
        let FailureDetail { failure, message, .. } = &detail;
        let problem = format!("{failure} ({message})");
        passing(format!("the target: {}", Diagnosis::new(problem, diagnosed.remedy(&detail))))
    })?;
    if status >= 500 {
        return Err(passing(format!("the target: {}", diagnosed.server_error(status))));
    }
    metrics.targets.set_ready(&monitor.target, endpoint.address());
    let lasting = |waiting_for| Obstacle { waiting_for, is_lasting: true };
    match diagnosed.choose_model(status, &models) {
        (Some(model), problem) => {
            // Without this warning, the user could not explain why requests to this model fail.
            if let Some(problem) = problem {
                let (scenario, target) = (&monitor.scenario, &monitor.target);
                tracing::warn!(scenario, target, "{problem}");
            }
            Ok(model)
        }
        (None, Some(problem)) => Err(lasting(format!("a model: {problem}"))),
        (None, None) => Err(lasting("a model".to_owned())),
    }
}

/// Decides how to log the wait for a target. A new obstacle is logged as information, or at once as
/// a warning if it is lasting. During every wait, the log gets a warning every five minutes.
struct WaitLog {
    obstacle: String,
    /// The time of the last warning, or the start of the wait if there was no warning.
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

    /// Returns the severity of the log line about this obstacle. Returns `None` if the obstacle was
    /// logged already.
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

/// Waits until a target of the scenario responds without a server error. One target is enough, so
/// that a scenario with several targets does not stop if one target stays away.
pub(super) async fn wait_for_return(routes: &HttpRouteTable, metrics: &Metrics) {
    loop {
        let started = Instant::now();
        // A reload may have replaced the routes.
        for route in &routes.current().routes {
            if let Ok((status, _)) = route.endpoint.models(TIMEOUT).await
                && status < 500
            {
                metrics.targets.set_ready(&route.target, route.endpoint.address());
                route.observer.incidents.target_answered();
                return;
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
