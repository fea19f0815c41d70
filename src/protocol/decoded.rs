//! A decoded event or body, in the same form for every API.
//!
//! [`DecodedEvent`] contains no text. The decoder passes each text to a *sink*, which is a closure
//! of the caller, while the text is still in the read buffer. So a measurement stores no text.

use std::borrow::Cow;

use super::reported_error::ReportedError;
use crate::measurement::{FinishReason, Usage};

/// The kind of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// The answer to the user.
    Answer,
    /// Visible reasoning, in any field that servers use.
    Reasoning,
    /// A refusal of the model.
    Refusal,
    /// A part of a function call or of a custom tool call.
    ToolCall,
    /// Base64 sound. Its transcript is an answer.
    Audio,
}

impl Channel {
    pub const ALL: [Channel; 5] =
        [Channel::Answer, Channel::Reasoning, Channel::Refusal, Channel::ToolCall, Channel::Audio];
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedEvent<'a> {
    /// True if there is text on any channel.
    pub has_text: bool,
    /// The last finish reason in the event.
    pub finish: Option<FinishReason>,
    pub usage: Usage,
    /// An event with an error can also have the other fields.
    pub error: Option<ReportedError>,
    pub model: Option<Cow<'a, str>>,
    /// True for the end marker of the API, such as `[DONE]`.
    pub is_end: bool,
}

impl DecodedEvent<'_> {
    pub(super) fn into_owned(self) -> DecodedEvent<'static> {
        DecodedEvent { model: self.model.map(|name| Cow::Owned(name.into_owned())), ..self }
    }
}

/// The text is not JSON, or its structure does not fit the API.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(#[from] serde_json::Error);

impl DecodeError {
    /// True if the JSON only ends too early.
    pub fn is_cut_short(&self) -> bool {
        self.0.is_eof()
    }
}

pub fn discard_text(_: u32, _: Channel, _: &str) {}
