//! Writes a request and reads the response head at the same time.
//!
//! A server can respond before it has read the complete request, for example with status 413, and
//! then end the connection. The write then fails, but the response has arrived. So llmload reads
//! from the connection until it ends, also after a failed write.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::super::connections::UsedConnection;
use super::super::faults;
use super::super::resend::is_unprocessed;
use super::connect::Connection;
use super::error::ResponseError;
use super::head::{Head, HeadReader};
use super::request::{Http1Request, Writing};
use crate::measurement::FailureDetail;

/// The number of reads and writes after which a request lets other tasks run.
const STEPS: u32 = 16;

/// A response head has arrived.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) connection: Connection,
    pub(super) head: Head,
    /// The bytes of the body that arrived with the head.
    pub(super) rest: Vec<u8>,
    /// The rest of the request, if the server responded before it had read everything.
    pub(super) unwritten: Option<Writing>,
}

/// No response head arrived.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) detail: FailureDetail,
    /// True if the server has not worked on the request.
    pub(super) is_unprocessed: bool,
}

/// Sends a request on a connection. If the future is dropped, the connection is closed.
pub(super) async fn send(
    connection: Connection,
    request: Http1Request,
) -> Result<Answered, Unanswered> {
    let mut sending = Sending {
        connection,
        writing: Writing::new(request),
        write_error: None,
        reader: HeadReader::default(),
    };
    match poll_fn(|context| sending.poll(context)).await {
        Ok(head) => {
            let Sending { connection, writing, write_error, reader } = sending;
            let is_written = writing.is_complete() && write_error.is_none();
            let unwritten = (!is_written).then_some(writing);
            Ok(Answered { connection, head, rest: reader.into_rest(), unwritten })
        }
        Err(error) => Err(sending.unanswered(error)),
    }
}

struct Sending {
    connection: Connection,
    writing: Writing,
    /// The reason why the rest of the request cannot be written.
    write_error: Option<io::Error>,
    reader: HeadReader,
}

impl Sending {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, ResponseError>> {
        for _ in 0..STEPS {
            let has_written = self.poll_write(context).is_ready();
            let reader = &mut self.reader;
            let read = self.connection.socket.poll_read(context, |bytes| match &*bytes {
                [] => Err(ResponseError::closed("before the response head was complete")),
                bytes => Ok(reader.read(bytes)?),
            });
            match read {
                Poll::Ready(Ok(Ok(Some(head)))) => return Poll::Ready(Ok(head)),
                Poll::Ready(Ok(Ok(None))) => {}
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(ResponseError::Connection(error)));
                }
                Poll::Pending if has_written => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes one piece of the request. Is ready if there was something to do.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.writing.is_complete() || self.write_error.is_some() {
            return Poll::Pending;
        }
        self.writing.poll_piece(&mut self.connection.socket, context).map(|written| {
            self.write_error = written.err();
        })
    }

    fn unanswered(self, error: ResponseError) -> Unanswered {
        let used = UsedConnection {
            connect: self.connection.timing.connect,
            is_reused: self.connection.has_responded,
        };
        // The kernel reports the reset of a connection once. The write can have got the report.
        let error = match (error, self.write_error) {
            (ResponseError::Connection(_), Some(error)) => ResponseError::Connection(error),
            (error, _) => error,
        };
        let has_ended = matches!(&error, ResponseError::Connection(error)
            if faults::is_disconnected(error));
        let is_unprocessed = used.is_reused
            && has_ended
            && self.reader.is_empty()
            && is_unprocessed(Some(used), self.writing.progress(), Instant::now());
        Unanswered { detail: error.before_head(), is_unprocessed }
    }
}
