//! A decoded event or body, in the same form for every API.
//!
//! [`DecodedEvent`] contains no text. The decoder passes each text to a *sink*, which is a closure
//! of the caller, while the text is still in the read buffer. So a measurement stores no text.

use std::borrow::Cow;

use super::answer::ToolCallPart;
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
    pub separate_cache: SeparateCache,
    /// The vectors of an embeddings response.
    pub vectors: Option<VectorCounts>,
    /// An event with an error can also have the other fields.
    pub error: Option<ReportedError>,
    pub model: Option<Cow<'a, str>>,
    /// The pieces of tool calls of the first choice. Their text has also gone to the sink.
    pub tool_calls: Vec<ToolCallPart>,
    /// True for the end marker of the API, such as `[DONE]`.
    pub is_end: bool,
}

/// The input tokens that `input_tokens` of the Messages API does not include.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeparateCache {
    pub read: Option<u64>,
    pub written: Option<u64>,
}

impl SeparateCache {
    /// Fills each unknown count from an earlier event.
    #[must_use]
    pub fn or(self, earlier: SeparateCache) -> SeparateCache {
        SeparateCache {
            read: self.read.or(earlier.read),
            written: self.written.or(earlier.written),
        }
    }

    /// Adds these tokens to a `usage` without them.
    #[must_use]
    pub(super) fn added_to(self, usage: Usage) -> Usage {
        let SeparateCache { read, written } = self;
        let separate = read.unwrap_or(0) + written.unwrap_or(0);
        Usage {
            input: usage.input.map(|input| input + separate),
            cached_input: read.or(usage.cached_input),
            ..usage
        }
    }
}

/// The numbers of vectors in a response, without their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorCounts {
    pub total: usize,
    /// Vectors without a value.
    pub empty: usize,
    /// Vectors with a value that is not a number, such as null.
    pub not_numeric: usize,
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
