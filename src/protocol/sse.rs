//! Decodes server-sent events. The events are always the same, no matter how the reads from the
//! socket split the bytes.
//!
//! llmload has a separate decoder because no published decoder limits the length of a line, and a
//! daemon that runs for months must not buffer without limit. The decoder follows the WHATWG rules
//! with three exceptions, which real servers require:
//!
//! - an event named `error` is an event even if it has no data;
//! - a line `error: …` gives its event the name `error`;
//! - the last event of a body is an event even if its blank line is missing.
//!
//! The decoder works on bytes. The API modules replace invalid UTF-8 and check JSON.

use std::ops::ControlFlow;

use memchr::{memchr, memchr2};

const BOM: &[u8] = b"\xef\xbb\xbf";
/// The longest comment that is kept, in bytes. The comment becomes the data of an error event that
/// has no data.
const MAX_COMMENT: usize = 256;
/// The most text outside of events that is kept, in bytes.
const MAX_STRAY: usize = 1024;

/// The limits of one response. llmload stops reading a response that exceeds a limit, so a faulty
/// server cannot exhaust the memory of llmload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// The length of the joined `data` lines of one event, in bytes. A line can be longer by the
    /// name of its field, so one `data` line can fill an event.
    pub event: usize,
    /// The length of the body of a stream, in bytes. llmload does not keep this body in memory.
    pub stream_body: usize,
    /// The length of the body of a response without streaming, in bytes. llmload keeps this body in
    /// memory until the response ends. 100,000 tokens of text are about 0.5 MB.
    pub unstreamed_body: usize,
    /// The number of events in one response.
    pub events: u32,
}

impl Default for ResponseLimits {
    fn default() -> ResponseLimits {
        ResponseLimits {
            event: 4 << 20,
            stream_body: 64 << 20,
            unstreamed_body: 4 << 20,
            events: 200_000,
        }
    }
}

/// The limit that a response exceeded.
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
    /// The length of one line, in bytes.
    fn line(&self) -> usize {
        self.event.saturating_add(b"data: ".len())
    }

    /// Returns a message about the limit that a stream exceeded.
    pub fn message(&self, exceeded: TooLarge) -> String {
        match exceeded {
            TooLarge::Event => format!("an event is longer than {}", size(self.event)),
            TooLarge::Body => format!("the stream is longer than {}", size(self.stream_body)),
            TooLarge::Events => format!("the stream has more than {} events", self.events),
        }
    }
}

/// Returns a number of bytes as text, such as `4 MiB`.
pub(super) fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{bytes} bytes")
    }
}

/// Returns true if a body begins like an event stream, and false if it begins like something else,
/// such as JSON or HTML. Returns `None` if the start is too short to decide.
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

/// One event. Its bytes are borrowed from the read buffer if that buffer contains the complete
/// event, otherwise from the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The value of the `event` field. It is empty if the event has no such field, and `error` if
    /// the event has a field named `error`.
    pub name: &'a [u8],
    /// The values of the `data` lines, joined with LF. If an error event has no `data` line, this
    /// is its comment, because servers that send such events put the reason into a comment.
    pub data: &'a [u8],
}

impl SseEvent<'_> {
    /// Returns true if the event is named `error`.
    pub fn is_error(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"error")
    }
}

/// The decoder of one body. After a method has returned an error or `Break`, the decoder must not
/// be used again.
#[derive(Debug)]
pub struct Decoder {
    limits: ResponseLimits,
    /// The start of the current line, if it arrived in earlier reads.
    line: Vec<u8>,
    /// The data of the current event.
    data: Vec<u8>,
    /// True if the current event has a `data` line, even an empty one.
    has_data: bool,
    name: Vec<u8>,
    comment: Vec<u8>,
    /// The start of the text that belongs to no field, such as `Internal Server Error`.
    stray: Vec<u8>,
    /// True if the previous read ended in CR. An LF at the start of the next read then belongs to
    /// the same line end.
    skip_lf: bool,
    /// The number of bytes of a byte-order mark that have arrived. `None` after the decoder has
    /// found out whether the body starts with a byte-order mark.
    bom_bytes: Option<usize>,
    /// The number of events that were passed to the caller.
    events: u32,
    /// The length of the body that has arrived, in bytes.
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

    /// Returns the number of events that were passed to the caller.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Returns the start of the lines that are no fields of an event, separated by LF. Some servers
    /// report an error in this way.
    pub fn stray_text(&self) -> &[u8] {
        &self.stray
    }

    /// Decodes the bytes of one read. Calls `on_event` with each event that these bytes complete,
    /// until `on_event` returns `Break`.
    ///
    /// # Errors
    /// The response exceeds a limit. `on_event` has been called with every event before the byte
    /// that exceeds the limit. This does not depend on how the reads split the bytes.
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

    /// Decodes the last event after the body has ended, and calls `on_event` with it. The last line
    /// can lack its line end, and the last event can lack its blank line.
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
                // The buffer is taken out and put back, so the next line reuses the allocation.
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

    /// Splits off the line that ends at `end`. If a CR is the last byte of this read, sets
    /// `skip_lf`, because the LF of the same line end can follow in the next read.
    fn split_line<'a>(&mut self, bytes: &'a [u8], end: usize) -> (&'a [u8], &'a [u8]) {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if bytes[end] == b'\n' {
            return (line, rest);
        }
        self.skip_lf = rest.is_empty();
        (line, rest.strip_prefix(b"\n").unwrap_or(rest))
    }

    /// Returns the data of an event that consists of one `data` line and a blank line, if both are
    /// in this read. Nearly every event has this form. For such an event, the data is not copied.
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
            // This code repeats `count_event`. It cannot call that method, because `event` borrows
            // the decoder.
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

    /// Skips a byte-order mark at the start of the body, even if the mark is split over several
    /// reads.
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
                // The body does not start with a byte-order mark, so the bytes that were held back
                // belong to the first line.
                self.bom_bytes = None;
                append(&mut self.line, &BOM[..seen], self.limits.line()).ok_or(TooLarge::Event)?;
            }
        }
        Ok(bytes)
    }
}

/// Appends bytes to a buffer. Appends nothing and returns `None` if the buffer would become longer
/// than the limit. The capacity of the buffer never exceeds the limit either.
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
