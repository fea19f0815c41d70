//! The chat-completions dialect: a request put into bytes, and what one event of the answer means.
//!
//! Meaning is kept apart from keeping: text goes to a sink while it still lies in the read buffer,
//! so the measured path allocates nothing, and a probe that wants the words passes another sink.

use serde_json::{Value, json};

use super::question::Role;
use crate::measurement::{FinishReason, Usage};

mod decode;
mod text;
mod usage;

pub use decode::decode;

/// Where requests go, below the API's root.
pub const PATH: &str = "chat/completions";

/// What kind of text a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// What the user asked for.
    Answer,
    /// Thinking aloud, under any of the names servers give it.
    Reasoning,
    /// The model declines.
    Refusal,
    /// A function's name or its arguments.
    ToolCall,
}

/// Whether an answer comes piece by piece or at once: which field holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `choices[].delta`. `choices[].message` is passed over: some servers repeat all text there.
    Stream,
    /// `choices[].message`.
    Whole,
}

/// What one event (or one whole reply) says, its text aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame<'a> {
    /// It carries text of any kind: it counts as a token event.
    pub tokens: bool,
    /// The last finish reason in it.
    pub finish: Option<FinishReason>,
    /// The last usage in it, wherever it stands.
    pub usage: Option<Usage>,
    /// It reports a failure, whatever else it holds. [`super::Fault`] reads which.
    pub failed: bool,
    /// The model it names.
    pub model: Option<std::borrow::Cow<'a, str>>,
}

/// The words of a conversation, as messages.
pub(super) fn words(said: &[(Role, &str)]) -> (&'static str, Value) {
    let messages = said.iter().map(|(role, text)| json!({"role": role.as_str(), "content": text}));
    ("messages", messages.collect())
}

/// Every name servers give the end of an answer. Blank ones are no reason: some servers fill the
/// field in every event.
pub fn finish_reason(name: &str) -> Option<FinishReason> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "null" => return None,
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "length" | "max_tokens" | "max_output_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "content_filter" | "safety" | "refusal" | "sensitive" | "recitation" | "blocklist"
        | "prohibited_content" | "spii" => FinishReason::ContentFilter,
        // An engine that aborts a request (vLLM, SGLang) did not answer it.
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
    fn a_streaming_request_asks_for_usage() {
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
    fn what_is_not_set_is_not_sent() {
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
    fn extra_fields_win_and_merge_but_never_change_streaming() {
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
    fn finish_reasons_of_many_servers() {
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
