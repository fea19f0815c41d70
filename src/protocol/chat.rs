//! The chat completions API. Requests contain `messages`. Events of a stream contain the text in
//! `choices[].delta`.
//!
//! The decoder accepts every known format of real servers and gateways. It also reads responses of
//! the completions API, which differ only in the field of the text.

use serde_json::{Value, json};

use super::decoded::{Channel, DecodeError, DecodedEvent};
use super::lenient::{self, JsonDecoder};
use super::prompt::{Message, Prompt};
use super::reported_error::ReportedError;
use super::sse::SseEvent;
use super::{Dialect, RequestParameters, request_body};
use crate::measurement::FinishReason;

mod decode;

pub use decode::decode;

/// Relative to the base URL.
pub const PATH: &str = "chat/completions";

/// The data of the last event of a stream.
pub(super) const END_MARKER: &str = "[DONE]";

/// Decides which field of a choice contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An event of a stream, with the text in `choices[].delta`. Without `delta`, the text is in
    /// `choices[].message`. With both, `message` is ignored, because it can repeat the complete
    /// text.
    Event,
    /// A body without streaming, with the text in `choices[].message`.
    Body,
}

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let messages = prompt.content.messages(parameters);
    let text = messages.map(|messages| ("messages", messages_value(&messages)));
    request_body::encode(dialect, model, parameters, prompt, text)
}

/// The messages as the chat API writes them.
pub(super) fn messages_value(messages: &[Message<'_>]) -> Value {
    messages.iter().map(message_value).collect()
}

fn message_value(message: &Message<'_>) -> Value {
    let mut value = json!({"role": message.role.as_str(), "content": message.text});
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.as_ref().into();
    }
    value
}

/// True for `[DONE]`, unless the event reports an error.
pub(super) fn is_end_marker(event: SseEvent<'_>) -> bool {
    !event.is_error() && event.data.trim_ascii() == END_MARKER.as_bytes()
}

/// An event that has no data or is named `ping` becomes an empty [`DecodedEvent`].
///
/// # Errors
/// The data is not JSON, or its structure does not fit the API.
pub(super) fn decode_event<'a, S>(
    event: SseEvent<'a>,
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    if is_end_marker(event) {
        return Ok(DecodedEvent { is_end: true, ..DecodedEvent::default() });
    }
    lenient::decode_event(event, Shape::Event, sink)
}

/// # Errors
/// The body is not JSON, or its structure does not fit the API.
pub(super) fn decode_body<'a, S>(
    body: &'a [u8],
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    lenient::decode(body, Shape::Body, sink)
}

impl JsonDecoder for Shape {
    fn decode<'a, S>(self, json: &'a str, sink: &mut S) -> serde_json::Result<DecodedEvent<'a>>
    where
        S: FnMut(u32, Channel, &str),
    {
        decode(json, self, sink)
    }
}

/// Maps the names that servers use. An empty name is no finish reason, because some servers send
/// the field in every event.
pub fn finish_reason(name: &str) -> Option<FinishReason> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "null" => return None,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "model_length"
        | "model_context_window_exceeded" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "content_filter" | "safety" | "refusal" | "sensitive" | "recitation" | "blocklist"
        | "prohibited_content" | "spii" => FinishReason::ContentFilter,
        // vLLM and SGLang send `abort` if the engine aborted the request.
        "error" | "insufficient_system_resource" | "abort" => FinishReason::Error,
        _ => FinishReason::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RequestParameters;
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use crate::protocol::Dialect;

    fn parameters() -> RequestParameters {
        RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream: true,
            extra: BTreeMap::new(),
        }
    }

    fn encoded(parameters: &RequestParameters, prompt: &str) -> Value {
        serde_json::from_slice(&Dialect::default().encode("m", parameters, &prompt.into())).unwrap()
    }

    #[test]
    fn a_streaming_request_includes_usage() {
        assert_eq!(
            encoded(&parameters(), "\"Hi\"\n😀"),
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "\"Hi\"\n😀"},
                ],
                "max_tokens": 16,
                "temperature": 0.5,
                "stream": true,
                "stream_options": {"include_usage": true},
            })
        );
    }

    #[test]
    fn unset_parameters_are_not_sent() {
        let plain =
            RequestParameters { temperature: None, system: None, stream: false, ..parameters() };
        assert_eq!(
            encoded(&plain, "Hi"),
            json!({
                "model": "m",
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 16,
                "stream": false,
            })
        );
    }

    #[test]
    fn extra_fields_override_or_merge_but_never_change_streaming() {
        let extra = json!({
            "top_p": 0.9,
            "temperature": 1,
            "stream": false,
            "max_completion_tokens": 7,
            "stream_options": {"include_obfuscation": false},
        });
        let extra = serde_json::from_value(extra).unwrap();
        let body = encoded(&RequestParameters { extra, ..parameters() }, "Hi");
        assert_eq!(body["top_p"], 0.9);
        assert_eq!(body["temperature"], 1);
        assert_eq!(body["stream"], true);
        assert_eq!(body["max_completion_tokens"], 7);
        assert_eq!(body.get("max_tokens"), None);
        assert_eq!(
            body["stream_options"],
            json!({"include_usage": true, "include_obfuscation": false})
        );
    }

    #[test]
    fn finish_reasons_of_many_servers_are_recognised() {
        use FinishReason::{ContentFilter, Error, Length, Other, Stop, ToolCalls};
        for (name, expected) in [
            ("stop", Some(Stop)),
            ("STOP", Some(Stop)),
            ("eos_token", Some(Stop)),
            ("model_length", Some(Length)),
            ("MAX_TOKENS", Some(Length)),
            ("function_call", Some(ToolCalls)),
            ("SAFETY", Some(ContentFilter)),
            ("sensitive", Some(ContentFilter)),
            ("insufficient_system_resource", Some(Error)),
            ("abort", Some(Error)),
            ("something new", Some(Other)),
            ("", None),
            ("null", None),
        ] {
            assert_eq!(finish_reason(name), expected, "{name:?}");
        }
    }
}
