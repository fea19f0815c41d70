//! The wire: how a request is put into bytes and what the bytes of an answer mean.
//!
//! Everything here is synchronous and knows neither sockets nor clocks.

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
