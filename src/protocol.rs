//! The wire format: how a request becomes bytes, and how the bytes of a response are understood.
//!
//! Everything here is synchronous and uses neither sockets nor clocks. The caller reads the socket,
//! reads the clock and passes the bytes in. So a test can split the bytes of a response at any
//! point.
//!
//! | module | owns |
//! |---|---|
//! | [`prompt`] | the prompt of one request, before it is encoded for an API |
//! | [`dialect`] | the list of APIs, and the settings in which endpoints of one API differ |
//! | [`chat`], [`completions`] | one API each: path, encoding, decoding, end of a stream |
//! | `openai_body` | the body fields that chat and completions have in common |
//! | [`decoded`] | one decoded event, in the same form for every API |
//! | [`sse`] | the decoder that turns bytes into server-sent events |
//! | [`stream_reader`], [`body_reader`] | one response, from its first byte to the verdict |
//! | [`response`] | the verdict: the rules that decide between success and failure |
//! | [`reported_error`] | errors as servers report them |
//! | [`headers`] | rate limits and request ids in a response head |
//! | [`trace`] | the trace context of a request |

use std::collections::BTreeMap;
use std::num::NonZeroU32;

pub mod body_reader;
pub mod chat;
pub mod completions;
pub mod decoded;
pub mod dialect;
pub mod headers;
mod openai_body;
pub mod prompt;
pub mod reported_error;
pub mod response;
pub mod sse;
pub mod stream_reader;
pub mod trace;

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

/// Returns true if a `content-type` header names an event stream. Parameters of the header, such as
/// `charset`, are ignored.
pub fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

/// The proof that a streamed response is complete. A stream that ends without this proof is a
/// failure. Users choose the proof with the key `terminal` of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Terminal {
    /// A finish reason (the default).
    #[default]
    FinishReason,
    /// The end marker of the API (`[DONE]`), for servers that never send a finish reason.
    Done,
    /// The end of the body, for servers that send neither a finish reason nor an end marker.
    Eof,
}

/// The parameters that all requests of a scenario have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestParameters {
    /// The highest number of output tokens. Every request contains this limit, so no response is
    /// endless.
    pub max_tokens: NonZeroU32,
    /// The sampling temperature. If `None`, requests contain no temperature, and the endpoint uses
    /// its default.
    pub temperature: Option<f64>,
    /// The system message that precedes each prompt.
    pub system: Option<String>,
    /// True if llmload requests a stream. Without streaming, TTFT and TPOT cannot be measured.
    pub stream: bool,
    /// Additional fields of the request body.
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl RequestParameters {
    /// The `max_tokens` of a request if the configuration sets none.
    pub const DEFAULT_MAX_TOKENS: u32 = 256;
}
