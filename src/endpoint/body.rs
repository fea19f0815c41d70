//! The body of a request. It records how much of the body the HTTP client has taken.
//!
//! A server can respond before it has read the complete body, for example with status 413, and then
//! reset the connection. If the HTTP client writes at this instant, its write fails, and the client
//! drops the connection without reading the response. So a large body is passed to the client in
//! pieces, and the client reads from the connection between the pieces. This makes the loss of a
//! response rare. A cautious body makes it impossible in practice: it waits before each piece, so
//! the response arrives while nothing is being written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::http2::Opener;
use super::turn::Turn;

/// The length of a piece, in bytes. Nearly every request fits into one piece.
const PIECE: usize = 256 * 1024;

/// The wait of a cautious body before each piece after the first. A server responds to a piece
/// within this time.
const PIECE_WAIT: Duration = Duration::from_millis(1);

/// The part of a request that the HTTP client has taken from llmload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// The HTTP client has not begun to write the request.
    #[default]
    NotBegun,
    /// The HTTP client has taken a part of the request, the last one at this instant.
    Partial(Instant),
    /// The HTTP client took the last piece of the body at this instant.
    Complete(Instant),
}

/// Records the [`Progress`] of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct ProgressRecorder(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    progress: Mutex<Progress>,
    /// The pause after the last piece of a large body. If the connection ends within this pause,
    /// the write of the last piece failed.
    last_turn: OnceLock<Turn>,
}

impl ProgressRecorder {
    pub(super) fn progress(&self) -> Progress {
        let is_written = self.0.last_turn.get().is_none_or(Turn::has_passed);
        match *self.lock() {
            Progress::Complete(at) if !is_written => Progress::Partial(at),
            progress => progress,
        }
    }

    /// Records that the HTTP client has taken a part of the request.
    fn record_part(&self) {
        *self.lock() = Progress::Partial(Instant::now());
    }

    /// Records that the HTTP client has taken the complete request.
    pub(super) fn record_complete(&self) {
        let mut progress = self.lock();
        if !matches!(*progress, Progress::Complete(_)) {
            *progress = Progress::Complete(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request.
pub(super) struct RequestBody {
    rest: Bytes,
    recorder: ProgressRecorder,
    /// The time that a cautious body waits before its first piece. `None` for a body that waits
    /// only until the HTTP client has read from the connection.
    caution: Option<Duration>,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    /// True if the body has several pieces and the client has taken the first.
    is_split: bool,
    /// Opens the HTTP/2 stream of the request. The HTTP client takes the first piece before the
    /// stream is open, and continues only after that. So the end of this body is separate from its
    /// last piece.
    opener: Option<Opener>,
    has_begun: bool,
    has_ended: bool,
}

impl RequestBody {
    pub(super) fn new(bytes: Bytes, recorder: ProgressRecorder) -> RequestBody {
        RequestBody {
            rest: bytes,
            recorder,
            caution: None,
            pause: None,
            is_split: false,
            opener: None,
            has_begun: false,
            has_ended: false,
        }
    }

    /// Makes the body open the stream.
    #[must_use]
    pub(super) fn opening(mut self, opener: Opener) -> RequestBody {
        self.opener = Some(opener);
        self
    }

    /// Makes the body cautious if it has several pieces. It then waits for `time` before its first
    /// piece, because most early responses follow the request head.
    #[must_use]
    pub(super) fn cautious(mut self, time: Duration) -> RequestBody {
        if self.rest.len() > PIECE {
            self.caution = Some(PIECE_WAIT);
            self.pause = Some(Box::pin(tokio::time::sleep(time)));
        }
        self
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The HTTP client has reset the stream of a request that llmload has taken back. So it does
        // not poll the body again, and no waker is necessary.
        if self.has_begun && self.opener.as_ref().is_some_and(|opener| !opener.open()) {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            // The HTTP client has taken the head.
            self.recorder.record_part();
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if self.rest.is_empty() {
            self.recorder.record_complete();
            self.has_ended = true;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        if self.rest.is_empty() {
            if self.is_split {
                self.recorder.0.last_turn.get_or_init(Turn::begin);
            }
            self.recorder.record_complete();
        } else {
            self.recorder.record_part();
            self.is_split = true;
            self.pause = Some(match self.caution {
                Some(time) => Box::pin(tokio::time::sleep(time)),
                None => Box::pin(Turn::begin()),
            });
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && (self.opener.is_none() || self.has_ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
