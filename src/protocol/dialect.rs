//! How one endpoint wants to be spoken to: which API, and by which names.

use std::collections::BTreeMap;

use serde_json::Value;

use super::question::Question;
use super::{RequestParameters, chat, completions};

/// Which API answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/chat/completions` (the default).
    #[default]
    Chat,
    /// `/completions`.
    Completions,
}

/// What the bound of output tokens is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaxTokensField {
    /// `max_tokens` (the default).
    #[default]
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl MaxTokensField {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// How an endpoint wants to be spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialect {
    /// The API.
    pub api: Api,
    /// What the bound of output tokens is called.
    pub max_tokens_field: MaxTokensField,
    /// Whether a stream is asked for its usage. Without it, `stream_options` is never sent.
    pub include_usage: bool,
    /// Further fields of every body; those of a scenario win.
    pub extra_body: BTreeMap<String, Value>,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            api: Api::default(),
            max_tokens_field: MaxTokensField::default(),
            include_usage: true,
            extra_body: BTreeMap::new(),
        }
    }
}

impl Dialect {
    /// Where requests go, below the API's root.
    pub fn path(&self) -> &'static str {
        match self.api {
            Api::Chat => chat::PATH,
            Api::Completions => completions::PATH,
        }
    }

    /// The body of a request.
    pub fn encode(
        &self,
        model: &str,
        parameters: &RequestParameters,
        asked: &Question<'_>,
    ) -> Vec<u8> {
        let words = asked.content.said(parameters).map(|said| match self.api {
            Api::Chat => chat::words(&said),
            Api::Completions => completions::words(&said),
        });
        let words = words.into_iter().map(|(field, words)| (field.to_owned(), words)).collect();
        asked.body(self, model, parameters, words)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::protocol::question::{Content, Message, Role};

    fn encoded(dialect: &Dialect, stream: bool, asked: &Question<'_>) -> Value {
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: None,
            system: Some("Be brief.".into()),
            stream,
            extra: BTreeMap::from([("top_p".to_owned(), json!(0.9))]),
        };
        serde_json::from_slice(&dialect.encode("m", &parameters, asked)).unwrap()
    }

    #[test]
    fn completions_get_the_words_as_one_prompt() {
        let dialect = Dialect { api: Api::Completions, ..Dialect::default() };
        assert_eq!(dialect.path(), "completions");
        assert_eq!(
            encoded(&dialect, true, &"Hi".into()),
            json!({
                "model": "m", "prompt": "Be brief.\n\nHi", "max_tokens": 16, "top_p": 0.9, "stream": true,
                "stream_options": {"include_usage": true},
            })
        );
        let message = |role, text: &'static str| Message { role, text: text.into() };
        let talk = vec![
            message(Role::System, "Own."),
            message(Role::User, "a"),
            message(Role::Assistant, "b"),
        ];
        let asked = Question { nonce: Some("N. ".into()), ..Content::Conversation(talk).into() };
        assert_eq!(encoded(&dialect, false, &asked)["prompt"], "N. Own.\n\na\n\nb");
        let recorded = json!({"prompt": ["x"], "max_tokens": 3});
        let body = encoded(
            &dialect,
            true,
            &Content::Payload(recorded.as_object().unwrap().clone()).into(),
        );
        assert_eq!((&body["prompt"], &body["max_tokens"]), (&json!(["x"]), &json!(3)));
    }

    #[test]
    fn the_bound_goes_by_the_name_the_endpoint_knows() {
        let dialect =
            Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Dialect::default() };
        let body = encoded(&dialect, true, &"Hi".into());
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(16), None));
        let asked = Question { max_tokens: NonZeroU32::new(3), ..Question::from("Hi") };
        let body = encoded(&dialect, true, &asked);
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(3), None));
    }

    #[test]
    fn an_endpoint_that_does_not_know_stream_options_never_sees_them() {
        let dialect = Dialect { include_usage: false, ..Dialect::default() };
        let recorded = json!({"messages": [], "stream_options": {"include_usage": true}});
        let recorded = Content::Payload(recorded.as_object().unwrap().clone()).into();
        for asked in ["Hi".into(), recorded] {
            assert_eq!(encoded(&dialect, true, &asked).get("stream_options"), None);
        }
    }

    #[test]
    fn fields_of_the_target_are_in_every_body_and_give_way() {
        let extra_body = json!({"top_p": 0.1, "chat_template_kwargs": {"enable_thinking": false}});
        let dialect = Dialect {
            extra_body: serde_json::from_value(extra_body).unwrap(),
            ..Dialect::default()
        };
        let body = encoded(&dialect, true, &"Hi".into());
        assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": false}));
        assert_eq!(body["top_p"], 0.9, "the scenario's");
    }
}
