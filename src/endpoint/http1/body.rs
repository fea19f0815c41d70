//! The framing of a response body: which bytes are content, and where the body ends (RFC 9112,
//! sections 6 and 7).

/// The longest line with the size of a chunk and its extensions, in bytes.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// The greatest length of all trailers, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// The rule for the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The body has this length. It can be 0.
    Length(u64),
    /// The body consists of chunks with a size each.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// Finds the content in the bytes of a body. The bytes can be split anywhere.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// The size of the chunk whose size line is being read.
    size: u64,
    /// The length of the size line or of the trailers so far.
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The content of a body without chunks, with the number of bytes that are left.
    Content(u64),
    UntilClose,
    /// The digits of a chunk size. True after the first digit.
    Size(bool),
    /// The white space after a chunk size.
    SizeSpace,
    Extension,
    SizeLineFeed,
    /// The content of a chunk, with the number of bytes that are left.
    Chunk(u64),
    ChunkReturn,
    ChunkLineFeed,
    /// The start of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Ended,
}

/// The result of [`BodyDecoder::decode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The length of the content, which is now at the start of the bytes.
    pub content: usize,
    /// The number of bytes that belong to the body. Bytes after its end do not belong to it.
    pub consumed: usize,
    /// The violation of the framing that follows the content.
    pub violation: Option<&'static str>,
}

impl BodyDecoder {
    pub fn new(framing: Framing) -> BodyDecoder {
        let state = match framing {
            Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Content(length),
            Framing::Chunked => State::Size(false),
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, size: 0, length: 0 }
    }

    /// Returns true if the framing shows that the body has ended.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Returns true if the body is complete when the connection ends.
    pub fn can_end(&self) -> bool {
        matches!(self.state, State::Ended | State::UntilClose)
    }

    /// Moves the content to the start of `bytes`, so nothing has to be allocated. A violation is
    /// reported together with the content before it.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let (mut at, mut content, mut violation) = (0, 0, None);
        while at < bytes.len() && violation.is_none() {
            let available = bytes.len() - at;
            let (length, after) = match self.state {
                State::Ended => break,
                State::UntilClose => (available, State::UntilClose),
                State::Content(left) => match split(left, available) {
                    (length, 0) => (length, State::Ended),
                    (length, left) => (length, State::Content(left)),
                },
                State::Chunk(left) => match split(left, available) {
                    (length, 0) => (length, State::ChunkReturn),
                    (length, left) => (length, State::Chunk(left)),
                },
                _ => {
                    match self.step(bytes[at]) {
                        Ok(state) => self.state = state,
                        Err(message) => violation = Some(message),
                    }
                    at += 1;
                    continue;
                }
            };
            bytes.copy_within(at..at + length, content);
            at += length;
            content += length;
            self.state = after;
        }
        Decoded { content, consumed: at, violation }
    }

    /// Returns the state after a byte that is not content.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        Ok(match (self.state, byte) {
            (State::Size(has_digit), _) => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) => {
                    if self.size >> 60 != 0 {
                        return Err("the size of a chunk is too large");
                    }
                    self.size = self.size << 4 | u64::from(digit);
                    State::Size(true)
                }
                (None, _) if !has_digit => return Err("a chunk has no valid size"),
                (None, b'\r') => State::SizeLineFeed,
                (None, b' ' | b'\t') => State::SizeSpace,
                (None, b';') => State::Extension,
                _ => return Err("a chunk has no valid size"),
            },
            (State::SizeSpace, b' ' | b'\t') => self.lengthen(State::SizeSpace)?,
            (State::SizeSpace, b';') => State::Extension,
            (State::SizeSpace | State::Extension, b'\r') => State::SizeLineFeed,
            (State::SizeSpace, _) => return Err("a chunk has no valid size"),
            (State::Extension, b'\n') => return Err("the extension of a chunk has a line break"),
            (State::Extension, _) => self.lengthen(State::Extension)?,
            (State::SizeLineFeed, b'\n') => {
                self.length = 0;
                match std::mem::take(&mut self.size) {
                    0 => State::TrailerStart,
                    size => State::Chunk(size),
                }
            }
            (State::ChunkReturn, b'\r') => State::ChunkLineFeed,
            (State::ChunkLineFeed, b'\n') => State::Size(false),
            (State::ChunkReturn | State::ChunkLineFeed, _) => {
                return Err("a chunk is longer than its size");
            }
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerStart | State::Trailer, _) => self.lengthen(State::Trailer)?,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Ended,
            _ => return Err("a line of a chunked body does not end with CR and LF"),
        })
    }

    /// Counts a byte of a size line or of the trailers.
    fn lengthen(&mut self, state: State) -> Result<State, &'static str> {
        self.length += 1;
        match state {
            State::Trailer if self.length > MAX_TRAILERS => Err("the trailers are too long"),
            State::Extension | State::SizeSpace if self.length > MAX_SIZE_LINE => {
                Err("the extension of a chunk is too long")
            }
            state => Ok(state),
        }
    }
}

