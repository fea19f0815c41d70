//! A response whose body is read from its connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::super::ConnectTiming;
use super::body::BodyDecoder;
use super::connect::Connection;
use super::error::{ResponseError, Violation};
use super::head::Head;
use super::pool::Pool;
use super::request::Writing;
use super::sending::Answered;
use crate::measurement::FailureDetail;

/// The number of bytes after which a response lets other tasks run, if more bytes have arrived.
const TURN: usize = 128 * 1024;
/// The number of reads without content after which a response lets other tasks run.
const EMPTY_READS: u32 = 8;
/// The lowest status with which a server does not want the rest of a request.
const REFUSED: u16 = 300;

/// A response. Its connection is closed if the response is dropped before the end of its body.
#[derive(Debug)]
pub(in crate::endpoint) struct Http1Response {
    head: Head,
    /// `None` after the end of the body, or after an error.
    connection: Option<Box<Connection>>,
    body: BodyDecoder,
    /// The bytes that arrived with the head.
    rest: Vec<u8>,
    /// The rest of the request, if the server responded before it had read everything.
    unwritten: Option<Box<Writing>>,
    /// The place of the connection after the end of the body. `None` if it cannot be used again.
    pool: Option<Arc<Pool>>,
    /// The time to establish the connection, if this is its first response.
    connect_timing: Option<ConnectTiming>,
    /// The violation that follows the content that was already returned.
    violation: Option<&'static str>,
    /// The number of bytes since other tasks could run.
    in_turn: usize,
}

impl Http1Response {
    /// `pool` is the place for the connection after the response.
    pub(super) fn new(answered: Answered, pool: Option<&Arc<Pool>>) -> Http1Response {
        let Answered { mut connection, head, rest, unwritten } = answered;
        let connect_timing = (!connection.has_responded).then_some(connection.timing);
        connection.has_responded = true;
        let can_continue = head.keeps_alive && unwritten.is_none() && head.status != 101;
        let mut response = Http1Response {
            body: BodyDecoder::new(head.framing),
            connection: Some(Box::new(connection)),
            rest,
            unwritten: unwritten.filter(|_| head.status < REFUSED).map(Box::new),
            pool: pool.filter(|_| can_continue).map(Arc::clone),
            connect_timing,
            violation: None,
            in_turn: 0,
            head,
        };
        if response.body.has_ended() {
            let has_more = !response.rest.is_empty();
            response.release(has_more);
        }
        response
    }

    pub(in crate::endpoint) fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns the values of the headers with this name, which is in lower case.
    pub(in crate::endpoint) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.head.values(name)
    }

    /// Returns the names and the values of all headers.
    pub(in crate::endpoint) fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head.fields()
    }

    pub(in crate::endpoint) fn connect_timing(&self) -> Option<ConnectTiming> {
        self.connect_timing
    }

    /// Reads the next bytes of the body. Returns `None` when the body has ended cleanly.
    pub(in crate::endpoint) async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        let chunk = poll_fn(|context| self.poll_chunk(context)).await;
        chunk.map_err(|error| {
            self.connection = None;
            error.in_body()
        })
    }

    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ResponseError>> {
        if self.in_turn >= TURN {
            return self.let_others_run(context);
        }
        self.poll_write(context);
        for _ in 0..EMPTY_READS {
            if let Some(message) = self.violation {
                return Poll::Ready(Err(Violation::Malformed(message).into()));
            }
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
            let body = &mut self.body;
            let mut decode = |bytes: &mut [u8]| {
                let decoded = body.decode(bytes);
                (decoded, bytes.len(), Bytes::copy_from_slice(&bytes[..decoded.content]))
            };
            let (decoded, length, content) = if self.rest.is_empty() {
                let read = connection.socket.poll_read(context, decode);
                if read.is_pending() {
                    self.in_turn = 0;
                }
                ready!(read).map_err(ResponseError::Connection)?
            } else {
                decode(&mut std::mem::take(&mut self.rest))
            };
            self.violation = decoded.violation;
            if length == 0 {
                return Poll::Ready(if self.body.can_end() {
                    self.connection = None;
                    Ok(None)
                } else {
                    Err(ResponseError::closed("before the end of the response"))
                });
            }
            if self.body.has_ended() {
                self.release(decoded.consumed < length);
            }
            if !content.is_empty() {
                self.in_turn += length;
                return Poll::Ready(Ok(Some(content)));
            }
        }
        self.let_others_run(context)
    }

    fn let_others_run<T>(&mut self, context: &mut Context<'_>) -> Poll<T> {
        self.in_turn = 0;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes the rest of the request. If it cannot be written, the server decides how the response
    /// ends.
    fn poll_write(&mut self, context: &mut Context<'_>) {
        while let (Some(writing), Some(connection)) = (&mut self.unwritten, &mut self.connection) {
            match writing.poll_piece(&mut connection.socket, context) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !writing.is_complete() => {}
                Poll::Ready(_) => self.unwritten = None,
            }
        }
    }

    /// Ends the use of the connection. If more bytes follow the body, the connection is closed,
    /// because these bytes are not the response to the next request.
    fn release(&mut self, has_more: bool) {
        let connection = self.connection.take();
        if let (Some(pool), Some(connection), false) = (self.pool.take(), connection, has_more) {
            pool.put(*connection);
        }
    }
}
