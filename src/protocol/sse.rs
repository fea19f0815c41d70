//! Server-sent events: bytes in, events out, indifferent to where the reads fall.
//!
//! Our own decoder, because a daemon that runs for months must not buffer a line without bound and
//! no published one refuses to. It follows the WHATWG rules with three deliberate departures, each
//! forced by servers in use: an error event counts without data, a bare `error` field is an error
//! event, and an event cut short of its blank line by the end of the body still counts.
//!
//! It works on bytes; whether they are UTF-8 or JSON is for the layer above.

use std::fmt;
use std::ops::ControlFlow;

use memchr::{memchr, memchr2};

const BOM: &[u8] = b"\xef\xbb\xbf";
/// How much of a comment is kept as the text of an error event that has no data.
const COMMENT_KEPT: usize = 256;

/// How much one answer may hold. An endpoint that sends more is cut off, so that a fault there
/// never becomes a fault here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one line.
    pub line: usize,
    /// Bytes of one event's joined data.
    pub event: usize,
    /// Bytes of the whole body of a stream, which is read and let go event by event.
    pub body: usize,
    /// Bytes of an answer that comes at once. Every request in flight holds its own in memory up to
    /// its end; a hundred thousand tokens of text are about half a megabyte.
    pub whole: usize,
    /// Events in one answer.
    pub events: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { line: 1 << 20, event: 4 << 20, body: 64 << 20, whole: 4 << 20, events: 200_000 }
    }
}

/// Which limit an answer exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TooLarge {
    /// [`Limits::line`].
    Line,
    /// [`Limits::event`].
    Event,
    /// [`Limits::body`].
    Body,
    /// [`Limits::events`].
    Events,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TooLarge::Line => "a line of the event stream is longer than allowed",
            TooLarge::Event => "an event is larger than allowed",
            TooLarge::Body => "the body is larger than allowed",
            TooLarge::Events => "the answer has more events than allowed",
        })
    }
}

impl std::error::Error for TooLarge {}

/// One event, borrowed from the read buffer where it lies there in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of the `event` field, empty where there was none; `error` for a bare `error` field.
    pub name: &'a [u8],
    /// The `data` lines joined with LF. An error event without data carries its comment instead:
    /// that is where such servers put the reason.
    pub data: &'a [u8],
}

impl Event<'_> {
    /// Whether the stream itself calls this event an error.
    pub fn is_error(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"error")
    }
}

/// The decoder of one body. Once it has returned an error or was told to break, it is spent.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The part of a line that earlier reads brought.
    line: Vec<u8>,
    /// The data of the event being read, and whether there was any `data` line.
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    comment: Vec<u8>,
    /// The last read ended in CR: an LF at the head of the next belongs to it.
    skip_lf: bool,
    /// Bytes of a byte-order mark seen so far; `None` once past the start.
    bom: Option<usize>,
    events: u32,
    body: usize,
}

impl Decoder {
    /// A decoder at the first byte of a body.
    pub fn new(limits: Limits) -> Decoder {
        Decoder {
            limits,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            comment: Vec::new(),
            skip_lf: false,
            bom: Some(0),
            events: 0,
            body: 0,
        }
    }

