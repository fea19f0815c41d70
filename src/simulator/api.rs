//! The types that requests and responses share: the two text APIs, the finish reasons, the length
//! of an output, and errors in the format of `OpenAI`.

use ::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

/// The API of a text request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// Chat completions.
    Chat,
    /// Completions, which continue a text.
    Completions,
}

impl Api {
    pub(super) const ALL: [Api; 2] = [Api::Chat, Api::Completions];

    /// The path of the endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
            Api::Completions => "/v1/completions",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
        }
    }
}

/// The reason why an output ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinishReason {
    /// The text is complete.
    Stop,
    /// The token limit cut the text.
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

/// The length of an output in tokens. It is known before the first token is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutputLength {
    /// The number of reasoning tokens, which are before the answer.
    pub(super) reasoning: u32,
    /// The number of all tokens, including reasoning tokens.
    pub(super) total: u32,
    /// The reason why the output ends.
    pub(super) finish_reason: FinishReason,
}

/// An error response.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    /// The `type` of `OpenAI`'s error object.
    pub(super) kind: &'static str,
    /// The `code` of `OpenAI`'s error object.
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

    /// Returns the error for a request that the simulator cannot serve.
    pub(super) fn invalid_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Returns the error for a full queue.
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

    /// Returns the error for requests while the model is loading.
    pub(super) fn loading() -> ApiError {
        ApiError {
            code: Some("loading"),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", "Loading model")
        }
    }

    /// Returns the error for the fault `http_429`.
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

    /// Returns the error for the faults `http_500` and `stream_error`.
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

    /// Returns the error as the body of a response.
    pub(super) fn body(&self) -> Bytes {
        to_json(&self.document()).into()
    }

    /// Returns the error as an event of a stream.
    pub(super) fn event(&self) -> Bytes {
        to_event(&self.document()).into()
    }

    fn document(&self) -> ErrorDocument<'_> {
        let ApiError { kind, code, message, .. } = self;
        ErrorDocument { error: ErrorObject { message, kind, param: (), code: *code } }
    }
}

/// Encodes a document as JSON.
pub(super) fn to_json(document: &impl Serialize) -> Vec<u8> {
    // Structures that contain only strings and numbers can always be encoded.
    serde_json::to_vec(document).unwrap_or_default()
}

/// Encodes a document as one server-sent event.
pub(super) fn to_event(document: &impl Serialize) -> Vec<u8> {
    [b"data: ".as_slice(), &to_json(document), b"\n\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_format_of_openai() {
        assert_eq!(
            ApiError::rate_limited().event(),
            "data: {\"error\":{\"message\":\"Rate limit reached, please try again in 1s.\",\
             \"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n"
        );
    }
}
