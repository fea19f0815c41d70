//! The APIs that llmload can use, and the settings in which endpoints of one API differ.
//!
//! An [`Api`] has a path and formats. A [`Dialect`] adds the request fields that one target expects
//! or refuses. The encoder needs the dialect; the decoder needs only the `Api`.
//!
//! Only this file knows the module of each API. To add an API, write its module and add a variant
//! to [`Api`]. The compiler then reports each `match` without an arm for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::decoded::{Channel, DecodeError, DecodedEvent};
use super::prompt::Prompt;
use super::sse::SseEvent;
use super::{RequestParameters, chat, completions, embeddings, messages, request_body, responses};

/// An API: the path of its requests and the format of its responses.
///
/// [`StreamReader`](super::StreamReader) and [`BodyReader`](super::BodyReader) know no field names.
/// They call the decoder of the `Api`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Api {
    /// `/chat/completions`
    #[default]
    Chat,
    /// `/completions`
    Completions,
    /// `/responses`
    Responses,
    /// `/messages`
    Messages,
    /// `/embeddings`
    Embeddings,
}

impl Api {
    /// `chat/completions` is first, so that a search for a path at the end of a URL finds the
    /// longer path first.
    pub const ALL: [Api; 5] =
        [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings];

    /// The value of the key `api`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
            Api::Responses => "responses",
            Api::Messages => "messages",
            Api::Embeddings => "embeddings",
        }
    }

    /// Relative to the base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Api::Chat => chat::PATH,
            Api::Completions => completions::PATH,
            Api::Responses => responses::PATH,
            Api::Messages => messages::PATH,
            Api::Embeddings => embeddings::PATH,
        }
    }

    /// Returns the headers that the API requires in each request.
    pub const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Api::Messages => messages::HEADERS,
            Api::Chat | Api::Completions | Api::Responses | Api::Embeddings => &[],
        }
    }

    /// Returns the last event of a stream, such as `[DONE]`. `None` if the API has no streams.
    pub const fn end_marker(self) -> Option<&'static str> {
        match self {
            Api::Chat => Some(chat::END_MARKER),
            Api::Completions => Some(completions::END_MARKER),
            Api::Responses => Some(responses::END_MARKER),
            Api::Messages => Some(messages::END_MARKER),
            Api::Embeddings => None,
        }
    }

    /// False if the response has vectors instead of text, and so no output tokens.
    pub const fn generates_text(self) -> bool {
        !matches!(self, Api::Embeddings)
    }

    /// False if every response is in one piece.
    pub const fn has_streams(self) -> bool {
        self.end_marker().is_some()
    }

    /// Decodes one event of a stream. Passes each text to `sink`, with the index of its choice.
    ///
    /// # Errors
    /// The data is not JSON, or its structure does not fit the API.
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
            Api::Responses => responses::decode_event(event, sink),
            Api::Messages => messages::decode_event(event, sink),
            // A stream of this API has no events that llmload knows.
            Api::Embeddings => Ok(DecodedEvent::default()),
        }
    }

    /// Decodes a body without streaming. Passes each text to `sink`, with the index of its choice.
    ///
    /// # Errors
    /// The body is not JSON, or its structure does not fit the API.
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
            Api::Responses => responses::decode_body(body, sink),
            Api::Messages => messages::decode_body(body, sink),
            Api::Embeddings => embeddings::decode_body(body, sink),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaxTokensField {
    /// `max_tokens`
    #[default]
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
}

impl MaxTokensField {
    pub const fn as_str(self) -> &'static str {
        match self {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// The [`Api`] of one target, and the request fields that this target expects or refuses.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialect {
    pub api: Api,
    pub max_tokens_field: MaxTokensField,
    /// True if streaming requests contain `stream_options.include_usage`, so the stream ends with
    /// token counts. If false, requests never contain `stream_options`.
    pub include_usage: bool,
    /// Additional fields of every request. A scenario can override them.
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
    pub fn path(&self) -> &'static str {
        self.api.path()
    }

    /// Returns true if requests with these parameters request a stream.
    pub fn streams(&self, parameters: &RequestParameters) -> bool {
        parameters.stream && self.api.has_streams()
    }

    /// Returns the number of vectors that the response to this prompt must contain. 0 if the API
    /// has no vectors.
    pub fn expected_vectors(&self, prompt: &Prompt<'_>) -> usize {
        match self.api {
            Api::Embeddings => embeddings::inputs(prompt),
            _ => 0,
        }
    }

    /// As [`Dialect::expected_vectors`], for a complete request body.
    pub fn expected_vectors_of_body(&self, body: &[u8]) -> usize {
        let input = || serde_json::from_slice::<Value>(body).ok()?.get("input").cloned();
        match self.api {
            Api::Embeddings => input().map_or(0, |input| embeddings::inputs_of(&input)),
            _ => 0,
        }
    }

    /// Returns the output limit of a request whose prompt sets none. `None` if such a request has
    /// no limit; 0 if the API generates no text.
    pub fn output_limit(&self, parameters: &RequestParameters) -> Option<u64> {
        request_body::configured_limit(self, parameters)
    }

    /// Returns the field of `extra_body` that removes the output limit; `None` if no field does.
    pub fn removed_output_limit(&self, parameters: &RequestParameters) -> Option<&'static str> {
        request_body::removed_limit(self, parameters)
    }

    pub fn encode(
        &self,
        model: &str,
        parameters: &RequestParameters,
        prompt: &Prompt<'_>,
    ) -> Vec<u8> {
        match self.api {
            Api::Chat => chat::encode(self, model, parameters, prompt),
            Api::Completions => completions::encode(self, model, parameters, prompt),
            Api::Responses => responses::encode(self, model, parameters, prompt),
            Api::Messages => messages::encode(self, model, parameters, prompt),
            Api::Embeddings => embeddings::encode(self, model, parameters, prompt),
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
        let message = |role, text: &'static str| Message::new(role, text);
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