    /// Events handed out so far.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Takes what one read brought and hands out every event it completes, until told to break.
    ///
    /// # Errors
    /// A limit was exceeded. The events before that point have been handed out, wherever the reads
    /// fell.
    pub fn feed<F>(&mut self, bytes: &[u8], on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(Event<'_>) -> ControlFlow<()>,
    {
        let allowed = bytes.len().min(self.limits.body - self.body);
        self.body += allowed;
        if self.lines(&bytes[..allowed], on_event)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if allowed < bytes.len() { Err(TooLarge::Body) } else { Ok(ControlFlow::Continue(())) }
    }

    /// The body ended. A last line without its end and a last event without its blank line count.
    ///
    /// # Errors
    /// A limit was exceeded.
    pub fn finish<F>(&mut self, on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(Event<'_>) -> ControlFlow<()>,
    {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.field(&line)?;
        }
        self.dispatch(on_event)
    }

    fn lines<F>(&mut self, bytes: &[u8], on_event: &mut F) -> Result<ControlFlow<()>, TooLarge>
    where
        F: FnMut(Event<'_>) -> ControlFlow<()>,
    {
        let mut rest = self.past_bom(bytes)?;
        if self.skip_lf && !rest.is_empty() {
            self.skip_lf = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, after) = self.split_line(rest, end);
            rest = after;
            let flow = if self.line.is_empty() {
                if line.len() > self.limits.line {
                    return Err(TooLarge::Line);
                }
                match self.whole_event(line, rest) {
                    Some(data) => {
                        let (_, after) = self.split_line(rest, 0);
                        rest = after;
                        if data.len() > self.limits.event {
                            return Err(TooLarge::Event);
                        }
                        self.count_event()?;
                        on_event(Event { name: b"", data })
                    }
                    None if line.is_empty() => self.dispatch(on_event)?,
                    None => self.field(line).map(ControlFlow::Continue)?,
                }
            } else {
                append(&mut self.line, line, self.limits.line).ok_or(TooLarge::Line)?;
                // Taken out and put back, so that its memory serves the next line too.
                let mut line = std::mem::take(&mut self.line);
                let done = self.field(&line);
                line.clear();
                self.line = line;
                done.map(ControlFlow::Continue)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        append(&mut self.line, rest, self.limits.line).ok_or(TooLarge::Line)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Cuts the line that ends at `end`, and remembers a CR whose LF may yet come.
    fn split_line<'a>(&mut self, bytes: &'a [u8], end: usize) -> (&'a [u8], &'a [u8]) {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if bytes[end] == b'\n' {
            return (line, rest);
        }
        self.skip_lf = rest.is_empty();
        (line, rest.strip_prefix(b"\n").unwrap_or(rest))
    }

    /// The fast path, which is nearly every event of nearly every stream: one `data` line, then a
    /// blank one, both in this read. Its data is handed out where it lies.
    fn whole_event<'a>(&self, line: &'a [u8], rest: &[u8]) -> Option<&'a [u8]> {
        let blank_follows = matches!(rest.first(), Some(b'\n' | b'\r'));
        if !blank_follows || self.has_data || !self.name.is_empty() {
            return None;
        }
        let value = line.strip_prefix(b"data:")?;
        let value = value.strip_prefix(b" ").unwrap_or(value);
        (!value.is_empty()).then_some(value)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        let (field, value) = match memchr(b':', line) {
            Some(0) => {
                self.comment.clear();
                let text = line[1..].trim_ascii();
                self.comment.extend_from_slice(&text[..text.len().min(COMMENT_KEPT)]);
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
            _ => Ok(()),
        }
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
        F: FnMut(Event<'_>) -> ControlFlow<()>,
    {
        let data = if self.has_data { &self.data } else { &self.comment };
        let event = Event { name: &self.name, data };
        let flow = if event.is_error() || !self.data.is_empty() {
            // Not `count_event`: the event borrows the decoder.
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

    /// Skips a byte-order mark at the start, also one that comes in pieces.
    fn past_bom<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], TooLarge> {
        while let Some(seen) = self.bom {
            if seen == BOM.len() {
                self.bom = None;
            } else if bytes.first() == Some(&BOM[seen]) {
                self.bom = Some(seen + 1);
                bytes = &bytes[1..];
            } else if bytes.is_empty() {
                break;
            } else {
                // It only looked like one: what was held back opens the first line.
                self.bom = None;
                append(&mut self.line, &BOM[..seen], self.limits.line).ok_or(TooLarge::Line)?;
            }
        }
        Ok(bytes)
    }
}

/// Appends unless that would pass the limit, and never reserves more than the limit either.
fn append(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Option<()> {
    let needed = buffer.len() + bytes.len();
    if needed > limit {
        return None;
    }
    if needed > buffer.capacity() {
        let roomy = needed.max(buffer.capacity() * 2).min(limit);
        buffer.reserve_exact(roomy - buffer.len());
    }
    buffer.extend_from_slice(bytes);
    Some(())
}

#[cfg(test)]
#[path = "sse/tests.rs"]
mod tests;
