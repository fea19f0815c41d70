//! The head of a response: the status, the headers and the framing of the body.
//!
//! A server can send any number of interim responses, with a status below 200, before the response
//! to a request. llmload skips them, but only a limited number, so a flood of them does not occupy
//! a thread.

use std::ops::Range;

use bytes::Bytes;

use super::body::Framing;
use super::error::Violation;

/// The greatest length of a head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The highest number of headers of a response.
const MAX_HEADERS: usize = 128;
/// The highest number of interim responses to a request.
const MAX_INTERIM: u32 = 100;
/// The highest number of line breaks before the heads of a request.
const MAX_LINE_BREAKS: usize = 1024;

/// Finds the head of the response in the bytes of a connection. The bytes can be split anywhere.
#[derive(Debug, Default)]
pub struct HeadReader {
    buffer: Vec<u8>,
    /// The start of the current head.
    start: usize,
    /// Up to this position, the buffer does not contain the end of the current head.
    searched: usize,
    interim: u32,
    line_breaks: usize,
}

impl HeadReader {
    /// Returns true if no byte has arrived.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.interim == 0 && self.line_breaks == 0
    }

    /// Adds bytes. Returns the head as soon as it is complete.
    ///
    /// # Errors
    /// The bytes are not a response, or exceed a limit.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Head>, Violation> {
        self.buffer.extend_from_slice(bytes);
        loop {
            self.skip_line_breaks();
            if self.line_breaks > MAX_LINE_BREAKS {
                return Err(Violation::Malformed("the server sent too many empty lines"));
            }
            let end = self.find_end();
            let length = end.unwrap_or(self.buffer.len()) - self.start;
            if !self.has_http_start() {
                return Err(Violation::Malformed("the response does not begin with HTTP/1"));
            }
            if length > MAX_HEAD {
                return Err(Violation::TooLarge("the response head is too long"));
            }
            let Some(end) = end else {
                // Earlier heads are not necessary any more.
                self.buffer.drain(..self.start);
                self.searched -= std::mem::take(&mut self.start);
                return Ok(None);
            };
            let head = Head::parse(&self.buffer[self.start..end])?;
            (self.start, self.searched) = (end, end);
            if !head.is_interim() {
                return Ok(Some(head));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Violation::Malformed("the server sent too many interim responses"));
            }
        }
    }

    /// Returns the bytes after the head.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    /// Skips empty lines before the current head. Some servers send one after a response.
    fn skip_line_breaks(&mut self) {
        if self.searched == self.start {
            let is_line_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let skipped = self.buffer[self.start..].iter().take_while(is_line_break).count();
            self.line_breaks += skipped;
            self.start += skipped;
            self.searched = self.start;
        }
    }

    /// Returns the position after the empty line that ends the current head.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            let rest = &self.buffer[self.searched..];
            let line = rest.iter().position(|byte| *byte == b'\n')?;
            match rest.get(line + 1..)? {
                [b'\n', ..] => return Some(self.searched + line + 2),
                [b'\r', b'\n', ..] => return Some(self.searched + line + 3),
                // The empty line can be split.
                [] | [b'\r'] => return None,
                _ => self.searched += line + 1,
            }
        }
    }

    /// Returns false if the bytes so far cannot be the start of a response. A peer that does not
    /// speak HTTP often waits after its first bytes.
    fn has_http_start(&self) -> bool {
        const START: &[u8] = b"HTTP/1.";
        let begin = &self.buffer[self.start..];
        let length = begin.len().min(START.len());
        begin[..length] == START[..length]
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    pub framing: Framing,
    /// True if the server keeps the connection open after the response.
    pub keeps_alive: bool,
    bytes: Bytes,
    /// The positions of the name and the value of each header. A map of headers would need a
    /// multiple of the memory, and each request in flight has a head.
    fields: Box<[(Range<u32>, Range<u32>)]>,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Head, Violation> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(Violation::Malformed("the response head has an empty line"));
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Violation::TooLarge("the response has too many headers"));
            }
            Err(_) => return Err(Violation::Malformed("the response head is not valid")),
        }
        let position = |part: &[u8]| {
            let start = part.as_ptr().addr() - head.as_ptr().addr();
            // A head is shorter than `MAX_HEAD`.
            let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            position(start)..position(start + part.len())
        };
        let fields = response
            .headers
            .iter()
            .map(|header| (position(header.name.as_bytes()), position(header.value)));
        let mut head = Head {
            status: response.code.unwrap_or_default(),
            framing: Framing::UntilClose,
            keeps_alive: false,
            fields: fields.collect(),
            bytes: Bytes::copy_from_slice(head),
        };
        let is_http_1_1 = response.version == Some(1);
        // If the server set two lengths of the body, another recipient on the way can have followed
        // the other one. So the connection is not used again.
        let is_ambiguous = head.values("transfer-encoding").next().is_some()
            && head.values("content-length").next().is_some();
        head.keeps_alive = !is_ambiguous
            && !head.has_token("connection", "close")
            && (is_http_1_1 || head.has_token("connection", "keep-alive"));
        head.framing = head.find_framing(is_http_1_1)?;
        Ok(head)
    }

    /// Returns true if another head follows. The status 101 is not interim, because the connection
    /// then speaks another protocol.
    fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Returns the names and the values of all headers.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |range: &Range<u32>| &self.bytes[range.start as usize..range.end as usize];
        self.fields.iter().map(move |(name, value)| (part(name), part(value)))
    }

    /// Returns the values of the headers with this name.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let has_name = move |field: &(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields().filter(has_name).map(|(_, value)| value)
    }

    /// Returns true if a comma-separated header contains this word.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|other| other.eq_ignore_ascii_case(token.as_bytes()))
    }

    fn tokens<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let values = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        values.map(<[u8]>::trim_ascii)
    }

    /// Returns the rule for the end of the body (RFC 9112, section 6.3).
    fn find_framing(&self, is_http_1_1: bool) -> Result<Framing, Violation> {
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let mut lengths = self.tokens("content-length").map(content_length);
        let length = lengths.next();
        if let Some(first) = length
            && (first.is_none() || lengths.any(|other| other != first))
        {
            return Err(Violation::Malformed("the response has no valid content-length"));
        }
        if let Some(last) = self.tokens("transfer-encoding").last() {
            if !is_http_1_1 {
                let message = "a response of HTTP/1.0 has a transfer-encoding";
                return Err(Violation::Malformed(message));
            }
            let is_chunked = last.eq_ignore_ascii_case(b"chunked");
            return Ok(if is_chunked { Framing::Chunked } else { Framing::UntilClose });
        }
        Ok(length.flatten().map_or(Framing::UntilClose, Framing::Length))
    }
}

