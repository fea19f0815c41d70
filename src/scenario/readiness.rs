//! Whether a target is there, and which model it serves: asked by its list of models.

use std::time::Duration;

use tokio::time::Instant;

use super::{Observer, Way};
use crate::endpoint::HttpEndpoint;
use crate::launch::Lanes;
use crate::measurement::FailureDetail;
use crate::metrics::Metrics;
use crate::plan::Start;
use crate::remedy::{Patient, Trouble};
use crate::status::Stream;

/// How long one question for the list of models may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until the next one.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits for what the scenario waits for, and learns the model if the file does not name it.
pub(super) async fn wait(start: &Start, way: &Way, stream: &Stream, metrics: &Metrics) -> String {
    let Way { target, endpoint, .. } = way;
    let scenario = &stream.scenario;
    if let (false, Some(model)) = (*start == Start::WhenReady, &target.model) {
        return model.clone();
    }
    let address = stream.terms().address;
    let patient = Patient { target, address: &address };
    let mut told = String::new();
    loop {
        let asked = Instant::now();
        let obstacle = match endpoint.models(PATIENCE).await {
            Ok((status, _)) if status >= 500 => format!("the target: {}", patient.ailing(status)),
            Ok((status, models)) => {
                metrics.target_answered(&stream.target);
                match patient.model(status, &models) {
                    (Some(model), doubt) => {
                        // If requests fail now, nobody shall have to guess why.
                        if let Some(doubt) = doubt {
                            tracing::warn!(scenario, target = stream.target, "{doubt}");
                        }
                        return model;
                    }
                    (None, Some(doubt)) => format!("a model: {doubt}"),
                    (None, None) => "a model".to_owned(),
                }
            }
            Err(FailureDetail { failure, message }) => {
                let remedy = patient.remedy(failure, &message);
                format!("the target: {}", Trouble::new(format!("{failure} ({message})"), remedy))
            }
        };
        if obstacle != told {
            tracing::info!(scenario, target = stream.target, "waiting for {obstacle}");
            told.clone_from(&obstacle);
        }
        stream.course.waits_for(obstacle);
        tokio::time::sleep_until(asked + AGAIN).await;
    }
}

/// Waits until one of the targets that went away answers again: a load on several does not end with
/// one of them.
pub(super) async fn comes_back(lanes: &Lanes<HttpEndpoint, Observer>, metrics: &Metrics) {
    loop {
        let asked = Instant::now();
        // A reload may have put others in their place.
        for lane in &lanes.now().lanes {
            if let Ok((status, _)) = lane.endpoint.models(PATIENCE).await
                && status < 500
            {
                metrics.target_answered(&lane.target);
                return;
            }
        }
        tokio::time::sleep_until(asked + AGAIN).await;
    }
}
