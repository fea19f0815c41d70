//! The meaning of one event or one body, the same for every API. It is all that the readers and
//! the verdict know of a response.
//!
//! Text is not part of [`DecodedEvent`]. The decoder passes it to a sink while it still is in the
//! read buffer, so the measured path allocates nothing. A caller that wants the text passes a sink
//! that keeps it.

use std::borrow::Cow;

use super::reported_error::ReportedError;
use crate::measurement::{FinishReason, Usage};

/// The kind of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// The answer to the user.
    Answer,
    /// Visible reasoning, under any of the names that servers use.
    Reasoning,
    /// A refusal of the model.
    Refusal,
    /// The name or the arguments of a function call.
    ToolCall,
}

/// The meaning of one event, or of a whole body, apart from its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedEvent<'a> {
    /// True if it carries text on any channel. Then it counts as a token event.
    pub has_text: bool,
    /// The last finish reason in it.
    pub finish: Option<FinishReason>,
    /// The last usage in it.
    pub usage: Option<Usage>,
    /// The error it reports, whatever else it contains.
    pub error: Option<ReportedError>,
    /// The model it names.
    pub model: Option<Cow<'a, str>>,
    /// True if it is the marker with which the API ends a stream.
    pub is_end: bool,
}

/// The reason why an event or a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// The text is not JSON, or not of the API's shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl DecodeError {
    /// Returns true if the JSON is valid so far but ends too early.
    pub fn is_cut_short(&self) -> bool {
        matches!(self, DecodeError::Json(error) if error.is_eof())
    }
}

/// A sink that keeps no text.
pub fn discard_text(_: u32, _: Channel, _: &str) {}
