//! Decodes server-sent events. The division of the bytes into reads does not change the events.
//!
//! No published decoder limits the length of a line, but llmload must not buffer without limit.
//! This decoder follows the WHATWG rules with three exceptions for real servers:
//!
//! - an event named `error` does not need data;
//! - a line `error: …` names its event `error`;
//! - the last event of a body does not need a blank line.
//!
//! Other modules replace invalid UTF-8 and check JSON.

use std::ops::ControlFlow;

use memchr::{memchr, memchr2};

const BOM: &[u8] = b"\xef\xbb\xbf";
/// In bytes. A comment becomes the data of an error event without data.
const MAX_COMMENT: usize = 256;
/// In bytes, for text outside of events.
const MAX_STRAY: usize = 1024;

/// The limits of one response. They protect the memory of llmload from faulty servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// The bytes of the joined `data` lines of one event.
    pub event: usize,
    /// The bytes of a streamed body, which llmload does not keep.
    pub stream_body: usize,
    /// The bytes of an unstreamed body, which llmload keeps until the response ends. 100,000 tokens
    /// of text are about 0.5 MB.
    pub unstreamed_body: usize,
    /// The bytes of a body with vectors, which llmload keeps until the response ends. 500 vectors
    /// with 3,072 dimensions are about 32 MB.
    pub vectors_body: usize,
    pub events: u32,
}

impl Default for ResponseLimits {
    fn default() -> ResponseLimits {
        ResponseLimits {
            event: 4 << 20,
            stream_body: 64 << 20,
            unstreamed_body: 4 << 20,
            vectors_body: 32 << 20,
            events: 200_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TooLarge {
    /// [`ResponseLimits::event`].
    Event,
    /// [`ResponseLimits::stream_body`] or [`ResponseLimits::unstreamed_body`].
    Body,
    /// [`ResponseLimits::events`].
    Events,
}

impl ResponseLimits {
    /// The length of a `data` line that fills an event.
    fn line(&self) -> usize {
        self.event.saturating_add(b"data: ".len())
    }

    /// Returns a message about the exceeded limit.
    pub fn message(&self, exceeded: TooLarge) -> String {
        match exceeded {
            TooLarge::Event => format!("an event is longer than {}", size(self.event)),
            TooLarge::Body => format!("the stream is longer than {}", size(self.stream_body)),
            TooLarge::Events => format!("the stream has more than {} events", self.events),
        }
    }
}

/// Formats a number of bytes, such as `4 MiB`.
pub(super) fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{bytes} bytes")
    }
}

/// Returns true if a body begins like an event stream, and false if it begins like JSON or HTML.
/// `None` if `start` is too short.
///
/// Some servers send an event stream with a wrong `content-type` or without one.
pub fn begins_like_event_stream(start: &[u8]) -> Option<bool> {
    const STARTS: [&[u8]; 5] = [b":", b"data:", b"event:", b"id:", b"retry:"];
    if BOM.starts_with(start) {
        return None;
    }
    let text = start.strip_prefix(BOM).unwrap_or(start);
    let blank = text.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let text = &text[blank..];
    if STARTS.iter().any(|known| text.starts_with(known)) {
        return Some(true);
    }
    let is_undecided = STARTS.iter().any(|known| known.starts_with(text));
    (!is_undecided).then_some(false)
}

/// One event. Its bytes are in the read buffer, or in the decoder if the event arrived in several
/// reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The value of the `event` field; `error` if the event has a field with the name `error`;
    /// otherwise empty.
    pub name: &'a [u8],
    /// The `data` lines, joined with LF. For an error event without `data`, this is its comment, in
    /// which servers write the reason.
    pub data: &'a [u8],
}

impl SseEvent<'_> {
    pub fn is_error(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"error")
    }
}

