//! Encodes responses of chat and completions, whose JSON contains choices.

use bytes::Bytes;
use serde::Serialize;

use super::api::{Api, FinishReason, OutputLength, to_event, to_json};

/// The values that all JSON objects of one response share.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) api: Api,
    pub(super) id: String,
    /// Unix time in seconds.
    pub(super) created: u64,
    pub(super) model: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u32,
    pub(super) total_tokens: u32,
    pub(super) completion_tokens: u32,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct CompletionTokens {
    reasoning_tokens: u32,
}

impl Usage {
    pub(super) fn new(prompt_tokens: u32, output: OutputLength) -> Usage {
        Usage {
            prompt_tokens,
            total_tokens: prompt_tokens.saturating_add(output.total),
            completion_tokens: output.total,
            prompt_tokens_details: PromptTokens { cached_tokens: 0 },
            completion_tokens_details: CompletionTokens { reasoning_tokens: output.reasoning },
        }
    }

    pub(super) fn with_cached_tokens(self, cached_tokens: u32) -> Usage {
        Usage { prompt_tokens_details: PromptTokens { cached_tokens }, ..self }
    }

    pub(super) fn cached_tokens(&self) -> u32 {
        self.prompt_tokens_details.cached_tokens
    }

    pub(super) fn reasoning_tokens(&self) -> u32 {
        self.completion_tokens_details.reasoning_tokens
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    /// The text of a completion or of one chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Text<'a>>,
    logprobs: (),
    finish_reason: Option<&'static str>,
}

/// A chat message or one delta.
#[derive(Default, Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl Envelope {
    /// The first event of a chat stream, which has the role but no text. `None` for a completion,
    /// whose stream begins with the first token.
    pub(super) fn role(&self) -> Option<Bytes> {
        let role = Text { role: Some("assistant"), content: Some(""), ..Text::default() };
        match self.api {
            Api::Completions => None,
            _ => Some(self.delta(role, None)),
        }
    }

    pub(super) fn reasoning(&self, text: &str) -> Bytes {
        self.delta(Text { reasoning_content: Some(text), ..Text::default() }, None)
    }

    pub(super) fn content(&self, text: &str) -> Bytes {
        self.delta(Text { content: Some(text), ..Text::default() }, None)
    }

    /// The last events of a stream: the finish reason, the usage if requested, and `[DONE]`.
    pub(super) fn end(&self, finish: FinishReason, usage: Option<Usage>) -> Bytes {
        let mut end = self.delta(Text::default(), Some(finish)).to_vec();
        if usage.is_some() {
            end.extend_from_slice(&to_event(&self.chunk(&[], usage)));
        }
        end.extend_from_slice(b"data: [DONE]\n\n");
        end.into()
    }

    pub(super) fn unstreamed(
        &self,
        reasoning: &str,
        content: &str,
        finish: FinishReason,
        usage: Usage,
    ) -> Bytes {
        let message = Text {
            role: Some("assistant"),
            reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
            content: Some(content),
        };
        let choice = match self.api {
            Api::Completions => Choice { text: Some(content), ..choice(Some(finish)) },
            _ => Choice { message: Some(message), ..choice(Some(finish)) },
        };
        let object = match self.api {
            Api::Completions => TEXT_COMPLETION,
            _ => "chat.completion",
        };
        to_json(&Completion { object, choices: &[choice], ..self.chunk(&[], Some(usage)) }).into()
    }

    fn delta(&self, delta: Text<'_>, finish: Option<FinishReason>) -> Bytes {
        let choice = match self.api {
            // Every choice of a completion has the key `text`, so the last event has an empty text.
            Api::Completions => {
                Choice { text: Some(delta.content.unwrap_or_default()), ..choice(finish) }
            }
            _ => Choice { delta: Some(delta), ..choice(finish) },
        };
        to_event(&self.chunk(&[choice], None)).into()
    }

    fn chunk<'a>(&'a self, choices: &'a [Choice<'a>], usage: Option<Usage>) -> Completion<'a> {
        Completion {
            id: &self.id,
            object: match self.api {
                Api::Completions => TEXT_COMPLETION,
                _ => "chat.completion.chunk",
            },
            created: self.created,
            model: &self.model,
            choices,
            usage,
        }
    }
}

