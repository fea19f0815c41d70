//! Sends an archived request again, and reports how the endpoint responds.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

use crate::archive::{FailureRecord, MASK};
use crate::check::numbers::duration;
use crate::check::text::{TextStyle, wrapped};
use crate::endpoint::{BuildError, HttpEndpoint};
use crate::measurement::{Measurement, printable};
use crate::plan::Target;
use crate::probe::{ProbedRequest, request};
use crate::protocol::Api;
use crate::remedy::DiagnosedTarget;

/// Why an archived request cannot be sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    #[error(
        "the archive has no body of this request; keep the bodies with `prompts: full`, or with \
         --archive-prompts full"
    )]
    NoBody,
    #[error("the body of this request is not a JSON object, so it cannot be sent again")]
    NotAnObject,
    #[error("llmload does not know the path `{0}` of this request")]
    UnknownPath(String),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// An archived request, and the target that receives it.
#[derive(Debug)]
pub struct Resend<'a> {
    pub record: &'a FailureRecord,
    pub target: Arc<Target>,
    pub base: Url,
    /// The fields that the scenario adds to each request body.
    pub scenario_fields: BTreeMap<String, Value>,
}

/// The response to an archived request.
#[derive(Debug)]
pub struct Resent {
    target: Arc<Target>,
    address: String,
    class_before: String,
    is_stream: bool,
    /// True if the body contains masked values that are not in the configuration.
    has_masks: bool,
    request: ProbedRequest,
}

impl Resend<'_> {
    /// # Errors
    /// The archive has no usable body, its path belongs to no API, or no client can be built for
    /// the target.
    pub async fn send(self) -> Result<Resent, ResendError> {
        let Resend { record, target, base, scenario_fields } = self;
        let body = record.request.as_ref().ok_or(ResendError::NoBody)?;
        let body: Map<String, Value> =
            serde_json::from_str(body.get()).map_err(|_| ResendError::NotAnObject)?;
        let body = unmasked(body, &target.dialect.extra_body, &scenario_fields);
        let body = Value::Object(body);
        let api = Api::ALL.into_iter().find(|api| api.path() == record.path);
        let api = api.ok_or_else(|| ResendError::UnknownPath(printable(&record.path, 64)))?;
        let mut target = Target::clone(&target);
        target.dialect.api = api;
        let target = Arc::new(target);
        let endpoint = Arc::new(HttpEndpoint::new(&target, &base)?);
        let is_stream = body["stream"] == true;
        let text = body.to_string();
        let has_masks = text.contains(MASK);
        let request =
            request::send_body(&endpoint, &target, &record.model, text.into(), is_stream).await;
        Ok(Resent {
            target,
            address: base.as_str().trim_end_matches('/').to_owned(),
            class_before: record.class.clone(),
            is_stream,
            has_masks,
            request,
        })
    }
}

/// Replaces each field that contains a mask by the value in the configuration, if the configuration
/// has this field. The scenario has priority.
fn unmasked(
    mut body: Map<String, Value>,
    target_fields: &BTreeMap<String, Value>,
    scenario_fields: &BTreeMap<String, Value>,
) -> Map<String, Value> {
    for (key, value) in &mut body {
        let configured = scenario_fields.get(key).or_else(|| target_fields.get(key));
        if let Some(configured) = configured
            && value.to_string().contains(MASK)
        {
            *value = configured.clone();
        }
    }
    body
}

impl Resent {
    pub fn is_successful(&self) -> bool {
        self.request.outcome.is_ok()
    }

