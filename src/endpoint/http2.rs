//! The HTTP/2 connections of a target, and the choice of the connection for each request.
//!
//! A server limits the streams of an HTTP/2 connection. The HTTP client keeps one connection to a
//! server, and does not report that further requests wait in the client. This wait would look like
//! a slow server. So llmload has several clients with one connection each. If all streams of a
//! connection are in use, llmload opens a further connection, like the HTTP client of Go.
//!
//! The HTTP client does not report the limit of the server. But the client takes the end of a
//! request body only after the stream is open. So llmload concludes the limit: if a stream does not
//! open on an established connection, the open streams are all that the server allows. A wait for a
//! stream is a part of the dispatch lag.

mod establishing;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;

use super::client::ClientBuilder;
use super::faults::{self, SendFailure};
use crate::measurement::{Failure, FailureDetail};
use establishing::Established;
pub(super) use establishing::Establishing;

/// The wait for a stream is checked after each of these times. Several short times instead of a
/// long one, because a stop of llmload is at most one of them.
const CHECK: Duration = Duration::from_millis(5);
/// The number of checks after which a stream that is not open shows that the connection is full.
const CHECKS: u32 = 4;
/// The number of checks if a lack of window can also delay the stream: a second.
const CHECKS_WITH_LARGE_BODIES: u32 = 200;
/// The bytes that a connection can carry before the server reads any of them. Each connection
/// begins with this window (RFC 9113, section 6.9.2).
const WINDOW: usize = 65_535;
/// The highest number of streams of a connection that wait to open. Most servers allow at least 100
/// streams, so a burst on a new connection does not exceed their limit (RFC 9113, section 6.5.2).
const MAX_WAITING: usize = 100;
/// The highest number of requests that llmload takes back from a full connection. The HTTP client
/// opens the stream of such a request later and resets it at once. Servers close a connection with
/// many reset streams.
const MAX_WITHDRAWN: usize = 8;
/// The time after which one request tests the limit. llmload only concludes the limit, so the limit
/// can be wrong, and a new version of the server can have another limit.
const LIMIT_LIFETIME: Duration = Duration::from_mins(1);

/// The streams of all connections of a target.
#[derive(Debug, Default)]
struct Streams {
    connections: Vec<Usage>,
    /// The number of streams that the server allows on a connection, and the instant at which
    /// llmload concluded or tested it.
    limit: Option<(usize, Instant)>,
}

/// The streams of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    waiting: usize,
    open: usize,
    /// The bytes in the bodies of the open streams that have no response yet. The server may not
    /// have read these bytes.
    unread: usize,
    /// The number of requests that llmload has taken back.
    withdrawn: usize,
}

impl Streams {
    /// Chooses the first connection that has a free stream, and counts a waiting stream on it. The
    /// connection is new if its number is the number of the connections so far.
    fn choose(&mut self, now: Instant) -> usize {
        let limit = self.limit.map_or(usize::MAX, |(limit, _)| limit);
        let is_free =
            |usage: &Usage| usage.waiting < MAX_WAITING && usage.waiting + usage.open < limit;
        let free = self.connections.iter().position(is_free).unwrap_or(self.connections.len());
        let index = if self.tests_limit(now) { 0 } else { free };
        if index == self.connections.len() {
            self.connections.push(Usage::default());
        }
        self.connections[index].waiting += 1;
        index
    }

    /// Returns true if the next request should test an old limit. For this test, the request needs
    /// a connection that is full.
    fn tests_limit(&mut self, now: Instant) -> bool {
        let (Some((limit, at)), Some(first)) = (&mut self.limit, self.connections.first_mut())
        else {
            return false;
        };
        let is_old = now.saturating_duration_since(*at) >= LIMIT_LIFETIME;
        let is_test = is_old && first.waiting == 0 && first.open >= *limit;
        if is_test {
            (*at, first.withdrawn) = (now, 0);
        }
        is_test
    }

    /// Records that a stream with a body of this length is open. If a connection then has more
    /// streams than the limit, the limit was wrong.
    fn open(&mut self, index: usize, length: usize) {
        let usage = &mut self.connections[index];
        usage.waiting -= 1;
        usage.open += 1;
        usage.unread += length;
        if self.limit.is_some_and(|(limit, _)| usage.open > limit) {
            self.limit = None;
        }
    }

    /// Returns the number of checks after which the connection is full.
    fn checks(&self, index: usize) -> u32 {
        let is_window_free = self.connections[index].unread < WINDOW;
        if is_window_free { CHECKS } else { CHECKS_WITH_LARGE_BODIES }
    }

