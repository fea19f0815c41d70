//! Validates the parameters that all requests of a scenario share.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::Value;

use super::Validator;
use crate::config::document::Request;
use crate::config::field::{Field, FieldMap, Located};
use crate::config::problem::Mistake;
use crate::plan::RequestParameters;

/// Fields of a request body that only llmload sets, each with the remedy for a user who sets them
/// in `extra`.
pub(super) const RESERVED: [(&str, &str); 11] = [
    ("model", "set `model` in the target"),
    ("messages", "remove it, because llmload fills it with the prompt"),
    ("prompt", "remove it, because llmload fills it with the prompt"),
    ("input", "remove it, because llmload fills it with the prompt"),
    ("instructions", "write `request.system`"),
    ("stream", "write `request.stream`"),
    ("max_tokens", "write `request.max_tokens`"),
    ("max_output_tokens", "write `request.max_tokens`"),
    ("temperature", "write `request.temperature`"),
    ("n", ONE_RESPONSE),
    ("best_of", ONE_RESPONSE),
];

const ONE_RESPONSE: &str = "remove it, because llmload can measure only one response per request";

/// The name of `max_tokens` on newer endpoints. It replaces `max_tokens` in the request.
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";
/// The highest value of `max_tokens`. A larger value is probably a typing error.
const MAX_TOKENS: u32 = 10_000_000;

impl Validator<'_> {
    pub(super) fn request(&self, field: &Field<Request>) -> Option<RequestParameters> {
        let absent = Request::default();
        let request = match field {
            Field::Absent => &absent,
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value,
        };
        let max_tokens =
            self.positive(&request.max_tokens, RequestParameters::DEFAULT_MAX_TOKENS, MAX_TOKENS);
        let temperature = match &request.temperature {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) if (0.0..=2.0).contains(&located.value.0) => {
                Some(Some(located.value.0))
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    "write a temperature from 0 to 2",
                );
                None
            }
        };
        let is_valid = |name: &Located<String>, value: &Located<Value>| {
            let mistake = extra_mistake(&name.value, &value.value, streams(request));
            let is_valid = mistake.is_none();
            if let Some(mistake) = mistake {
                self.report(value.node, mistake);
            }
            is_valid
        };
        let extra = self.body_fields("extra", &request.extra, &[&RESERVED], is_valid);
        if request.system.is_invalid() || request.stream.is_invalid() {
            return None;
        }
        let extra = extra?;
        Some(RequestParameters {
            // Forecasts use this limit, so it must be the limit that llmload sends, under either
            // name.
            max_tokens: extra.get(MAX_COMPLETION_TOKENS).and_then(tokens).or(max_tokens)?,
            temperature: temperature?,
            system: request.system.present().map(|located| located.value.clone()),
            stream: streams(request),
            extra,
        })
    }

    /// Reads a map of additional body fields. Rejects each field in `reserved` with its remedy, and
    /// each field for which `valid` records a mistake and returns false.
    pub(super) fn body_fields(
        &self,
        key: &str,
        field: &Field<FieldMap<Value>>,
        reserved: &[&[(&str, &str)]],
        valid: impl Fn(&Located<String>, &Located<Value>) -> bool,
    ) -> Option<BTreeMap<String, Value>> {
        let entries = match field {
            Field::Absent => return Some(BTreeMap::new()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value.0,
        };
        let mut fields = BTreeMap::new();
        let mut is_valid = true;
        for (name, value) in entries {
            if let Some((_, remedy)) =
                reserved.iter().copied().flatten().find(|(reserved, _)| *reserved == name.value)
            {
                self.problem(
                    name.node,
                    format!("`{}` is not allowed in `{key}`", name.value),
                    *remedy,
                );
                is_valid = false;
            } else if let Some(value) = value.present() {
                is_valid &= valid(name, value);
                fields.insert(name.value.clone(), value.value.clone());
            } else {
                is_valid = false;
            }
        }
        is_valid.then_some(fields)
    }
}

/// Returns the mistake of a field in `extra`. `max_completion_tokens` must be a valid limit,
/// because forecasts use it. `stream_options` must not contain `include_usage`, because llmload
/// sets it.
fn extra_mistake(name: &str, value: &Value, streams: bool) -> Option<Mistake> {
    Some(match (name, value) {
        (MAX_COMPLETION_TOKENS, value) if tokens(value).is_none() => Mistake::new(
            format!("`{value}` is not a valid limit"),
            format!("write a whole number from 1 to {MAX_TOKENS}"),
        ),
        ("stream_options", _) if !streams => Mistake::new(
            "endpoints reject `stream_options` together with `stream: false`",
            "remove one of them",
        ),
        ("stream_options", Value::Object(options)) if options.contains_key("include_usage") => {
            let message = "llmload sets `include_usage` itself";
            Mistake::new(
                message,
                "remove it, or write `stream_options: none` in the target to send none",
            )
        }
        ("stream_options", value) if !value.is_object() => Mistake::new(
            format!("`{value}` is not a map"),
            "write a map, such as `{include_obfuscation: false}`",
        ),
        _ => return None,
    })
}

fn tokens(value: &Value) -> Option<NonZeroU32> {
    let tokens = u32::try_from(value.as_u64()?).ok().filter(|tokens| *tokens <= MAX_TOKENS)?;
    NonZeroU32::new(tokens)
}

fn streams(request: &Request) -> bool {
    request.stream.present().is_none_or(|located| located.value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::plan::RequestParameters;

    /// Returns the parameters for this value of the YAML key `request`, or all problems as text.
    fn request(request: &str) -> Result<RequestParameters, String> {
        let text = format!("target: http://localhost/v1\nrate: 1/s\nrequest: {request}\n");
        let plan = crate::config::parse(&text, "f.yml", None, &|_| None)
            .map_err(|wrong| wrong.to_string())?;
        Ok(plan.scenarios.into_iter().next().expect("a scenario").request)
    }

    #[test]
    fn fields_of_newer_endpoints_are_allowed_in_extra() {
        let parameters = request(
            "{max_tokens: 8, extra: {max_completion_tokens: 9, stream_options: {include_obfuscation: false}}}",
        );
        let parameters = parameters.unwrap();
        assert_eq!(parameters.max_tokens.get(), 9, "the limit that llmload sends");
        assert_eq!(parameters.extra["stream_options"], json!({"include_obfuscation": false}));
        let body = crate::protocol::Dialect::default().encode("m", &parameters, &"hi".into());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(9), None));
        assert_eq!(
            body["stream_options"],
            json!({"include_usage": true, "include_obfuscation": false})
        );
    }

    #[test]
    fn a_field_that_llmload_sets_itself_is_rejected_in_extra() {
        for (wrong, text) in [
            ("{extra: {max_completion_tokens: null}}", "`null` is not a valid limit"),
            ("{extra: {max_completion_tokens: 0}}", "`0` is not a valid limit"),
            ("{extra: {max_completion_tokens: 20000000}}", "from 1 to 10000000"),
            (
                "{extra: {stream_options: {include_usage: false}}}",
                "llmload sets `include_usage` itself",
            ),
            ("{extra: {stream_options: null}}", "`null` is not a map"),
            ("{extra: {stream_options: true}}", "`true` is not a map"),
            ("{stream: false, extra: {stream_options: {}}}", "with `stream: false`"),
            ("{extra: {max_tokens: 5}}", "write `request.max_tokens`"),
            ("{extra: {stream: false}}", "write `request.stream`"),
            ("{extra: {n: 2}}", "one response per request"),
        ] {
            let message = request(wrong).expect_err(wrong);
            assert!(message.contains(text), "{wrong}: {message}");
        }
    }
}
