//! One decoded event or body, in the same form for every API. Only the decoders of the APIs know
//! the field names of a response.
//!
//! [`DecodedEvent`] does not contain text. The decoder passes each piece of text to a *sink*, which
//! is a closure of the caller, while the text is still in the read buffer. So llmload stores no
//! text while it measures. A caller that needs the text passes a sink that stores it.

use std::borrow::Cow;

use super::reported_error::ReportedError;
use crate::measurement::{FinishReason, Usage};

/// The kind of text that a piece of a response contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// The answer to the user.
    Answer,
    /// Visible reasoning, under any of the field names that servers use.
    Reasoning,
    /// A refusal of the model.
    Refusal,
    /// The name or the arguments of a function call, or the name or the input of a custom tool
    /// call.
    ToolCall,
    /// Sound, encoded with base64. The transcript of the sound is an answer.
    Audio,
}

impl Channel {
    pub const ALL: [Channel; 5] =
        [Channel::Answer, Channel::Reasoning, Channel::Refusal, Channel::ToolCall, Channel::Audio];
}

/// One decoded event or unstreamed body, without its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedEvent<'a> {
    /// True if the event contains text on any channel. Such an event counts as a token event.
    pub has_text: bool,
    /// The last finish reason in the event.
    pub finish: Option<FinishReason>,
    /// The token counts in the event.
    pub usage: Usage,
    /// The error that the event reports. An event with an error can also set the other fields.
    pub error: Option<ReportedError>,
    /// The model that the event names.
    pub model: Option<Cow<'a, str>>,
    /// True if the event is the end marker of the API, such as `[DONE]`.
    pub is_end: bool,
}

impl DecodedEvent<'_> {
    /// Returns the same event without a borrow.
    pub(super) fn into_owned(self) -> DecodedEvent<'static> {
        DecodedEvent { model: self.model.map(|name| Cow::Owned(name.into_owned())), ..self }
    }
}

/// The reason why an event or a body could not be decoded: the text is not JSON, or its structure
/// does not fit the API.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(#[from] serde_json::Error);

impl DecodeError {
    /// Returns true if the JSON is valid so far but ends too early.
    pub fn is_cut_short(&self) -> bool {
        self.0.is_eof()
    }
}

/// A sink that ignores all text.
pub fn discard_text(_: u32, _: Channel, _: &str) {}
