//! The HTTP/2 connections of a target, and the choice of the connection for each request.
//!
//! A server limits the streams of an HTTP/2 connection. The HTTP client keeps one connection to a
//! server, and lets further requests wait inside itself without a word. This wait would look like a
//! slow server. So llmload has several clients with one connection each. If all streams of a
//! connection are in use, llmload opens a further connection, like the HTTP client of Go.
//!
//! The HTTP client does not report the limit of the server. But it takes the end of a request body
//! only after the stream is open. So llmload concludes the limit: if a stream does not open on an
//! established connection, the open streams are all that the server allows. A wait for a stream is
//! a part of the dispatch lag.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::Connection;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::client::ClientBuilder;
use super::faults::SendFailure;
use crate::measurement::{Failure, FailureDetail};

/// The wait for a stream is checked after each of these times. Several short times instead of a
/// long one, because a stop of llmload is at most one of them.
const CHECK: Duration = Duration::from_millis(5);
/// The number of checks after which a stream that is not open shows that the connection is full.
const CHECKS: u32 = 4;
/// The highest number of streams of a connection that wait to open. Most servers allow at least 100
/// streams, so a burst on a new connection does not exceed their limit (RFC 9113, section 6.5.2).
const MAX_WAITING: usize = 100;
/// The highest number of requests that llmload takes back from a full connection. The HTTP client
/// opens the stream of such a request later and resets it at once. Servers close a connection with
/// many reset streams.
const MAX_WITHDRAWN: usize = 8;
/// The time after which llmload forgets the limit, because a new version of the server can have
/// another limit.
const LIMIT_LIFETIME: Duration = Duration::from_mins(10);

/// The streams of all connections of a target.
#[derive(Debug, Default)]
struct Streams {
    connections: Vec<Usage>,
    /// The number of streams that the server allows on a connection, and the instant at which
    /// llmload concluded it.
    limit: Option<(usize, Instant)>,
}

/// The streams of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    waiting: usize,
    open: usize,
    /// The number of requests that llmload has taken back.
    withdrawn: usize,
}

impl Streams {
    /// Chooses the first connection that has a free stream, and counts a waiting stream on it. The
    /// connection is new if its number is the number of the connections so far.
    fn choose(&mut self, now: Instant) -> usize {
        let is_old = |at: Instant| now.saturating_duration_since(at) >= LIMIT_LIFETIME;
        if self.limit.is_some_and(|(_, at)| is_old(at)) {
            self.limit = None;
            self.connections.iter_mut().for_each(|usage| usage.withdrawn = 0);
        }
        let limit = self.limit.map_or(usize::MAX, |(limit, _)| limit);
        let is_free =
            |usage: &Usage| usage.waiting < MAX_WAITING && usage.waiting + usage.open < limit;
        let index = self.connections.iter().position(is_free).unwrap_or(self.connections.len());
        if index == self.connections.len() {
            self.connections.push(Usage::default());
        }
        self.connections[index].waiting += 1;
        index
    }

