//! The bytes of answers and errors, shaped as `OpenAI`'s API shapes them. Pure: no sockets, no time.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

use super::ask::{Api, Finish, Outline};

/// What every object of one answer carries.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// What was asked; the answer has its form.
    pub(super) api: Api,
    /// Unique to the request.
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The model that answers.
    pub(super) model: String,
}

/// Tokens, as the engine counts them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
    completion_tokens: u32,
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
    /// The usage of an answer that came to its end.
    pub(super) fn new(prompt_tokens: u32, outline: Outline) -> Usage {
        Usage {
            prompt_tokens,
            total_tokens: prompt_tokens.saturating_add(outline.total),
            completion_tokens: outline.total,
            prompt_tokens_details: PromptTokens { cached_tokens: 0 },
            completion_tokens_details: CompletionTokens { reasoning_tokens: outline.reasoning },
        }
    }
}

impl Finish {
    fn as_str(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
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
    /// Of a completion, part of it or whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Text<'a>>,
    logprobs: (),
    finish_reason: Option<&'static str>,
}

/// A message, or a part of one.
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
    /// The first event of a stream: a role and no text, so not yet a token. A completion has none.
    pub(super) fn role(&self) -> Option<Bytes> {
        let role = Text { role: Some("assistant"), content: Some(""), ..Text::default() };
        (self.api == Api::Chat).then(|| self.delta(role, None))
    }

    /// A token of reasoning.
    pub(super) fn reasoning(&self, text: &str) -> Bytes {
        self.delta(Text { reasoning_content: Some(text), ..Text::default() }, None)
    }

    /// A token of the answer.
    pub(super) fn content(&self, text: &str) -> Bytes {
        self.delta(Text { content: Some(text), ..Text::default() }, None)
    }

    /// The last events of a stream: the reason, the usage where it was asked for, and `[DONE]`.
    pub(super) fn end(&self, finish: Finish, usage: Option<Usage>) -> Bytes {
        let mut end = self.delta(Text::default(), Some(finish)).to_vec();
        if usage.is_some() {
            end.extend_from_slice(&event(&self.chunk(&[], usage)));
        }
        end.extend_from_slice(b"data: [DONE]\n\n");
        end.into()
    }

    /// A whole answer, not streamed.
    pub(super) fn whole(
        &self,
        reasoning: &str,
        content: &str,
        finish: Finish,
        usage: Usage,
    ) -> Bytes {
        let message = Text {
            role: Some("assistant"),
            reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
            content: Some(content),
        };
        let choice = match self.api {
            Api::Chat => Choice { message: Some(message), ..choice(Some(finish)) },
            Api::Completions => Choice { text: Some(content), ..choice(Some(finish)) },
        };
        let object = match self.api {
            Api::Chat => "chat.completion",
            Api::Completions => TEXT,
        };
        json(&Completion { object, choices: &[choice], ..self.chunk(&[], Some(usage)) }).into()
    }

    fn delta(&self, delta: Text<'_>, finish: Option<Finish>) -> Bytes {
        let choice = match self.api {
            Api::Chat => Choice { delta: Some(delta), ..choice(finish) },
            // The last event says so too, with nothing in it.
            Api::Completions => {
                Choice { text: Some(delta.content.unwrap_or_default()), ..choice(finish) }
            }
        };
        event(&self.chunk(&[choice], None)).into()
    }

    fn chunk<'a>(&'a self, choices: &'a [Choice<'a>], usage: Option<Usage>) -> Completion<'a> {
        Completion {
            id: &self.id,
            object: match self.api {
                Api::Chat => "chat.completion.chunk",
                Api::Completions => TEXT,
            },
            created: self.created,
            model: &self.model,
            choices,
            usage,
        }
    }
}

/// What a completion is called, and each of its chunks too.
const TEXT: &str = "text_completion";

/// A choice without anything said.
fn choice<'a>(finish: Option<Finish>) -> Choice<'a> {
    let finish_reason = finish.map(Finish::as_str);
    Choice { index: 0, text: None, message: None, delta: None, logprobs: (), finish_reason }
}