/// Returns the length if the text consists of digits only.
fn content_length(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then_some(text).and_then(|text| str::from_utf8(text).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<Option<(u16, Framing, bool, Vec<u8>)>, Violation>;

    fn read<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut reader = HeadReader::default();
        let mut head = None;
        let mut late = Vec::new();
        for bytes in reads {
            match &head {
                None => head = reader.read(bytes)?,
                Some(_) => late.extend_from_slice(bytes),
            }
        }
        Ok(head.map(|head: Head| {
            let rest = [reader.into_rest(), late].concat();
            (head.status, head.framing, head.keeps_alive, rest)
        }))
    }

    /// Reads a head in one piece, byte by byte, and split in two at every place.
    fn read_every_way(bytes: &[u8]) -> Outcome {
        let whole = read([bytes]);
        assert_eq!(read(bytes.chunks(1)), whole, "byte by byte");
        for at in 0..=bytes.len() {
            assert_eq!(read([&bytes[..at], &bytes[at..]]), whole, "split at {at}");
        }
        whole
    }

    fn framing(lines: &str) -> Result<(Framing, bool), Violation> {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let (status, framing, keeps_alive, rest) = read_every_way(head.as_bytes())?.unwrap();
        assert_eq!((status, rest), (200, Vec::new()));
        Ok((framing, keeps_alive))
    }

    #[test]
    fn the_headers_decide_the_end_of_the_body() {
        for (lines, expected) in [
            ("", Framing::UntilClose),
            ("Content-Length: 5\r\n", Framing::Length(5)),
            ("content-length: 0\r\n", Framing::Length(0)),
            ("content-length: 5, 5\r\ncontent-length:5\r\n", Framing::Length(5)),
            ("TRANSFER-ENCODING: Chunked\r\n", Framing::Chunked),
            ("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", Framing::Chunked),
            ("transfer-encoding: chunked, gzip\r\n", Framing::UntilClose),
        ] {
            assert_eq!(framing(lines), Ok((expected, true)), "{lines:?}");
        }
        let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n";
        assert_eq!(framing(both), Ok((Framing::Chunked, false)), "the connection is not reused");
        for (status, lines) in [
            ("204 No Content", ""),
            ("304 Not Modified", "content-length: 5\r\n"),
            ("101 Switching Protocols", "upgrade: x\r\n"),
        ] {
            let head = format!("HTTP/1.1 {status}\r\n{lines}\r\n");
            let (_, framing, ..) = read_every_way(head.as_bytes()).unwrap().unwrap();
            assert_eq!(framing, Framing::Length(0), "{status}");
        }
    }

    #[test]
    fn conflicting_or_invalid_framing_is_malformed() {
        for lines in [
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: 5, 6\r\n",
            "content-length: +5\r\n",
            "content-length: -5\r\n",
            "content-length: \r\n",
            "content-length: 0x5\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 5, 6\r\ntransfer-encoding: chunked\r\n",
            "bad name: x\r\n",
            "no-colon\r\n",
        ] {
            assert!(matches!(framing(lines), Err(Violation::Malformed(_))), "{lines:?}");
        }
        let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(matches!(read_every_way(old), Err(Violation::Malformed(_))));
    }

    #[test]
    fn the_version_and_the_header_connection_decide_if_the_connection_stays_open() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\n", false),
            ("1.1", "connection: keep-alive\r\n", true),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive\r\n", true),
            ("1.0", "connection: keep-alive, close\r\n", false),
        ] {
            let head = format!("HTTP/{version} 200 OK\r\n{connection}content-length: 1\r\n\r\n");
            let (.., keeps_alive, _) = read_every_way(head.as_bytes()).unwrap().unwrap();
            assert_eq!(keeps_alive, expected, "{version} {connection:?}");
        }
    }

    #[test]
    fn interim_responses_and_empty_lines_are_skipped() {
        let bytes = b"\r\n\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\nlink: x\n\n\
            HTTP/1.1 200\ncontent-length: 3\r\n\nabc";
        let expected = (200, Framing::Length(3), true, b"abc".to_vec());
        assert_eq!(read_every_way(bytes), Ok(Some(expected)));
        assert_eq!(read_every_way(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), Ok(None));
    }

    #[test]
    fn a_flood_of_interim_responses_or_empty_lines_is_malformed() {
        let interim = b"HTTP/1.1 102 Processing\r\n\r\n";
        let most = interim.repeat(MAX_INTERIM as usize);
        let end = b"HTTP/1.1 200 OK\r\n\r\n";
        assert!(read([&most[..], end]).unwrap().is_some());
        let breaks = b"\r\n".repeat(MAX_LINE_BREAKS / 2);
        assert!(read([&breaks[..], end]).unwrap().is_some());
        let too_many = [&breaks[..], b"\r\n", end].concat();
        for reads in [too_many.chunks(too_many.len()), too_many.chunks(7)] {
            assert!(matches!(read(reads), Err(Violation::Malformed(_))));
        }
        let flood = [&most[..], interim, end].concat();
        for reads in [flood.chunks(flood.len()), flood.chunks(7)] {
            assert!(matches!(read(reads), Err(Violation::Malformed(_))));
        }
    }

    #[test]
    fn bytes_that_are_not_http_are_malformed_at_once() {
        for bytes in ["SSH-2.0-OpenSSH_9.2\r\n", "<html>", "HTTP/2.0", "\r\nX", "HTTP/1.1\u{0}"] {
            let outcome = read_every_way(format!("{bytes}\r\n\r\n").as_bytes());
            assert!(matches!(outcome, Err(Violation::Malformed(_))), "{bytes:?}: {outcome:?}");
        }
        assert!(matches!(read([&b"S"[..]]), Err(Violation::Malformed(_))));
        assert_eq!(read([&b"HTTP/1"[..]]), Ok(None));
    }

    #[test]
    fn a_head_beyond_a_limit_is_too_large_for_any_split_into_reads() {
        let line = format!("x-more: {}\r\n", "x".repeat(1000));
        let longest = |over: usize| {
            let before = format!("HTTP/1.1 200 OK\r\n{}", line.repeat(60));
            let padding = MAX_HEAD + over - before.len() - "a: \r\n\r\n".len();
            format!("{before}a: {}\r\n\r\n", "x".repeat(padding)).into_bytes()
        };
        for size in [1, 1000, 100_000] {
            assert!(read(longest(0).chunks(size)).unwrap().is_some());
            let outcome = read(longest(1).chunks(size));
            assert!(matches!(outcome, Err(Violation::TooLarge(_))), "{size}: {outcome:?}");
            let endless = [b"HTTP/1.1 200 OK\r\n", line.repeat(70).as_bytes()].concat();
            assert!(matches!(read(endless.chunks(size)), Err(Violation::TooLarge(_))));
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert!(matches!(read_every_way(many.as_bytes()), Err(Violation::TooLarge(_))));
    }

    #[test]
    fn the_values_of_a_header_are_found_by_its_name_in_any_case() {
        let mut reader = HeadReader::default();
        let bytes = b"HTTP/1.1 200 OK\r\nX-Id:  a b \r\nx-other: c\r\nx-id:\r\nx-iD: \xfc\r\n\r\n";
        let head = reader.read(bytes).unwrap().unwrap();
        let values: Vec<_> = head.values("x-id").collect();
        assert_eq!(values, [&b"a b"[..], b"", b"\xfc"]);
        assert_eq!(head.values("x-missing").count(), 0);
    }
}
