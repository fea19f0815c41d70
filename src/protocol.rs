//! The wire: how a request is put into bytes and what the bytes of an answer mean.
//!
//! Everything here is synchronous and knows neither sockets nor clocks: whoever reads the socket
//! stamps the instant first, hands the bytes over, and obeys what comes back. That is why every
//! case can be tested at every split point of its bytes.
//!
//! `asked` is what a request is about · `dialect` says how an endpoint wants to be asked, `chat` and `completions` put it so ·
//! `sse` cuts bytes into events · `chat` says what one event means · `fault` reads what endpoints say when they fail ·
//! `headers` what the head of an answer says beside its status · `trace` names a request to the traces of others · `reply` and `whole` carry a streamed and an unstreamed answer from the first
//! byte to the verdict · `ending` holds the rules of that verdict.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

pub mod chat;
pub mod completions;
pub mod dialect;
pub mod ending;
pub mod fault;
pub mod headers;
pub mod question;
pub mod reply;
pub mod sse;
pub mod trace;
pub mod whole;

pub use chat::Channel;
pub use dialect::{Api, Dialect, MaxTokensField};
pub use ending::Ending;
pub use fault::{Fault, FaultReason, refusal};
pub use headers::RateLimits;
pub use question::Question;
pub use reply::{End, Progress, Reply, no_sink};
pub use sse::Limits;
pub use trace::Trace;
pub use whole::{WholeReply, not_a_stream};

/// Whether a content type is that of an event stream.
pub fn is_event_stream(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

/// Which end proves that an answer is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Terminal {
    /// A finish reason (the default).
    #[default]
    FinishReason,
    /// `[DONE]`, for servers that never send a reason.
    Done,
    /// The end of the body, for servers that send neither.
    Eof,
}

/// The parameters that all requests of a scenario share.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestParameters {
    /// Upper bound of output tokens; always sent, so that no answer is endless.
    pub max_tokens: NonZeroU32,
    /// Sampling temperature; the endpoint's default where `None`.
    pub temperature: Option<f64>,
    /// A system message before each prompt.
    pub system: Option<String>,
    /// Whether the answer is streamed. Without it there is no TTFT and no TPOT.
    pub stream: bool,
    /// Further fields of the request body.
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl RequestParameters {
    /// `max_tokens` where the file says nothing.
    pub const DEFAULT_MAX_TOKENS: u32 = 256;
}
