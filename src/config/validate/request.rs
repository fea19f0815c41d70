//! The parameters that a scenario's requests share.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::Value;

use super::Validator;
use crate::config::document::Request;
use crate::config::field::{Field, FieldMap, Located};
use crate::plan::RequestParameters;

/// Fields of a request body that llmload writes itself, and why they cannot stand in `extra`.
pub(super) const OURS: [(&str, &str); 8] = [
    ("model", "it is the target's; write it there"),
    ("messages", "they come from the prompts"),
    ("prompt", "it comes from the prompts"),
    ("stream", "write `request.stream`"),
    ("max_tokens", "write `request.max_tokens`"),
    ("temperature", "write `request.temperature`"),
    ("n", "one request is one answer, else its times and tokens would be those of several"),
    ("best_of", "one request is one answer, else its times and tokens would be those of several"),
];

/// What newer endpoints call `max_tokens`; where it is given, `max_tokens` is not sent.
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";
/// Output tokens of one request at most: more is a slip of the keyboard.
const MOST_TOKENS: u32 = 10_000_000;

impl Validator<'_> {
    pub(super) fn request(&self, field: &Field<Request>) -> Option<RequestParameters> {
        let absent = Request::default();
        let given = match field {
            Field::Absent => &absent,
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value,
        };
        let max_tokens =
            self.positive(&given.max_tokens, RequestParameters::DEFAULT_MAX_TOKENS, MOST_TOKENS);
        let temperature = match &given.temperature {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) if (0.0..=2.0).contains(&located.value.0) => {
                Some(Some(located.value.0))
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range; write a temperature from 0 to 2", located.value.0),
                );
                None
            }
        };
        let fit = |name: &Located<String>, value: &Located<Value>| {
            self.is_fit(&name.value, value, streams(given))
        };
        let extra = self.own_fields("extra", &given.extra, &[&OURS], fit);
        if given.system.is_invalid() || given.stream.is_invalid() {
            return None;
        }
        let extra = extra?;
        Some(RequestParameters {
            // Whatever its name, it is the bound that forecasts go by.
            max_tokens: extra.get(MAX_COMPLETION_TOKENS).and_then(tokens).or(max_tokens)?,
            temperature: temperature?,
            system: given.system.present().map(|located| located.value.clone()),
            stream: streams(given),
            extra,
        })
    }

    /// Fields of a body as they stand in the file, but for those that are written elsewhere, each with
    /// where. A field that is not `fit` has been said to be so.
    pub(super) fn own_fields(
        &self,
        key: &str,
        field: &Field<FieldMap<Value>>,
        reserved: &[&[(&str, &str)]],
        fit: impl Fn(&Located<String>, &Located<Value>) -> bool,
    ) -> Option<BTreeMap<String, Value>> {
        let entries = match field {
            Field::Absent => return Some(BTreeMap::new()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value.0,
        };
        let mut fields = BTreeMap::new();
        let mut good = true;
        for (name, value) in entries {
            if let Some((_, why)) =
                reserved.iter().copied().flatten().find(|(ours, _)| *ours == name.value)
            {
                self.problem(name.node, format!("`{}` cannot stand in `{key}`; {why}", name.value));
                good = false;
            } else if let Some(value) = value.present() {
                good &= fit(name, value);
                fields.insert(name.value.clone(), value.value.clone());
            } else {
                good = false;
            }
        }
        good.then_some(fields)
    }

    /// Two fields may stand in `extra` and yet not hold anything: one bounds the answer, the other
    /// is where llmload asks for usage.
    fn is_fit(&self, name: &str, value: &Located<Value>, streams: bool) -> bool {
        let wrong = match (name, &value.value) {
            (MAX_COMPLETION_TOKENS, value) if tokens(value).is_none() => {
                format!("`{value}` is no bound; write a whole number from 1 to {MOST_TOKENS}")
            }
            ("stream_options", _) if !streams => {
                "`stream_options` goes with `stream: true`; endpoints refuse it without".to_owned()
            }
            ("stream_options", Value::Object(options)) if options.contains_key("include_usage") => {
                "`include_usage` cannot stand in `stream_options`; llmload asks for usage itself"
                    .to_owned()
            }
            ("stream_options", Value::Object(_)) => return true,
            ("stream_options", value) => {
                format!("`{value}` is no map; write it as `{{include_obfuscation: false}}`")
            }
            _ => return true,
        };
        self.problem(value.node, wrong);
        false
    }
}

fn tokens(value: &Value) -> Option<NonZeroU32> {
    let tokens = u32::try_from(value.as_u64()?).ok().filter(|tokens| *tokens <= MOST_TOKENS)?;
    NonZeroU32::new(tokens)
}

fn streams(given: &Request) -> bool {
    given.stream.present().is_none_or(|located| located.value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::plan::RequestParameters;

    /// What a scenario with this `request` sends, or all that is wrong with it.
    fn request(request: &str) -> Result<RequestParameters, String> {
        let text = format!("target: http://localhost/v1\nrate: 1/s\nrequest: {request}\n");
        let plan = crate::config::parse(&text, "f.yml", None, &|_| None)
            .map_err(|wrong| wrong.to_string())?;
        Ok(plan.scenarios.into_iter().next().expect("a scenario").request)
    }

    #[test]
    fn what_newer_endpoints_ask_for_may_stand_in_extra() {
        let parameters = request(
            "{max_tokens: 8, extra: {max_completion_tokens: 9, stream_options: {include_obfuscation: false}}}",
        );
        let parameters = parameters.unwrap();
        assert_eq!(parameters.max_tokens.get(), 9, "the one that is sent");
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
    fn no_field_of_extra_takes_what_is_llmloads() {
        for (wrong, words) in [
            ("{extra: {max_completion_tokens: null}}", "`null` is no bound"),
            ("{extra: {max_completion_tokens: 0}}", "`0` is no bound"),
            ("{extra: {max_completion_tokens: 20000000}}", "from 1 to 10000000"),
            ("{extra: {stream_options: {include_usage: false}}}", "llmload asks for usage itself"),
            ("{extra: {stream_options: null}}", "`null` is no map"),
            ("{extra: {stream_options: true}}", "`true` is no map"),
            ("{stream: false, extra: {stream_options: {}}}", "goes with `stream: true`"),
            ("{extra: {max_tokens: 5}}", "write `request.max_tokens`"),
            ("{extra: {stream: false}}", "write `request.stream`"),
            ("{extra: {n: 2}}", "one request is one answer"),
        ] {
            let said = request(wrong).expect_err(wrong);
            assert!(said.contains(words), "{wrong}: {said}");
        }
    }
}