    fn open(&mut self, index: usize) {
        let usage = &mut self.connections[index];
        usage.waiting -= 1;
        usage.open += 1;
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

    /// Returns a stream of a connection that is not full.
    pub(super) fn stream(&self) -> Stream {
        let index = lock(&self.streams).choose(Instant::now());
        let mut clients = lock(&self.clients);
        if clients.len() <= index {
            clients.resize_with(index + 1, Arc::default);
        }
        let client = Arc::clone(&clients[index]);
        let state = Arc::new(StreamState {
            streams: Arc::clone(&self.streams),
            index,
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

/// The stream of one request. If it is dropped, the stream has ended.
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
                clients.build(keep_alive, Some(establishing)).map_err(|error| error.to_string())
            });
            built.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|error| {
                let message = format!("no client for a further HTTP/2 connection: {error}");
                let detail = FailureDetail::new(Failure::Internal, &message);
                SendFailure { detail, resend: None }
            })
        };
        self.client.client.get_or_try_init(build).await
    }

    /// Returns the part of the stream that the request body needs.
    pub(super) fn opener(&self) -> Opener {
        Opener(Arc::clone(&self.state))
    }

    /// Waits until the stream is open or the request was taken back. `begin` is the instant at
    /// which the HTTP client got the request.
    pub(super) async fn wait(&self, begin: Instant) -> Wait {
        let establishing = &self.client.establishing;
        let mut checks = 0;
        loop {
            let opened = tokio::time::timeout(CHECK, self.state.opened.notified()).await;
            let until = self.state.opened_at.get().copied().unwrap_or_else(Instant::now);
            let time = |since: Instant| until.saturating_duration_since(begin.max(since));
            match (establishing.connection(), opened) {
                (Some(Established::Http2(since)), Ok(())) => return Wait::Opened(time(since)),
                (_, Ok(())) => return Wait::Opened(Duration::ZERO),
                // Each request has a connection of its own.
                (Some(Established::Http1), Err(_)) => {
                    self.state.open();
                    return Wait::Opened(Duration::ZERO);
                }
                (Some(Established::Http2(since)), Err(_)) => {
                    checks += 1;
                    if checks == CHECKS && self.state.record_full() {
                        return Wait::Withdrawn(time(since));
                    }
                }
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
            lock(&self.streams).open(self.index);
            self.opened.notify_one();
        }
        *phase == Phase::Open
    }

    fn end(&self) {
        let mut phase = lock(&self.phase);
        let usage = &mut lock(&self.streams).connections[self.index];
        match *phase {
            Phase::Waiting => usage.waiting -= 1,
            Phase::Open => usage.open -= 1,
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

/// The state of the connecting of one HTTP client. It is a layer around the connector.
#[derive(Clone, Debug, Default)]
pub(super) struct Establishing(Arc<EstablishingState>);

#[derive(Debug, Default)]
struct EstablishingState {
    connecting: Mutex<Connecting>,
    /// True if the client uses HTTP/2 without negotiation.
    prior_knowledge: AtomicBool,
}

#[derive(Debug, Default)]
struct Connecting {
    in_progress: usize,
    /// The instant at which the last connection was established, and true if it uses HTTP/2.
    established: Option<(Instant, bool)>,
}

/// An established connection.
enum Established {
    Http1,
    /// The instant at which the connection was established.
    Http2(Instant),
}

impl Establishing {
    /// Records that the client uses HTTP/2 without negotiation.
    pub(super) fn set_prior_knowledge(&self) {
        self.0.prior_knowledge.store(true, Ordering::Relaxed);
    }

    /// Returns the last connection. Returns `None` while a connection is being established.
    fn connection(&self) -> Option<Established> {
        let connecting = lock(&self.0.connecting);
        let (at, is_http2) = connecting.established.filter(|_| connecting.in_progress == 0)?;
        Some(if is_http2 { Established::Http2(at) } else { Established::Http1 })
    }
}

/// Counts a connection that is being established, until it is dropped.
struct InProgress(Arc<EstablishingState>);

impl InProgress {
    fn begin(establishing: &Establishing) -> InProgress {
        lock(&establishing.0.connecting).in_progress += 1;
        InProgress(Arc::clone(&establishing.0))
    }

    fn record(&self, negotiated_http2: bool) {
        let is_http2 = negotiated_http2 || self.0.prior_knowledge.load(Ordering::Relaxed);
        lock(&self.0.connecting).established = Some((Instant::now(), is_http2));
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        lock(&self.0.connecting).in_progress -= 1;
    }
}

impl<S> Layer<S> for Establishing {
    type Service = ObservedConnector<S>;

    fn layer(&self, connector: S) -> ObservedConnector<S> {
        ObservedConnector { connector, establishing: self.clone() }
    }
}

/// A connector that records when it establishes a connection.
#[derive(Clone, Debug)]
pub(super) struct ObservedConnector<S> {
    connector: S,
    establishing: Establishing,
}

impl<S, R> Service<R> for ObservedConnector<S>
where
    S: Service<R>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.connector.call(request);
        let in_progress = InProgress::begin(&self.establishing);
        Box::pin(async move {
            let connection = connecting.await?;
            in_progress.record(connection.connected().is_negotiated_h2());
            Ok(connection)
        })
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
            streams.open(0);
        }
        assert_eq!(streams.choose(now), 0, "no limit is known");
        assert!(streams.record_full(0, now));
        let chosen: Vec<usize> = (0..5).map(|_| streams.choose(now)).collect();
        assert_eq!(chosen, [1, 1, 2, 2, 3]);
        streams.connections[1].waiting -= 1;
        assert_eq!(streams.choose(now), 1, "the first connection with a free stream");
        assert_eq!(streams.choose(now + LIMIT_LIFETIME), 0, "the limit is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_a_bounded_number_of_waiting_and_of_withdrawn_requests() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        for _ in 0..MAX_WAITING {
            assert_eq!(streams.choose(now), 0);
        }
        assert_eq!(streams.choose(now), 1);
        streams.open(0);
        assert_eq!(streams.choose(now), 0, "an open stream does not wait");
        let withdrawn = (0..MAX_WAITING).filter(|_| streams.record_full(0, now)).count();
        assert_eq!(withdrawn, MAX_WITHDRAWN);
        assert_eq!(streams.limit, Some((1, now)));
    }
}