/// The decoder of one body. Do not use it after an error or `Break`.
#[derive(Debug)]
pub struct Decoder {
    limits: ResponseLimits,
    /// The part of the current line from earlier reads.
    line: Vec<u8>,
    data: Vec<u8>,
    /// True after a `data` line, even an empty one.
    has_data: bool,
    name: Vec<u8>,
    comment: Vec<u8>,
    /// The start of the text outside of fields, such as `Internal Server Error`.
    stray: Vec<u8>,
    /// True if the previous read ended in CR. Then an LF at the start of the next read belongs to
    /// the same line end.
    skip_lf: bool,
    /// The number of bytes of a byte order mark so far. `None` after the start of the body.
    bom_bytes: Option<usize>,
    events: u32,
    body_bytes: usize,
}

impl Decoder {
    pub fn new(limits: ResponseLimits) -> Decoder {
        Decoder {
            limits,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            comment: Vec::new(),
            stray: Vec::new(),
            skip_lf: false,
            bom_bytes: Some(0),
            events: 0,
            body_bytes: 0,
        }
    }

    pub fn limits(&self) -> ResponseLimits {
        self.limits
    }

    pub fn events(&self) -> u32 {
        self.events
    }

    /// Returns the start of the text outside of fields. Some servers report an error in this way.
    pub fn stray_text(&self) -> &[u8] {
        &self.stray
    }

