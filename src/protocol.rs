//! The wire: how a request is put into bytes and what the bytes of an answer mean.
//!
//! Everything here is synchronous and knows neither sockets nor clocks: whoever reads the socket
//! stamps the instant first, hands the bytes over, and obeys what comes back. That is why every
//! case can be tested at every split point of its bytes.
//!
//! `sse` cuts bytes into events · `chat` says what one event means · `fault` reads what endpoints
//! say when they fail · `reply` and `whole` carry a streamed and an unstreamed answer from the first
//! byte to the verdict · `ending` holds the rules of that verdict.

pub mod chat;
pub mod ending;
pub mod fault;
pub mod reply;
pub mod sse;
pub mod whole;

pub use chat::Channel;
pub use ending::{Anomalies, Anomaly, Ending};
pub use fault::{Fault, FaultReason};
pub use reply::{End, Progress, Reply};
pub use sse::Limits;
pub use whole::{WholeReply, not_a_stream};

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
