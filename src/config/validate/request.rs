//! The parameters that a scenario's requests share.

use std::collections::BTreeMap;

use super::Checker;
use crate::config::document::Request;
use crate::config::field::Field;
use crate::plan::RequestParameters;

/// Fields of a request body that llmload writes itself, and why they cannot stand in `extra`.
const OURS: [(&str, &str); 10] = [
    ("model", "it is the target's; write it there"),
    ("messages", "they come from the prompts"),
    ("prompt", "it comes from the prompts"),
    ("stream", "write `request.stream`"),
    ("stream_options", "llmload asks for usage itself"),
    ("max_tokens", "write `request.max_tokens`"),
    ("max_completion_tokens", "write `request.max_tokens`"),
    ("temperature", "write `request.temperature`"),
    ("n", "one request is one answer, else its times and tokens would be those of several"),
    ("best_of", "one request is one answer, else its times and tokens would be those of several"),
];

impl Checker<'_> {
    pub(super) fn request(&self, field: &Field<Request>) -> Option<RequestParameters> {
        let absent = Request::default();
        let given = match field {
            Field::Absent => &absent,
            Field::Bad(_) => return None,
            Field::Given(at) => &at.value,
        };
        let max_tokens = self.positive(&given.max_tokens, RequestParameters::DEFAULT_MAX_TOKENS, 10_000_000);
        let temperature = match &given.temperature {
            Field::Absent => Some(None),
            Field::Bad(_) => None,
            Field::Given(at) if (0.0..=2.0).contains(&at.value.0) => Some(Some(at.value.0)),
            Field::Given(at) => {
                self.problem(
                    at.node,
                    format!("{} is out of range; write a temperature from 0 to 2", at.value.0),
                );
                None
            }
        };
        let extra = self.extra(given);
        if given.system.is_bad() || given.stream.is_bad() {
            return None;
        }
        Some(RequestParameters {
            max_tokens: max_tokens?,
            temperature: temperature?,
            system: given.system.given().map(|at| at.value.clone()),
            stream: given.stream.given().is_none_or(|at| at.value),
            extra: extra?,
        })
    }

    fn extra(&self, given: &Request) -> Option<BTreeMap<String, serde_json::Value>> {
        let entries = match &given.extra {
            Field::Absent => return Some(BTreeMap::new()),
            Field::Bad(_) => return None,
            Field::Given(at) => &at.value.0,
        };
        let mut extra = BTreeMap::new();
        let mut good = true;
        for (name, value) in entries {
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name.value) {
                self.problem(name.node, format!("`{}` cannot stand in `extra`; {why}", name.value));
                good = false;
            } else if let Some(value) = value.given() {
                extra.insert(name.value.clone(), value.value.clone());
            } else {
                good = false;
            }
        }
        good.then_some(extra)
    }
}