    /// Returns the response as JSON. Times are in seconds.
    pub fn json(&self) -> Value {
        let ProbedRequest { head, outcome, .. } = &self.request;
        let measurement = outcome.as_ref().ok();
        let failure = outcome.as_ref().err();
        let first = measurement.and_then(Measurement::time_to_first_token);
        json!({
            "address": self.address,
            "succeeded": self.is_successful(),
            "class_before": self.class_before,
            "class": failure.map(|detail| detail.failure.as_str()),
            "message": failure.map(|detail| &detail.message),
            "remedy": failure.map(|detail| self.diagnosed().remedy(detail)),
            "status": head.map(|(status, _)| status),
            "first_token_seconds": first.map(|time| time.as_secs_f64()),
            "duration_seconds": measurement.map(|m| m.duration().as_secs_f64()),
            "input_tokens": measurement.and_then(|m| m.usage.input),
            "output_tokens": measurement.and_then(|m| m.usage.output),
            "has_masked_values": self.has_masks,
        })
    }

    /// Returns the text for a terminal or a file.
    pub fn text(&self, style: TextStyle) -> ResentText<'_> {
        ResentText { resent: self, style }
    }

    fn diagnosed(&self) -> DiagnosedTarget<'_> {
        DiagnosedTarget { target: &self.target, address: &self.address }
    }
}

/// Displays the response to an archived request.
#[derive(Debug)]
pub struct ResentText<'a> {
    resent: &'a Resent,
    style: TextStyle,
}

impl ResentText<'_> {
    fn line(&self, name: &str, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in wrapped(text, self.style.width.saturating_sub(17)).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            writeln!(f, "  {} {line}", self.style.faint(format_args!("{name:14}")))?;
        }
        Ok(())
    }
}

impl Display for ResentText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resent { request, address, class_before, is_stream, has_masks, .. } = self.resent;
        let time = |time: Duration| duration(time.as_secs_f64());
        writeln!(f, "{}", self.style.bold(address))?;
        if let Some((status, at)) = request.head {
            self.line("HTTP status", &format!("{status}, {} after the sending", time(at)), f)?;
        }
        if *has_masks {
            let text = "the request has values that the archive has masked; llmload sent \
                        `[redacted]` instead of them";
            self.line("masked", text, f)?;
        }
        match &request.outcome {
            Ok(measurement) => {
                if let Some(first) = measurement.time_to_first_token().filter(|_| *is_stream) {
                    self.line("first token", &format!("{} after the sending", time(first)), f)?;
                }
                let counted =
                    |tokens: Option<u64>| tokens.map_or("unknown".to_owned(), |n| n.to_string());
                let (input, output) = (measurement.usage.input, measurement.usage.output);
                let tokens = format!("{} input, {} output", counted(input), counted(output));
                self.line("tokens", &tokens, f)?;
                self.line(
                    "end",
                    &format!("{} after the sending", time(measurement.duration())),
                    f,
                )?;
                let verdict =
                    format!("The request succeeded. Before, it failed with {class_before}.");
                write!(f, "{}", self.style.bold(verdict))
            }
            Err(detail) => {
                self.line("class", detail.failure.as_str(), f)?;
                self.line("message", &detail.message, f)?;
                self.line("remedy", &self.resent.diagnosed().remedy(detail), f)?;
                let verdict = if detail.failure.as_str() == class_before {
                    "The request failed again, with the same class.".to_owned()
                } else {
                    format!("The request failed again. Before, it failed with {class_before}.")
                };
                write!(f, "{}", self.style.bold(verdict))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_field_gets_its_value_from_the_configuration() {
        let body = json!({"api_key": MASK, "nested": {"token": MASK}, "other": MASK, "top_p": 1});
        let Value::Object(body) = body else { unreachable!() };
        let fields =
            |value: Value| -> BTreeMap<String, Value> { serde_json::from_value(value).unwrap() };
        let target =
            fields(json!({"api_key": "of the target", "nested": {"token": "t"}, "top_p": 2}));
        let scenario = fields(json!({"api_key": "of the scenario"}));
        let restored = Value::Object(unmasked(body, &target, &scenario));
        assert_eq!(
            restored,
            json!({"api_key": "of the scenario", "nested": {"token": "t"}, "other": MASK, "top_p": 1})
        );
    }
}
