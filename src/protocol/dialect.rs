//! The APIs that llmload can use, and the settings in which endpoints of one API differ.
//!
//! An [`Api`] is chat or completions. A [`Dialect`] is the `Api` of one target, together with the
//! request fields that this target expects or refuses. Encoding a request needs the dialect.
//! Decoding a response needs only the `Api`.
//!
//! This is the only file that knows which module implements which API. Each module provides a path,
//! an encoder, a decoder for events, a decoder for bodies, and the end marker of its streams. To
//! add an API, write its module and add a variant to [`Api`]. The compiler then reports each
//! `match` that needs a new arm. Dispatch is static, because a decoder runs once for each chunk.

use std::collections::BTreeMap;

use serde_json::Value;

use super::decoded::{Channel, DecodeError, DecodedEvent};
use super::prompt::Prompt;
use super::sse::SseEvent;
use super::{RequestParameters, chat, completions};

/// An API: the path of its requests, and the format of its responses. A [`Dialect`] adds the
/// settings of one target.
///
/// [`StreamReader`](super::StreamReader) and [`BodyReader`](super::BodyReader) know no field names
/// of responses. They call the decoder of the `Api`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/chat/completions` (the default).
    #[default]
    Chat,
    /// `/completions`.
    Completions,
}

impl Api {
    /// All APIs. `chat/completions` comes before `completions`, so that a search for the path at
    /// the end of a URL finds the longer path first.
    pub const ALL: [Api; 2] = [Api::Chat, Api::Completions];

    /// Returns the path of the endpoint, relative to the base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Api::Chat => chat::PATH,
            Api::Completions => completions::PATH,
        }
    }

    /// Returns the data of the event with which the API ends a stream, such as `[DONE]`. Error
    /// messages quote this text.
    pub const fn end_marker(self) -> &'static str {
        match self {
            Api::Chat => chat::END_MARKER,
            Api::Completions => completions::END_MARKER,
        }
    }

    /// Decodes one event of a stream. Passes each piece of text to `sink`, with the index of the
    /// choice that contains it.
    ///
    /// # Errors
    /// The event is not valid JSON, or its structure does not fit the API.
    pub fn decode_event<'a, S>(
        self,
        event: SseEvent<'a>,
        sink: &mut S,
    ) -> Result<DecodedEvent<'a>, DecodeError>
    where
        S: FnMut(u32, Channel, &str),
    {
        match self {
            Api::Chat => chat::decode_event(event, sink),
            Api::Completions => completions::decode_event(event, sink),
        }
    }

    /// Decodes the body of a response that is not a stream. Passes each piece of text to `sink`,
    /// with the index of the choice that contains it.
    ///
    /// # Errors
    /// The body is not valid JSON, or its structure does not fit the API.
    pub fn decode_body<'a, S>(
        self,
        body: &'a [u8],
        sink: &mut S,
    ) -> Result<DecodedEvent<'a>, DecodeError>
    where
        S: FnMut(u32, Channel, &str),
    {
        match self {
            Api::Chat => chat::decode_body(body, sink),
            Api::Completions => completions::decode_body(body, sink),
        }
    }
}

/// The field that limits the number of output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaxTokensField {
    /// `max_tokens` (the default).
    #[default]
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

impl MaxTokensField {
    /// Returns the name of the field in a request body.
    pub const fn as_str(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// The [`Api`] of one target, and the request fields that this target expects or refuses.
///
/// Encoding a request needs the dialect. Decoding a response needs only the `Api`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialect {
    pub api: Api,
    pub max_tokens_field: MaxTokensField,
    /// True if streaming requests contain `stream_options.include_usage`, so the stream ends with
    /// the token counts. If false, llmload never sends `stream_options`.
    pub include_usage: bool,
    /// Additional fields of every request body. If a scenario sets the same field, the value of the
    /// scenario is sent.
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
    /// Returns the path of the endpoint, relative to the base URL.
    pub fn path(&self) -> &'static str {
        self.api.path()
    }

    /// Encodes the body of a request.
    pub fn encode(
        &self,
        model: &str,
        parameters: &RequestParameters,
        prompt: &Prompt<'_>,
    ) -> Vec<u8> {
        match self.api {
            Api::Chat => chat::encode(self, model, parameters, prompt),
            Api::Completions => completions::encode(self, model, parameters, prompt),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::protocol::prompt::{Content, Message, Role};

    fn encoded(dialect: &Dialect, stream: bool, prompt: &Prompt<'_>) -> Value {
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: None,
            system: Some("Be brief.".into()),
            stream,
            extra: BTreeMap::from([("top_p".to_owned(), json!(0.9))]),
        };
        serde_json::from_slice(&dialect.encode("m", &parameters, prompt)).unwrap()
    }

    #[test]
    fn completions_receive_a_conversation_as_one_prompt() {
        let dialect = Dialect { api: Api::Completions, ..Dialect::default() };
        assert_eq!(dialect.path(), "completions");
        assert_eq!(
            encoded(&dialect, true, &"Hi".into()),
            json!({
                "model": "m", "prompt": "Be brief.\n\nHi", "max_tokens": 16, "top_p": 0.9,
                "stream": true, "stream_options": {"include_usage": true},
            })
        );
        let message = |role, text: &'static str| Message { role, text: text.into() };
        let conversation = vec![
            message(Role::System, "Own."),
            message(Role::User, "a"),
            message(Role::Assistant, "b"),
        ];
        let prompt =
            Prompt { nonce: Some("N. ".into()), ..Content::Conversation(conversation).into() };
        assert_eq!(encoded(&dialect, false, &prompt)["prompt"], "N. Own.\n\na\n\nb");
        let recorded = json!({"prompt": ["x"], "max_tokens": 3});
        let body = encoded(
            &dialect,
            true,
            &Content::Payload(recorded.as_object().unwrap().clone()).into(),
        );
        assert_eq!((&body["prompt"], &body["max_tokens"]), (&json!(["x"]), &json!(3)));
    }

    #[test]
    fn the_output_limit_has_the_name_that_the_endpoint_expects() {
        let dialect =
            Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Dialect::default() };
        let body = encoded(&dialect, true, &"Hi".into());
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(16), None));
        let prompt = Prompt { max_tokens: NonZeroU32::new(3), ..Prompt::from("Hi") };
        let body = encoded(&dialect, true, &prompt);
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(3), None));
    }

    #[test]
    fn an_endpoint_without_stream_options_never_receives_them() {
        let dialect = Dialect { include_usage: false, ..Dialect::default() };
        let recorded = json!({"messages": [], "stream_options": {"include_usage": true}});
        let recorded = Content::Payload(recorded.as_object().unwrap().clone()).into();
        for prompt in ["Hi".into(), recorded] {
            assert_eq!(encoded(&dialect, true, &prompt).get("stream_options"), None);
        }
    }

    #[test]
    fn fields_of_the_target_are_in_every_body_and_the_scenario_overrides_them() {
        let extra_body = json!({"top_p": 0.1, "chat_template_kwargs": {"enable_thinking": false}});
        let dialect = Dialect {
            extra_body: serde_json::from_value(extra_body).unwrap(),
            ..Dialect::default()
        };
        let body = encoded(&dialect, true, &"Hi".into());
        assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": false}));
        assert_eq!(body["top_p"], 0.9, "the value of the scenario");
    }
}
