//! Whether a target is there, and which model it serves: asked by its list of models.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{HttpLane, Way};
use crate::measurement::{FailureDetail, printable};
use crate::metrics::Metrics;
use crate::plan::{self, Auth, Start, Target};
use crate::status::Stream;

/// How long one question for the list of models may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until the next one.
const AGAIN: Duration = Duration::from_secs(1);

/// Waits for what the scenario waits for, and learns the model if the file does not name it.
pub(super) async fn wait(start: &Start, way: &Way, stream: &Stream, metrics: &Metrics) -> String {
    let Way { target, endpoint, .. } = way;
    let scenario = &stream.scenario;
    let named = target.model.clone();
    if let (false, Some(model)) = (*start == Start::WhenReady, &named) {
        return model.clone();
    }
    let address = stream.terms().address;
    let mut told = String::new();
    loop {
        let asked = Instant::now();
        let obstacle = match endpoint.models(PATIENCE).await {
            Ok((status, _)) if status >= 500 => format!("the target: /models answers {status}"),
            Ok((status, models)) => {
                metrics.target_answered(&stream.target);
                let doubt = doubt(target, &address, status, &models);
                if let Some(model) = named {
                    // It answers, and its list may be wrong. But if requests fail now, nobody shall
                    // have to guess why.
                    if let Some(doubt) = doubt {
                        tracing::warn!(scenario, target = stream.target, "{doubt}");
                    }
                    return model;
                }
                match (doubt, models.as_slice()) {
                    (Some(doubt), _) => format!("a model: {doubt} (or set `model`)"),
                    (None, [model]) => return model.clone(),
                    (None, []) => format!("a model: /models answers {status} and lists none; set `model`"),
                    (None, several) => format!("a model: set `model` to one of {}", some_of(several)),
                }
            }
            Err(FailureDetail { failure, message }) => format!("the target: {failure} ({message})"),
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
pub(super) async fn comes_back(lanes: &[Arc<HttpLane>], metrics: &Metrics) {
    loop {
        let asked = Instant::now();
        for lane in lanes {
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

/// What is probably wrong with a target that answers its list of models so.
fn doubt(target: &Target, address: &str, status: u16, models: &[String]) -> Option<String> {
    match (status, &target.model, models) {
        (401 | 403, ..) => Some(format!("/models answers {status}: {}", rejected(target))),
        (404, _, []) => {
            let question = if address.trim_end_matches('/').ends_with("/v1") {
                "is its path right?"
            } else {
                "is `/v1` missing from `base_url`?"
            };
            Some(format!("there is no /models under {address}: {question}"))
        }
        (_, None, [model]) => plan::model_fault(model)
            .map(|fault| format!("the name of the only one that /models lists {fault}")),
        (_, Some(model), [_, ..]) if !models.contains(model) => {
            Some(format!("/models does not list `{}`, but {}", printable(model, 80), some_of(models)))
        }
        _ => None,
    }
}

/// What a target does not let in.
fn rejected(target: &Target) -> String {
    let keys = ["authorization", "api-key", "x-api-key"];
    match &target.auth {
        Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => {
            format!("the key from {} is not accepted", key.origin)
        }
        Auth::None => match target.headers.iter().find(|(name, _)| keys.contains(&name.as_str())) {
            Some((name, _)) => format!("the header `{name}` is not accepted"),
            None => "no key is set, name the variable that holds it with `api_key_env`".to_owned(),
        },
    }
}

/// The names are the server's own words: a few of them, made fit to be shown.
fn some_of(models: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> =
        models.iter().take(SHOWN).map(|model| format!("`{}`", printable(model, 80))).collect();
    match models.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://localhost:8000/v1";

    fn target(keys: &str) -> Target {
        let text = format!("target: {{base_url: '{URL}'{keys}}}\nrate: 1/s\n");
        let key = |name: &str| (name == "KEY").then(|| "sk-0123456789".to_owned());
        let plan = crate::config::parse(&text, "test", None, &key).unwrap();
        Target::clone(&plan.scenarios[0].target)
    }

    fn said(keys: &str, address: &str, status: u16, models: &[&str]) -> String {
        let models: Vec<_> = models.iter().map(|&model| model.to_owned()).collect();
        doubt(&target(keys), address, status, &models).unwrap_or_default()
    }

    #[test]
    fn a_key_that_is_refused_is_named_by_its_origin() {
        let key = ", api_key_env: KEY";
        assert_eq!(
            said(key, URL, 401, &[]),
            "/models answers 401: the key from the variable KEY is not accepted"
        );
        assert_eq!(said(&format!("{key}, model: m"), URL, 403, &["m"]), said(key, URL, 403, &[]));
        assert!(
            said("", URL, 401, &[])
                .ends_with("no key is set, name the variable that holds it with `api_key_env`")
        );
        let header = ", headers: {Authorization: {env: KEY}}";
        assert!(said(header, URL, 403, &[]).ends_with("the header `authorization` is not accepted"));
    }

    #[test]
    fn a_path_that_is_not_there_asks_for_the_usual_one() {
        let asked = said("", "http://localhost:8000/", 404, &[]);
        assert_eq!(
            asked,
            "there is no /models under http://localhost:8000/: is `/v1` missing from `base_url`?"
        );
        assert!(said(", model: m", URL, 404, &[]).ends_with("is its path right?"));
        assert_eq!(said("", URL, 404, &["m"]), "", "a list is a list");
        assert_eq!(said("", URL, 418, &[]), "");
    }

    #[test]
    fn a_model_that_is_not_listed_or_cannot_be_a_label_is_told() {
        assert_eq!(said(", model: a", URL, 200, &["b", "c"]), "/models does not list `a`, but `b`, `c`");
        assert_eq!(said(", model: a", URL, 200, &["b", "a"]), "");
        assert_eq!(said(", model: a", URL, 200, &[]), "");
        assert_eq!(said("", URL, 200, &["a"]), "");
        assert_eq!(said("", URL, 200, &["a", "b"]), "");
        for name in ["", "a\nb", &"x".repeat(257)] {
            let said = said("", URL, 200, &[name]);
            assert!(said.starts_with("the name of the only one that /models lists "), "{said}");
        }
    }
}