    /// Decodes the bytes of one read. Calls `on_event` with each complete event, until `on_event`
    /// returns `Break`.
    ///
    /// # Errors
    /// The response exceeds a limit. Before that, `on_event` gets the same events for every
    /// division into reads.
    pub fn feed<F>(&mut self, bytes: &[u8], on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(SseEvent<'_>) -> ControlFlow<()>,
    {
        let allowed = bytes.len().min(self.limits.stream_body - self.body_bytes);
        self.body_bytes += allowed;
        if self.read_lines(&bytes[..allowed], on_event)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if allowed < bytes.len() { Err(TooLarge::Body) } else { Ok(ControlFlow::Continue(())) }
    }

    /// Decodes an unfinished last event after the end of the body.
    ///
    /// # Errors
    /// The response exceeds a limit.
    pub fn finish<F>(&mut self, on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(SseEvent<'_>) -> ControlFlow<()>,
    {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.read_field(&line)?;
        }
        self.dispatch(on_event)
    }

    fn read_lines<F>(&mut self, bytes: &[u8], on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(SseEvent<'_>) -> ControlFlow<()>,
    {
        let mut rest = self.skip_bom(bytes)?;
        if self.skip_lf && !rest.is_empty() {
            self.skip_lf = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, after) = self.split_line(rest, end);
            rest = after;
            let flow = if self.line.is_empty() {
                if line.len() > self.limits.line() {
                    return Err(TooLarge::Event);
                }
                match self.data_of_simple_event(line, rest) {
                    Some(data) => {
                        let (_, after) = self.split_line(rest, 0);
                        rest = after;
                        if data.len() > self.limits.event {
                            return Err(TooLarge::Event);
                        }
                        self.count_event()?;
                        on_event(SseEvent { name: b"", data })
                    }
                    None if line.is_empty() => self.dispatch(on_event)?,
                    None => self.read_field(line).map(ControlFlow::Continue)?,
                }
            } else {
                append(&mut self.line, line, self.limits.line()).ok_or(TooLarge::Event)?;
                // Put the buffer back after its use, so the next line reuses the allocation.
                let mut line = std::mem::take(&mut self.line);
                let done = self.read_field(&line);
                line.clear();
                self.line = line;
                done.map(ControlFlow::Continue)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        append(&mut self.line, rest, self.limits.line()).ok_or(TooLarge::Event)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Splits off the line that ends at `end`. After a CR at the end of the read, an LF can follow
    /// in the next read.
    fn split_line<'a>(&mut self, bytes: &'a [u8], end: usize) -> (&'a [u8], &'a [u8]) {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if bytes[end] == b'\n' {
            return (line, rest);
        }
        self.skip_lf = rest.is_empty();
        (line, rest.strip_prefix(b"\n").unwrap_or(rest))
    }

    /// Returns the data of an event with one `data` line, if the blank line is in this read too.
    /// Nearly every event has this form, and its data is not copied.
    fn data_of_simple_event<'a>(&self, line: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
        let is_blank_next = matches!(rest.first(), Some(b'\n' | b'\r'));
        if !is_blank_next || self.has_data || !self.name.is_empty() {
            return None;
        }
        let value = line.strip_prefix(b"data:")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        (!value.is_empty()).then_some(value)
    }

    fn read_field(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        let (field, value) = match memchr(b':', line) {
            Some(0) => {
                self.comment.clear();
                let text = line[1..].trim_ascii();
                self.comment.extend_from_slice(&text[..text.len().min(MAX_COMMENT)]);
                return Ok(());
            }
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match field {
            b"data" => self.push_data(value),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
                Ok(())
            }
            b"error" => {
                self.name.clear();
                self.name.extend_from_slice(b"error");
                self.push_data(value)
            }
            b"id" | b"retry" => Ok(()),
            _ => {
                self.push_stray(line);
                Ok(())
            }
        }
    }

    fn push_stray(&mut self, line: &[u8]) {
        if !self.stray.is_empty() && self.stray.len() < MAX_STRAY {
            self.stray.push(b'\n');
        }
        let room = MAX_STRAY - self.stray.len();
        self.stray.extend_from_slice(&line[..line.len().min(room)]);
    }

    fn push_data(&mut self, value: &[u8]) -> Result<(), TooLarge> {
        if self.has_data {
            append(&mut self.data, b"\n", self.limits.event).ok_or(TooLarge::Event)?;
        }
        self.has_data = true;
        append(&mut self.data, value, self.limits.event).ok_or(TooLarge::Event)
    }

    fn dispatch<F>(&mut self, on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(SseEvent<'_>) -> ControlFlow<()>,
    {
        let data = if self.has_data { &self.data } else { &self.comment };
        let event = SseEvent { name: &self.name, data };
        let flow = if event.is_error() || !self.data.is_empty() {
            // The same as `count_event`, which cannot be called while `event` borrows the decoder.
            if self.events == self.limits.events {
                return Err(TooLarge::Events);
            }
            self.events += 1;
            on_event(event)
        } else {
            ControlFlow::Continue(())
        };
        self.data.clear();
        self.has_data = false;
        self.name.clear();
        self.comment.clear();
        Ok(flow)
    }

    fn count_event(&mut self) -> Result<(), TooLarge> {
        if self.events == self.limits.events {
            return Err(TooLarge::Events);
        }
        self.events += 1;
        self.comment.clear();
        Ok(())
    }

    /// Skips a byte order mark, even over several reads.
    fn skip_bom<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], TooLarge> {
        while let Some(seen) = self.bom_bytes {
            if seen == BOM.len() {
                self.bom_bytes = None;
            } else if bytes.first() == Some(&BOM[seen]) {
                self.bom_bytes = Some(seen + 1);
                bytes = &bytes[1..];
            } else if bytes.is_empty() {
                break;
            } else {
                // No byte order mark: these bytes belong to the first line.
                self.bom_bytes = None;
                append(&mut self.line, &BOM[..seen], self.limits.line()).ok_or(TooLarge::Event)?;
            }
        }
        Ok(bytes)
    }
}

/// Appends bytes, or returns `None` if the buffer would exceed `limit`. Its capacity stays within
/// `limit` too.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Option<()> {
    let needed = buffer.len() + bytes.len();
    if needed > limit {
        return None;
    }
    if needed > buffer.capacity() {
        let capacity = needed.max(buffer.capacity() * 2).min(limit);
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
#[path = "sse/tests.rs"]
mod tests;
