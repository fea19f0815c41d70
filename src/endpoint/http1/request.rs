//! The bytes of a request.

use std::io::{self, IoSlice, Write as _};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use tokio::time::Instant;

use super::super::body::Progress;
use super::socket::Socket;

/// The longest part of a body that is written at once. Between two parts, llmload reads a response
/// that the server sent early.
const PIECE: usize = 256 * 1024;

/// The value of the header `user-agent`, unless the configuration sets it.
pub(in crate::endpoint) const AGENT: &str = concat!("llmload/", env!("CARGO_PKG_VERSION"));

/// A request. A clone shares the bytes.
#[derive(Clone)]
pub(in crate::endpoint) struct Http1Request {
    head: Bytes,
    body: Bytes,
}

/// Shows only the lengths, because a head contains the key.
impl std::fmt::Debug for Http1Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (head, body) = (self.head.len(), self.body.len());
        f.debug_struct("Http1Request").field("head", &head).field("body", &body).finish()
    }
}

/// The parts of a request head.
#[derive(Clone, Copy)]
pub(in crate::endpoint) struct RequestHead<'a> {
    pub(in crate::endpoint) method: &'static str,
    /// The path, with the query.
    pub(in crate::endpoint) path: &'a str,
    /// The value of the header `host`.
    pub(in crate::endpoint) host: &'a str,
    /// The headers of all requests to the target.
    pub(in crate::endpoint) target: &'a HeaderMap,
    /// The headers of this request.
    pub(in crate::endpoint) request: &'a HeaderMap,
}

impl Http1Request {
    /// A request without a body has no `content-length`.
    pub(in crate::endpoint) fn new(head: RequestHead<'_>, body: Option<Bytes>) -> Http1Request {
        let RequestHead { method, path, host, target, request } = head;
        let mut bytes = Vec::with_capacity(512);
        for part in [method, " ", path, " HTTP/1.1\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let mut field = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        };
        for (name, value) in target.iter().chain(request) {
            field(name.as_str(), HeaderValue::as_bytes(value));
        }
        if !target.contains_key(USER_AGENT) {
            field(USER_AGENT.as_str(), AGENT.as_bytes());
        }
        field("host", host.as_bytes());
        if let Some(body) = &body {
            // Writing to a vector cannot fail.
            let _written = write!(bytes, "content-length: {}\r\n", body.len());
        }
        bytes.extend_from_slice(b"\r\n");
        Http1Request { head: bytes.into(), body: body.unwrap_or_default() }
    }
}

/// The writing of one request to a connection.
#[derive(Debug)]
pub(super) struct Writing {
    rest: Http1Request,
    progress: Progress,
    is_flushed: bool,
}

impl Writing {
    pub(super) fn new(request: Http1Request) -> Writing {
        Writing { rest: request, progress: Progress::NotBegun, is_flushed: false }
    }

    /// The part of the request that the connection has taken.
    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_flushed
    }

    /// Writes one piece. After the last piece, `is_complete` is true.
    pub(super) fn poll_piece(
        &mut self,
        socket: &mut Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Http1Request { head, body } = &mut self.rest;
        if head.has_remaining() || body.has_remaining() {
            let piece = &body[..body.len().min(PIECE)];
            let length = match (head.is_empty(), piece.is_empty()) {
                (false, false) => {
                    let parts = [IoSlice::new(head), IoSlice::new(piece)];
                    ready!(socket.poll_write(context, &parts))?
                }
                (false, true) => ready!(socket.poll_write(context, &[IoSlice::new(head)]))?,
                (true, _) => ready!(socket.poll_write(context, &[IoSlice::new(piece)]))?,
            };
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let from_head = length.min(head.len());
            head.advance(from_head);
            body.advance(length - from_head);
            let is_last = head.is_empty() && body.is_empty();
            let now = Instant::now();
            self.progress = if is_last { Progress::Complete(now) } else { Progress::Partial(now) };
            if !is_last {
                return Poll::Ready(Ok(()));
            }
        }
        ready!(socket.poll_flush(context))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}