/// Returns the length of the available content, and the length of the content that is left.
fn split(left: u64, available: usize) -> (usize, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    (length, left - length as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content, the number of consumed bytes, and the violation or the end of a body.
    #[derive(Debug, PartialEq)]
    struct Reading {
        content: Vec<u8>,
        consumed: usize,
        violation: Option<&'static str>,
        has_ended: bool,
    }

    fn read<'a>(framing: Framing, reads: impl IntoIterator<Item = &'a [u8]>) -> Reading {
        let mut decoder = BodyDecoder::new(framing);
        let mut reading =
            Reading { content: Vec::new(), consumed: 0, violation: None, has_ended: false };
        for bytes in reads {
            let mut bytes = bytes.to_vec();
            let decoded = decoder.decode(&mut bytes);
            reading.content.extend_from_slice(&bytes[..decoded.content]);
            reading.consumed += decoded.consumed;
            reading.violation = decoded.violation;
            if decoded.violation.is_some() {
                break;
            }
        }
        reading.has_ended = decoder.has_ended();
        reading
    }

    /// Reads a body in one piece, byte by byte, and split in two at every place.
    fn read_every_way(framing: Framing, bytes: &[u8]) -> Reading {
        let whole = read(framing, [bytes]);
        assert_eq!(read(framing, bytes.chunks(1)), whole, "byte by byte");
        for at in 0..=bytes.len() {
            assert_eq!(read(framing, [&bytes[..at], &bytes[at..]]), whole, "split at {at}");
        }
        whole
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailers_and_not_later() {
        for body in [
            "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
            "5;name=value;other=\"a b\"\r\nhello\r\n0001 \t\r\n!\r\n0;last\r\n\r\n",
            "3\r\nhel\r\n3\r\nlo!\r\n000\r\nx-checksum: abc\r\nx-other: \r\n\r\n",
        ] {
            let with_more = format!("{body}HTTP/1.1 200 OK\r\n");
            let reading = read_every_way(Framing::Chunked, with_more.as_bytes());
            let expected = Reading {
                content: b"hello!".to_vec(),
                consumed: body.len(),
                violation: None,
                has_ended: true,
            };
            assert_eq!(reading, expected, "{body:?}");
            let cut = read_every_way(Framing::Chunked, &body.as_bytes()[..body.len() - 1]);
            assert!(!cut.has_ended && cut.violation.is_none(), "{body:?}");
        }
    }

    #[test]
    fn a_violation_of_the_chunks_is_reported_after_the_content_before_it() {
        let long = "x".repeat(MAX_TRAILERS + 1);
        for after in [
            "zz\r\n",
            "\r\n",
            ";a\r\n",
            "1\n",
            "1 x\r\n",
            "1\rx",
            "10000000000000000\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1;a\nb\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\n\rx",
            "0\r\nname: value\rx",
            &format!("1;{long}"),
            &format!("1{}", " ".repeat(MAX_SIZE_LINE + 2)),
            &format!("0\r\n{long}"),
        ] {
            let body = format!("5\r\nhello\r\n{after}");
            let reading = if after.len() > 100 {
                read(Framing::Chunked, [body.as_bytes()])
            } else {
                read_every_way(Framing::Chunked, body.as_bytes())
            };
            assert!(reading.violation.is_some() && !reading.has_ended, "{after:?}: {reading:?}");
            assert!(reading.content.starts_with(b"hello"), "{after:?}");
        }
    }

    #[test]
    fn a_body_without_chunks_ends_at_its_length_or_with_the_connection() {
        let reading = read_every_way(Framing::Length(5), b"hello!");
        assert_eq!((&reading.content[..], reading.consumed), (&b"hello"[..], 5));
        assert!(reading.has_ended);
        let short = read_every_way(Framing::Length(7), b"hello!");
        assert!(short.content == b"hello!" && !short.has_ended);
        assert!(BodyDecoder::new(Framing::Length(0)).has_ended());
        assert!(!BodyDecoder::new(Framing::Length(1)).can_end());
        let reading = read_every_way(Framing::UntilClose, b"5\r\nhello\r\n");
        assert!(reading.content == b"5\r\nhello\r\n" && !reading.has_ended);
        assert!(BodyDecoder::new(Framing::UntilClose).can_end());
    }

    proptest! {
        #[test]
        fn the_content_of_any_chunks_returns_for_any_split_into_reads(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            upper in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                let size = format!("{:x}\r\n", chunk.len());
                let size = if upper { size.to_uppercase() } else { size };
                body.extend_from_slice(size.as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let reading = read(Framing::Chunked, cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]));
            prop_assert_eq!(reading.content, chunks.concat());
            prop_assert_eq!(reading.consumed, body.len());
            prop_assert!(reading.has_ended && reading.violation.is_none());
        }
    }
}
