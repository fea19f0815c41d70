//! The wire format: encodes requests and decodes responses.
//!
//! This module uses neither sockets nor clocks. The caller reads the socket and passes the bytes,
//! so a test can split a response at any byte.
//!
//! | module | owns |
//! |---|---|
//! | [`prompt`] | the prompt of one request, before it is encoded for an API |
//! | [`dialect`] | the APIs, and the settings in which endpoints of one API differ |
//! | [`chat`], [`completions`], [`responses`], [`messages`], [`embeddings`] | one API each: path, encoding, decoding, end of a stream |
//! | `request_body` | the fields of a request body that the APIs share |
//! | `usage` | the token counts of a response |
//! | `raw_json`, `lenient` | JSON without allocations, and with the faults of some servers |
//! | [`answer`] | the answer of a model, which a later turn of a session sends back |
//! | [`decoded`] | a decoded event, in the same form for every API |
//! | [`sse`] | the decoder of server-sent events |
//! | [`stream_reader`], [`body_reader`] | a response, from its first byte to the verdict |
//! | `pattern` | the recognition of events that differ only in their text |
//! | [`response`] | the verdict: the rules of success and failure |
//! | [`reported_error`] | errors in the formats of many servers |
//! | [`headers`] | rate limits and request ids in a response head |
//! | [`trace`] | the trace context of a request |

use std::collections::BTreeMap;
use std::num::NonZeroU32;

pub mod answer;
pub mod body_reader;
pub mod chat;
pub mod completions;
pub mod decoded;
pub mod dialect;
pub mod embeddings;
pub mod headers;
mod lenient;
pub mod messages;
mod pattern;
pub mod prompt;
mod raw_json;
pub mod reported_error;
mod request_body;
pub mod response;
pub mod responses;
pub mod sse;
pub mod stream_reader;
pub mod trace;
mod usage;

pub use answer::{Answer, ToolCall};
pub use body_reader::{BodyReader, explain_missing_stream};
pub use decoded::{Channel, DecodeError, DecodedEvent, discard_text};
pub use dialect::{Api, Dialect, MaxTokensField};
pub use headers::RateLimits;
pub use prompt::Prompt;
pub use reported_error::{ErrorKind, ReportedError, failure_of_status};
pub use response::CompletedResponse;
pub use sse::{ResponseLimits, begins_like_event_stream};
pub use stream_reader::{Progress, StreamEnd, StreamReader};
pub use trace::Trace;

/// True for `text/event-stream`, with or without parameters such as `charset`.
pub fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

/// The proof that a stream is complete, from the key `terminal` of a target. A stream without this
/// proof is a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Terminal {
    /// A finish reason.
    #[default]
    FinishReason,
    /// The end marker of the API, such as `[DONE]`, for servers without finish reasons.
    Done,
    /// The end of the body, for servers without finish reasons and end markers.
    Eof,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RequestParameters {
    /// The highest number of output tokens. Every request has a limit, so no response is endless.
    pub max_tokens: NonZeroU32,
    /// The sampling temperature; `None` means the default of the endpoint.
    pub temperature: Option<f64>,
    /// The message before each prompt.
    pub system: Option<String>,
    /// Without a stream, TTFT and TPOT cannot be measured.
    pub stream: bool,
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl RequestParameters {
    pub const DEFAULT_MAX_TOKENS: u32 = 256;
}
