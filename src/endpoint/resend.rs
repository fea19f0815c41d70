//! One attempt to send a request, and the decision to send it once more.
//!
//! A server can end an idle connection while llmload sends the next request on it. Some servers do
//! so after each response. Then no server has worked on the request, and its failure would tell
//! nothing about the server. So llmload sends the request once more, on a new connection.
//!
//! llmload never knows for certain that the server has not worked on a request. It concludes this
//! from the time: the news of an end that was already under way arrives within about a round trip
//! after the request was written. If the connection ends later, the server had the request, and the
//! request failed.

use std::time::Duration;

use bytes::Bytes;
use hyper_util::client::legacy::connect::Connected;
use tokio::time::Instant;

use super::body::{Progress, ProgressRecorder, RequestBody};
use super::connections::{Connections, UsedConnection};
use super::faults::{SendFailure, send_failure};

/// The lowest result of [`round_trip`]. The connect time of a near server is so short that the
/// scheduling of the two machines takes longer.
const SHORTEST_ROUND_TRIP: Duration = Duration::from_millis(50);

/// If the writing of a body makes no progress for longer than this time, the server has stalled. A
/// round trip would be too short, because a slow machine can write or read late.
const LONGEST_WRITE: Duration = Duration::from_secs(1);

/// One attempt to send a request.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    connections: &'a Connections,
    started: Instant,
    recorder: ProgressRecorder,
}

impl Attempt<'_> {
    pub(super) fn new(connections: &Connections) -> Attempt<'_> {
        let recorder = ProgressRecorder::default();
        Attempt { connections, started: Instant::now(), recorder }
    }

    /// Returns the body of the request. Its progress is part of the decision.
    pub(super) fn body(&self, bytes: Bytes) -> RequestBody {
        RequestBody::new(bytes, self.recorder.clone())
    }

    /// Sends a request whose body is from [`Attempt::body`].
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendFailure> {
        request.send().await.map_err(|error| send_failure(self, error))
    }

    /// Sends a request without a body.
    pub(super) async fn send_without_body(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, SendFailure> {
        self.recorder.record_complete();
        self.send(request).await
    }

    /// Returns the connection that an error ended, if llmload has its record.
    pub(super) fn connection(&self, connected: &Connected) -> Option<UsedConnection> {
        self.connections.find(connected, self.started)
    }

    /// Returns true if the server has not worked on the request, whose connection has just ended
    /// without a response.
    pub(super) fn is_unprocessed(&self, connection: Option<UsedConnection>) -> bool {
        is_unprocessed(connection, self.recorder.progress(), Instant::now())
    }
}

/// Returns an upper bound for the time after which the news of an end that was under way arrives.
/// The time to connect contains at least one round trip.
pub(super) fn round_trip(connection: Option<UsedConnection>) -> Duration {
    connection.map_or(SHORTEST_ROUND_TRIP, |used| SHORTEST_ROUND_TRIP.max(4 * used.connect))
}

/// Returns true if the server has not worked on a request whose connection ended without a response
/// at the instant `ended`.
pub(super) fn is_unprocessed(
    connection: Option<UsedConnection>,
    progress: Progress,
    ended: Instant,
) -> bool {
    let is_reused = connection.is_some_and(|used| used.is_reused);
    let within = |at, limit| ended.saturating_duration_since(at) <= limit;
    match progress {
        // No server works on half a request. A server that responds early ends the connection while
        // llmload writes the body. If llmload could not write for longer, the server or a gateway
        // has stalled.
        Progress::Partial(at) => within(at, LONGEST_WRITE.max(round_trip(connection))),
        Progress::NotBegun => is_reused,
        Progress::Complete(at) => is_reused && within(at, round_trip(connection)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection whose connecting took this time, in milliseconds.
    fn used(connect: u64, is_reused: bool) -> UsedConnection {
        UsedConnection { connect: Duration::from_millis(connect), is_reused }
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_end_that_was_under_way_leaves_a_complete_request_unprocessed() {
        let written = Instant::now();
        for (connection, after, expected) in [
            (Some(used(1, true)), 0, true),
            (Some(used(1, true)), 50, true),
            (Some(used(1, true)), 51, false),
            (Some(used(1, true)), 2000, false),
            // A server that is far away.
            (Some(used(100, true)), 400, true),
            (Some(used(100, true)), 401, false),
            (Some(used(1, false)), 0, false),
            (None, 0, false),
        ] {
            let ended = written + Duration::from_millis(after);
            let unprocessed = is_unprocessed(connection, Progress::Complete(written), ended);
            assert_eq!(unprocessed, expected, "{connection:?} after {after} ms");
        }
        assert!(is_unprocessed(Some(used(1, true)), Progress::NotBegun, written));
        assert!(!is_unprocessed(Some(used(1, false)), Progress::NotBegun, written));
    }

    /// A gateway can stall in the middle of a body and reset the connection after half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_partly_written_request_is_unprocessed_only_if_its_body_was_moving() {
        let taken = Instant::now();
        for (connection, after, expected) in [
            (Some(used(1, false)), 0, true),
            (Some(used(1, false)), 1000, true),
            (Some(used(1, false)), 1001, false),
            (Some(used(1, true)), 30_000, false),
            (Some(used(400, false)), 1600, true),
            (Some(used(400, false)), 1601, false),
            (None, 1000, true),
            (None, 1001, false),
        ] {
            let ended = taken + Duration::from_millis(after);
            let unprocessed = is_unprocessed(connection, Progress::Partial(taken), ended);
            assert_eq!(unprocessed, expected, "{connection:?} after {after} ms");
        }
    }
}