    /// Records that a stream has waited too long. Returns true if llmload should take the request
    /// back, which is then no longer counted.
    fn record_full(&mut self, index: usize, now: Instant) -> bool {
        let usage = &mut self.connections[index];
        let known = self.limit.map_or(usize::MAX, |(limit, _)| limit);
        if usage.open < known {
            self.limit = Some((usage.open.max(1), now));
        }
        let is_withdrawn = usage.withdrawn < MAX_WITHDRAWN;
        if is_withdrawn {
            usage.withdrawn += 1;
            usage.waiting -= 1;
        }
        is_withdrawn
    }
}

/// The state of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Open,
    /// The response head has arrived.
    Answered,
    Ended,
}

/// The connections of a target, with one HTTP client for each.
#[derive(Debug)]
pub(super) struct Http2Connections {
    streams: Arc<Mutex<Streams>>,
    clients: Mutex<Vec<Arc<Client>>>,
}

/// The HTTP client of one connection.
#[derive(Debug, Default)]
struct Client {
    client: OnceCell<reqwest::Client>,
    establishing: Establishing,
}

impl Http2Connections {
    /// `first` is the client of the first connection, which is built with `establishing`.
    pub(super) fn new(first: reqwest::Client, establishing: Establishing) -> Http2Connections {
        let client = Client { client: OnceCell::new_with(Some(first)), establishing };
        Http2Connections { streams: Arc::default(), clients: Mutex::new(vec![Arc::new(client)]) }
    }

    /// Returns a stream of a connection that is not full, for a body of this length.
    pub(super) fn stream(&self, length: usize) -> Stream {
        let index = lock(&self.streams).choose(Instant::now());
        let mut clients = lock(&self.clients);
        if clients.len() <= index {
            clients.resize_with(index + 1, Arc::default);
        }
        let client = Arc::clone(&clients[index]);
        let state = Arc::new(StreamState {
            streams: Arc::clone(&self.streams),
            index,
            length,
            phase: Mutex::new(Phase::Waiting),
            opened: Notify::new(),
            opened_at: OnceLock::new(),
        });
        Stream { state, client }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream of one request. Dropping this value records the end of the stream.
#[derive(Debug)]
pub(super) struct Stream {
    state: Arc<StreamState>,
    client: Arc<Client>,
}

/// The result of the wait for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The stream opened after this time on an established connection.
    Opened(Duration),
    /// The connection is full, and llmload has taken the request back after this time.
    Withdrawn(Duration),
}

impl Stream {
    /// Returns the HTTP client of the connection. A further connection needs a new client.
    ///
    /// # Errors
    /// The client cannot be built.
    pub(super) async fn client(
        &self,
        clients: &Arc<ClientBuilder>,
    ) -> Result<&reqwest::Client, SendFailure> {
        let build = || async {
            let (clients, establishing) = (Arc::clone(clients), self.client.establishing.clone());
            // To read the certificates of the system takes milliseconds.
            let built = tokio::task::spawn_blocking(move || {
                let keep_alive = clients.target.connection.keep_alive;
                let built = clients.build(keep_alive, Some(establishing));
                built.map_err(|error| faults::build_failure(&*error))
            });
            let panicked = |error: tokio::task::JoinError| {
                FailureDetail::new(Failure::Internal, &error.to_string())
            };
            let built = built.await.unwrap_or_else(|error| Err(panicked(error)));
            built.map_err(|detail| SendFailure { detail, resend: None })
        };
        self.client.client.get_or_try_init(build).await
    }

    /// Returns the part of the stream that the request body needs.
    pub(super) fn opener(&self) -> Opener {
        Opener(Arc::clone(&self.state))
    }

    /// Records that the response head has arrived.
    pub(super) fn record_response(&self) {
        self.state.record_response();
    }

