//! Whether a target is there, and which model it serves: asked by its list of models.

use std::time::Duration;

use tokio::time::Instant;

use super::{Observer, RouteSpec};
use crate::endpoint::HttpEndpoint;
use crate::launch::RouteTable;
use crate::measurement::FailureDetail;
use crate::metrics::Metrics;
use crate::plan::Start;
use crate::remedy::{DiagnosedTarget, Diagnosis};
use crate::status::RouteMonitor;

/// How long one question for the list of models may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until the next one.
const AGAIN: Duration = Duration::from_secs(1);
/// How long until whoever reads warnings only is told once more.
const REMIND: Duration = Duration::from_mins(5);

/// Waits for what the scenario waits for, and learns the model if the file does not name it.
pub(super) async fn wait(
    start: &Start,
    route: &RouteSpec,
    monitor: &RouteMonitor,
    metrics: &Metrics,
) -> String {
    let RouteSpec { target, endpoint, .. } = route;
    let scenario = &monitor.scenario;
    if let (false, Some(model)) = (*start == Start::WhenReady, &target.model) {
        return model.clone();
    }
    let address = monitor.info().address;
    let diagnosed = DiagnosedTarget { target, address: &address };
    let mut told = Told::since(Instant::now());
    loop {
        let asked = Instant::now();
        // What answers like that is likely to go on so.
        let mut stands = false;
        let obstacle = match endpoint.models(PATIENCE).await {
            Ok((status, _)) if status >= 500 => {
                format!("the target: {}", diagnosed.server_error(status))
            }
            Ok((status, models)) => {
                metrics.target_answered(&monitor.target, endpoint.address());
                stands = true;
                match diagnosed.choose_model(status, &models) {
                    (Some(model), doubt) => {
                        // If requests fail now, nobody shall have to guess why.
                        if let Some(doubt) = doubt {
                            tracing::warn!(scenario, target = monitor.target, "{doubt}");
                        }
                        return model;
                    }
                    (None, Some(doubt)) => format!("a model: {doubt}"),
                    (None, None) => "a model".to_owned(),
                }
            }
            Err(detail) => {
                let FailureDetail { failure, message, .. } = &detail;
                let problem = format!("{failure} ({message})");
                format!("the target: {}", Diagnosis::new(problem, diagnosed.remedy(&detail)))
            }
        };
        match told.tell(&obstacle, stands, Instant::now()) {
            Some(Loudness::Warning) => {
                tracing::warn!(scenario, target = monitor.target, "waiting for {obstacle}");
            }
            Some(Loudness::Word) => {
                tracing::info!(scenario, target = monitor.target, "waiting for {obstacle}");
            }
            None => {}
        }
        monitor.schedule_state.set_waiting(obstacle);
        tokio::time::sleep_until(asked + AGAIN).await;
    }
}

/// What was said of a wait so far: a word whenever something else is waited for, and a warning, now and
/// then, of what will not pass by itself. Of what might, once it lasts.
struct Told {
    words: String,
    /// When the wait began, or was warned of.
    since: Instant,
    warned: bool,
}

#[derive(Debug, PartialEq)]
enum Loudness {
    Word,
    Warning,
}

impl Told {
    fn since(since: Instant) -> Told {
        Told { words: String::new(), since, warned: false }
    }

    fn tell(&mut self, words: &str, stands: bool, now: Instant) -> Option<Loudness> {
        let lasts = now.saturating_duration_since(self.since) >= REMIND;
        let (warns, is_new) = (lasts || stands && !self.warned, words != self.words);
        if warns {
            (self.since, self.warned) = (now, true);
        }
        if is_new {
            words.clone_into(&mut self.words);
        }
        match (warns, is_new) {
            (true, _) => Some(Loudness::Warning),
            (false, true) => Some(Loudness::Word),
            (false, false) => None,
        }
    }
}

/// Waits until one of the targets that went away answers again: a load on several does not end with
/// one of them.
pub(super) async fn comes_back(routes: &RouteTable<HttpEndpoint, Observer>, metrics: &Metrics) {
    loop {
        let asked = Instant::now();
        // A reload may have put others in their place.
        for route in &routes.now().routes {
            if let Ok((status, _)) = route.endpoint.models(PATIENCE).await
                && status < 500
            {
                metrics.target_answered(&route.target, route.endpoint.address());
                route.observer.1.0.answered();
                return;
            }
        }
        tokio::time::sleep_until(asked + AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_will_not_pass_is_warned_of_at_once_and_all_that_lasts_every_few_minutes() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut told = Told::since(begun);
        assert_eq!(told.tell("a server", false, at(0)), Some(Loudness::Word));
        assert_eq!(told.tell("a server", false, at(1)), None);
        assert_eq!(told.tell("a model", true, at(2)), Some(Loudness::Warning));
        assert_eq!(told.tell("a model", true, at(301)), None);
        assert_eq!(told.tell("another model", true, at(301)), Some(Loudness::Word));
        assert_eq!(told.tell("another model", true, at(302)), Some(Loudness::Warning));
        assert_eq!(told.tell("another model", true, at(303)), None);
        assert_eq!(
            told.tell("a server", false, at(602)),
            Some(Loudness::Warning),
            "five minutes later"
        );
        assert_eq!(told.tell("a server", false, at(603)), None);
    }
}