/// The `object` of a completion and of each chunk.
const TEXT_COMPLETION: &str = "text_completion";

fn choice<'a>(finish: Option<FinishReason>) -> Choice<'a> {
    let finish_reason = finish.map(FinishReason::as_str);
    Choice { index: 0, text: None, message: None, delta: None, logprobs: (), finish_reason }
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: [Model<'a>; 1],
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: &'a str,
    max_model_len: u32,
}

/// The body of `/v1/models`.
pub(super) fn models(id: &str, created: u64, max_model_len: u32) -> Bytes {
    let owned_by = "llmload-simulator";
    let model = Model { id, object: "model", created, owned_by, root: id, max_model_len };
    to_json(&ModelList { object: "list", data: [model] }).into()
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// The body of `/version`, in the format of vLLM.
pub(super) fn version() -> Bytes {
    to_json(&Version { version: concat!("llmload-simulator-", env!("CARGO_PKG_VERSION")) }).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope { api: Api::Chat, id: "chatcmpl-1".into(), created: 7, model: "m".into() }
    }

    fn usage() -> Usage {
        Usage::new(3, OutputLength { reasoning: 2, total: 5, finish_reason: FinishReason::Stop })
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn stream_events_have_the_format_of_the_openai_api() {
        let head =
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","#;
        let delta = |delta: &str, finish: &str| {
            format!(
                r#"{head}"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}"#
            ) + "\n\n"
        };
        let envelope = envelope();
        assert_eq!(
            text(&envelope.role().unwrap()),
            delta(r#"{"role":"assistant","content":""}"#, "null")
        );
        assert_eq!(text(&envelope.content("a\"b")), delta(r#"{"content":"a\"b"}"#, "null"));
        assert_eq!(text(&envelope.reasoning("a")), delta(r#"{"reasoning_content":"a"}"#, "null"));
        let finish = delta("{}", r#""length""#);
        assert_eq!(
            text(&envelope.end(FinishReason::Length, None)),
            format!("{finish}data: [DONE]\n\n")
        );
        let usage_event = format!(
            r#"{head}"choices":[],"usage":{{"prompt_tokens":3,"total_tokens":8,"completion_tokens":5,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":2}}}}}}"#
        );
        assert_eq!(
            text(&envelope.end(FinishReason::Length, Some(usage()))),
            format!("{finish}{usage_event}\n\ndata: [DONE]\n\n")
        );
    }

    #[test]
    fn an_unstreamed_chat_response_has_a_message_and_the_usage() {
        let complete = envelope().unstreamed("", "Good day.", FinishReason::Stop, usage());
        let complete: serde_json::Value = serde_json::from_slice(&complete).unwrap();
        assert_eq!(complete["object"], "chat.completion");
        assert_eq!(
            complete["choices"][0]["message"],
            serde_json::json!({"role": "assistant", "content": "Good day."})
        );
        assert_eq!(complete["choices"][0]["finish_reason"], "stop");
        assert_eq!(complete["usage"]["total_tokens"], 8);
        let reasoned = envelope().unstreamed("Hm.", "Good day.", FinishReason::Stop, usage());
        assert!(text(&reasoned).contains(r#""reasoning_content":"Hm.""#));
    }

    #[test]
    fn a_completion_has_the_text_in_its_choice() {
        let envelope = Envelope { api: Api::Completions, id: "cmpl-1".into(), ..envelope() };
        assert_eq!(envelope.role(), None);
        let chunk = |text: &str, finish: &str| {
            format!(
                "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\",\
                 \"choices\":[{{\"index\":0,\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
            )
        };
        assert_eq!(text(&envelope.content(" a")), chunk(" a", "null"));
        let end = envelope.end(FinishReason::Length, None);
        assert_eq!(text(&end), chunk("", "\"length\"") + "data: [DONE]\n\n");
        let complete = envelope.unstreamed("", "Good day.", FinishReason::Stop, usage());
        let complete: serde_json::Value = serde_json::from_slice(&complete).unwrap();
        assert_eq!(
            (&complete["object"], &complete["usage"]["total_tokens"]),
            (&"text_completion".into(), &8.into())
        );
        let choice = serde_json::json!(
            {"index": 0, "text": "Good day.", "logprobs": null, "finish_reason": "stop"}
        );
        assert_eq!(complete["choices"], serde_json::json!([choice]));
    }
}