    /// Waits until the stream is open or the request was taken back. `begin` is the instant at
    /// which the HTTP client got the request. Calls `queued` if the connection is full, and the
    /// request waits for one of its streams.
    pub(super) async fn wait(&self, begin: Instant, mut queued: impl FnMut()) -> Wait {
        let establishing = &self.client.establishing;
        let (mut checks, mut is_queued) = (0, false);
        loop {
            let check = Instant::now();
            let opened = tokio::time::timeout(CHECK, self.state.opened.notified()).await;
            // A late check shows that the event loop is busy. Then the task of the connection may
            // not have run either.
            let is_late = check.elapsed() >= 2 * CHECK;
            let until = self.state.opened_at.get().copied().unwrap_or_else(Instant::now);
            let time = |since: Instant| until.saturating_duration_since(begin.max(since));
            match (establishing.connection(), opened) {
                (Some(Established::Http2(since)), Ok(())) => return Wait::Opened(time(since)),
                (_, Ok(())) => return Wait::Opened(Duration::ZERO),
                // Each request has a separate connection.
                (Some(Established::Http1), Err(_)) => {
                    self.state.open();
                    return Wait::Opened(Duration::ZERO);
                }
                (Some(Established::Http2(since)), Err(_)) if !is_late && !is_queued => {
                    checks += 1;
                    if checks >= self.state.checks() {
                        if self.state.record_full() {
                            return Wait::Withdrawn(time(since));
                        }
                        is_queued = true;
                        queued();
                    }
                }
                (Some(Established::Http2(_)), Err(_)) => {}
                (None, Err(_)) => checks = 0,
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.end();
    }
}

#[derive(Debug)]
struct StreamState {
    streams: Arc<Mutex<Streams>>,
    index: usize,
    /// The length of the body.
    length: usize,
    phase: Mutex<Phase>,
    opened: Notify,
    opened_at: OnceLock<Instant>,
}

impl StreamState {
    /// Records that the stream is open. Returns false if llmload has taken the request back.
    fn open(&self) -> bool {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Waiting {
            *phase = Phase::Open;
            self.opened_at.get_or_init(Instant::now);
            lock(&self.streams).open(self.index, self.length);
            self.opened.notify_one();
        }
        *phase != Phase::Ended
    }

    fn record_response(&self) {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Open {
            *phase = Phase::Answered;
            lock(&self.streams).connections[self.index].unread -= self.length;
        }
    }

    fn checks(&self) -> u32 {
        lock(&self.streams).checks(self.index)
    }

    fn end(&self) {
        let mut phase = lock(&self.phase);
        let usage = &mut lock(&self.streams).connections[self.index];
        match *phase {
            Phase::Waiting => usage.waiting -= 1,
            Phase::Open => {
                usage.open -= 1;
                usage.unread -= self.length;
            }
            Phase::Answered => usage.open -= 1,
            Phase::Ended => {}
        }
        *phase = Phase::Ended;
    }

    /// Returns true if the request was taken back.
    fn record_full(&self) -> bool {
        let mut phase = lock(&self.phase);
        let is_withdrawn =
            *phase == Phase::Waiting && lock(&self.streams).record_full(self.index, Instant::now());
        if is_withdrawn {
            *phase = Phase::Ended;
        }
        is_withdrawn
    }
}

/// Opens a stream when the HTTP client takes the end of the body.
#[derive(Debug)]
pub(super) struct Opener(Arc<StreamState>);

impl Opener {
    /// Records that the stream is open. Returns false if llmload has taken the request back.
    pub(super) fn open(&self) -> bool {
        self.0.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_connection_sets_the_limit_of_all_connections() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(streams.choose(now), 0);
            streams.open(0, 100);
        }
        assert_eq!(streams.choose(now), 0, "no limit is known");
        assert!(streams.record_full(0, now));
        let chosen: Vec<usize> = (0..5).map(|_| streams.choose(now)).collect();
        assert_eq!(chosen, [1, 1, 2, 2, 3]);
        streams.connections[1].waiting -= 1;
        assert_eq!(streams.choose(now), 1, "the first connection with a free stream");
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_tests_an_old_limit() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        streams.choose(now);
        streams.open(0, 100);
        streams.choose(now);
        assert!(streams.record_full(0, now));
        let later = now + LIMIT_LIFETIME;
        assert_eq!(streams.choose(later), 0, "the test");
        assert_eq!([streams.choose(later), streams.choose(later)], [1, 2], "the limit remains");
        assert!(streams.record_full(0, later));
        assert_eq!(streams.limit, Some((1, later)));
        let last = later + LIMIT_LIFETIME;
        assert_eq!(streams.choose(last), 0);
        streams.open(0, 100);
        assert_eq!(streams.limit, None, "the server allows more streams");
    }

    /// The bytes of large bodies can use up the window of the connection for a short time.
    #[tokio::test(start_paused = true)]
    async fn a_connection_with_large_unread_bodies_is_not_full_at_once() {
        let first = Http2Connections { streams: Arc::default(), clients: Mutex::default() };
        let large = first.stream(WINDOW);
        assert!(large.opener().open());
        let waiting = first.stream(100);
        assert_eq!(waiting.state.checks(), CHECKS_WITH_LARGE_BODIES);
        large.record_response();
        assert_eq!(waiting.state.checks(), CHECKS, "the server has read the body");
        drop(large);
        assert!(first.stream(WINDOW).opener().open());
        assert_eq!(lock(&first.streams).connections[0].unread, 0, "the stream has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_bounded_number_of_waiting_and_of_withdrawn_requests() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        for _ in 0..MAX_WAITING {
            assert_eq!(streams.choose(now), 0);
        }
        assert_eq!(streams.choose(now), 1);
        streams.open(0, 100);
        assert_eq!(streams.choose(now), 0, "an open stream does not wait");
        let withdrawn = (0..MAX_WAITING).filter(|_| streams.record_full(0, now)).count();
        assert_eq!(withdrawn, MAX_WITHDRAWN);
        assert_eq!(streams.limit, Some((1, now)));
    }
}
