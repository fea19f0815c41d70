//! Recognises an event that differs from an earlier event only in its text.
//!
//! Most events of a stream have the same JSON around different texts. The decoder parses such JSON
//! once. Each later event needs two comparisons of bytes.
//!
//! The result is the same as with parsing, because the decoder of every [`Api`](super::Api) keeps
//! this rule: if the only text of an event is a JSON string without escapes, another such string at
//! its place changes nothing but the text.

use std::ops::Range;

use super::decoded::{Channel, DecodedEvent, SeparateCache};
use super::sse::SseEvent;
use crate::measurement::Usage;

/// The most bytes around the text. Longer events contain other values that change each time, such
/// as token probabilities.
const MAX_AROUND: usize = 1024;

/// The JSON of an event without its text.
#[derive(Debug)]
pub(super) struct EventPattern {
    /// The bytes before the text, then the bytes after it. Empty before the first such event.
    around: Vec<u8>,
    /// The number of bytes before the text.
    before: usize,
    choice: u32,
    channel: Channel,
}

/// The texts that the decoder found in one event.
#[derive(Debug, Default)]
pub(super) struct EventTexts {
    count: u32,
    /// The first text and its position in the data of the event. `None` if the text is a copy.
    first: Option<(u32, Channel, Range<usize>)>,
}

impl EventTexts {
    pub(super) fn add(&mut self, event: SseEvent<'_>, choice: u32, channel: Channel, text: &str) {
        if self.count == 0 {
            self.first = position(event.data, text).map(|position| (choice, channel, position));
        }
        self.count = self.count.saturating_add(1);
    }
}

impl Default for EventPattern {
    fn default() -> EventPattern {
        EventPattern { around: Vec::new(), before: 0, choice: 0, channel: Channel::Answer }
    }
}

impl EventPattern {
    /// Returns the text of an event that fits this pattern, with its choice and its channel. Such
    /// an event has this text and no finish reason, usage, error or end marker. It names the same
    /// model as the event from which the pattern was created.
    pub(super) fn text_of<'a>(&self, event: SseEvent<'a>) -> Option<(u32, Channel, &'a str)> {
        if self.around.is_empty() || !event.name.is_empty() {
            return None;
        }
        let (before, after) = self.around.split_at(self.before);
        let text = event.data.strip_prefix(before)?.strip_suffix(after)?;
        let text = str::from_utf8(text).ok().filter(|text| is_plain(text))?;
        Some((self.choice, self.channel, text))
    }

    /// Creates the pattern anew from an event, if the event has exactly one plain text and no
    /// other facts. Otherwise keeps the previous pattern.
    pub(super) fn learn(
        &mut self,
        event: SseEvent<'_>,
        decoded: &DecodedEvent<'_>,
        texts: &EventTexts,
    ) {
        let EventTexts { count: 1, first: Some((choice, channel, position)) } = texts else {
            return;
        };
        let DecodedEvent {
            has_text: _,
            finish,
            usage,
            separate_cache,
            vectors,
            error,
            model: _,
            tool_calls: _,
            is_end,
        } = decoded;
        let has_counts = *usage != Usage::default()
            || *separate_cache != SeparateCache::default()
            || vectors.is_some();
        let has_facts = has_counts || finish.is_some() || error.is_some() || *is_end;
        let (before, after) = (&event.data[..position.start], &event.data[position.end..]);
        let is_string = before.ends_with(b"\"") && after.starts_with(b"\"");
        let length = before.len() + after.len();
        if has_facts || !is_string || !event.name.is_empty() || length > MAX_AROUND {
            return;
        }
        self.around.clear();
        self.around.reserve_exact(length);
        self.around.extend_from_slice(before);
        self.around.extend_from_slice(after);
        (self.before, self.choice, self.channel) = (before.len(), *choice, *channel);
    }
}

/// Returns true if a JSON string with this content has the content as its value.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.bytes().any(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'))
}

/// Returns the position of `text` in `data`, or `None` if the text is not a part of these bytes.
fn position(data: &[u8], text: &str) -> Option<Range<usize>> {
    let start = text.as_ptr().addr().checked_sub(data.as_ptr().addr())?;
    let end = start.checked_add(text.len())?;
    (data.get(start..end)? == text.as_bytes() && is_plain(text)).then_some(start..end)
}

#[cfg(test)]
mod tests;
