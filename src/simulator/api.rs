//! The types that requests and responses share.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
}

impl Api {
    pub(super) const ALL: [Api; 5] =
        [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings];

    pub(super) fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
            Api::Responses => "/v1/responses",
            Api::Messages => "/v1/messages",
            Api::Embeddings => "/v1/embeddings",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
            Api::Responses => "responses",
            Api::Messages => "messages",
            Api::Embeddings => "embeddings",
        }
    }

    /// The start of the id of a response.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Api::Chat => "chatcmpl-",
            Api::Completions => "cmpl-",
            Api::Responses => "resp_",
            Api::Messages => "msg_",
            Api::Embeddings => "embd-",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinishReason {
    Stop,
    Length,
}

impl FinishReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// The length of an output in tokens, which is known before the first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputLength {
    /// The number of reasoning tokens, which precede the answer.
    pub(super) reasoning: u32,
    /// The number of all tokens, including reasoning tokens.
    pub(super) total: u32,
    pub(super) finish_reason: FinishReason,
}

#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    /// The `type` in the error object.
    pub(super) kind: &'static str,
    /// The `code` in the error object.
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorObject<'a>,
}

/// An error of the APIs whose events have types.
#[derive(Serialize)]
struct TypedErrorDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
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

    pub(super) fn invalid_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A full queue.
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

    /// The model is still loading.
    pub(super) fn loading() -> ApiError {
        ApiError {
            code: Some("loading"),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "Loading model")
        }
    }

    /// The fault `http_429`.
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

    /// The faults `http_500` and `stream_error`.
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

    /// The body of a response of this API.
    pub(super) fn body(&self, api: Api) -> Bytes {
        match api {
            Api::Messages => to_json(&self.typed_document()).into(),
            _ => to_json(&self.document()).into(),
        }
    }

    /// The last event of a stream of this API.
    pub(super) fn event(&self, api: Api) -> Bytes {
        match api {
            Api::Messages | Api::Responses => to_typed_event("error", &self.typed_document()),
            _ => to_event(&self.document()).into(),
        }
    }

    fn typed_document(&self) -> TypedErrorDocument<'_> {
        TypedErrorDocument { kind: "error", error: self.document().error }
    }

    fn document(&self) -> ErrorDocument<'_> {
        let ApiError { kind, code, message, .. } = self;
        ErrorDocument { error: ErrorObject { message, kind, param: (), code: *code } }
    }
}

pub(super) fn to_json(document: &impl Serialize) -> Vec<u8> {
    // Strings and numbers can always be encoded.
    serde_json::to_vec(document).unwrap_or_default()
}

/// Encodes a server-sent event.
pub(super) fn to_event(document: &impl Serialize) -> Vec<u8> {
    [b"data: ".as_slice(), &to_json(document), b"\n\n"].concat()
}

/// Encodes a server-sent event with the type of its JSON as its name.
pub(super) fn to_typed_event(name: &str, document: &impl Serialize) -> Bytes {
    [b"event: ".as_slice(), name.as_bytes(), b"\n", &to_event(document)].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_format_of_openai() {
        assert_eq!(
            ApiError::rate_limited().event(Api::Chat),
            "data: {\"error\":{\"message\":\"Rate limit reached, please try again in 1s.\",\
             \"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n"
        );
    }

    #[test]
    fn errors_of_typed_events_have_a_type() {
        let event = ApiError::overloaded().event(Api::Messages);
        let start = "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":";
        assert!(event.starts_with(start.as_bytes()), "{event:?}");
        let body = ApiError::overloaded().body(Api::Messages);
        assert!(body.starts_with(b"{\"type\":\"error\""), "{body:?}");
    }
}