/// An answer that says no.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    /// The `type` of `OpenAI`'s error object.
    pub(super) kind: &'static str,
    /// Its `code`.
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: (),
    code: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError { status, kind, code: None, message: message.into() }
    }

    /// The request is at fault.
    pub(super) fn invalid_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// The queue is full.
    pub(super) fn overloaded() -> ApiError {
        ApiError {
            code: Some("overloaded"),
            ..ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded_error",
                "The engine is currently overloaded, please try again later.",
            )
        }
    }

    /// The model is not there yet.
    pub(super) fn loading() -> ApiError {
        ApiError {
            code: Some("loading"),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "Loading model")
        }
    }

    /// The fault of the same name.
    pub(super) fn rate_limited() -> ApiError {
        ApiError {
            code: Some("rate_limit_exceeded"),
            ..ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "Rate limit reached, please try again in 1s.",
            )
        }
    }

    /// A fault of the server's own.
    pub(super) fn internal() -> ApiError {
        ApiError {
            code: Some("internal_error"),
            ..ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "The server had an error while processing your request.",
            )
        }
    }

    /// As the body of an answer.
    pub(super) fn body(&self) -> Bytes {
        json(&self.document()).into()
    }

    /// As an event inside a stream.
    pub(super) fn event(&self) -> Bytes {
        event(&self.document()).into()
    }

    fn document(&self) -> ErrorDocument<'_> {
        let ApiError { kind, code, message, .. } = self;
        ErrorDocument { error: ErrorObject { message, kind, param: (), code: *code } }
    }
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

/// The list of the one model.
pub(super) fn models(id: &str, created: u64, max_model_len: u32) -> Bytes {
    let owned_by = "llmload-simulator";
    let model = Model { id, object: "model", created, owned_by, root: id, max_model_len };
    json(&ModelList { object: "list", data: [model] }).into()
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// The version of the endpoint, in vLLM's form.
pub(super) fn version() -> Bytes {
    json(&Version { version: concat!("llmload-simulator-", env!("CARGO_PKG_VERSION")) }).into()
}

fn json(document: &impl Serialize) -> Vec<u8> {
    // Structures of strings and numbers do not fail to serialise.
    serde_json::to_vec(document).unwrap_or_default()
}

fn event(document: &impl Serialize) -> Vec<u8> {
    [b"data: ".as_slice(), &json(document), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope { api: Api::Chat, id: "chatcmpl-1".into(), created: 7, model: "m".into() }
    }

    fn usage() -> Usage {
        Usage::new(3, Outline { reasoning: 2, total: 5, finish: Finish::Stop })
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn events_have_the_shape_that_clients_know() {
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
        assert_eq!(text(&envelope.end(Finish::Length, None)), format!("{finish}data: [DONE]\n\n"));
        let usage_event = format!(
            r#"{head}"choices":[],"usage":{{"prompt_tokens":3,"total_tokens":8,"completion_tokens":5,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":2}}}}}}"#
        );
        assert_eq!(
            text(&envelope.end(Finish::Length, Some(usage()))),
            format!("{finish}{usage_event}\n\ndata: [DONE]\n\n")
        );
    }

    #[test]
    fn a_whole_answer_is_a_message_with_usage() {
        let whole = envelope().whole("", "Good day.", Finish::Stop, usage());
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["object"], "chat.completion");
        assert_eq!(
            whole["choices"][0]["message"],
            serde_json::json!({"role": "assistant", "content": "Good day."})
        );
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        assert_eq!(whole["usage"]["total_tokens"], 8);
        let reasoned = envelope().whole("Hm.", "Good day.", Finish::Stop, usage());
        assert!(text(&reasoned).contains(r#""reasoning_content":"Hm.""#));
    }

    #[test]
    fn a_completion_says_its_text_in_its_choice() {
        let envelope = Envelope { api: Api::Completions, id: "cmpl-1".into(), ..envelope() };
        assert_eq!(envelope.role(), None);
        let said = |text: &str, finish: &str| {
            format!(
                "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\",\
                 \"choices\":[{{\"index\":0,\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
            )
        };
        assert_eq!(text(&envelope.content(" a")), said(" a", "null"));
        let end = envelope.end(Finish::Length, None);
        assert_eq!(text(&end), said("", "\"length\"") + "data: [DONE]\n\n");
        let whole = envelope.whole("", "Good day.", Finish::Stop, usage());
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(
            (&whole["object"], &whole["usage"]["total_tokens"]),
            (&"text_completion".into(), &8.into())
        );
        let choice = serde_json::json!(
            {"index": 0, "text": "Good day.", "logprobs": null, "finish_reason": "stop"}
        );
        assert_eq!(whole["choices"], serde_json::json!([choice]));
    }

    #[test]
    fn errors_are_openai_objects() {
        assert_eq!(
            text(&ApiError::rate_limited().event()),
            "data: {\"error\":{\"message\":\"Rate limit reached, please try again in 1s.\",\
             \"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n"
        );
    }
}
