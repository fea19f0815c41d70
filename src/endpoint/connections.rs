//! Keeps a record of each connection: the instant at which it was established and the time to
//! connect.
//!
//! A server can end an idle connection at the moment when llmload sends the next request on it. The
//! server is not to blame for this. But the server is to blame if a new connection breaks. To
//! distinguish the two cases, a layer around the connector records each new connection.
//!
//! The time to establish a connection belongs to the first request on the connection. It is also a
//! measure of the round trip to the server.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Extensions;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::resolver::connect_within;

/// The time to establish a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTiming {
    /// The duration of the DNS lookup. `None` if the URL has an IP address instead of a name.
    pub dns: Option<Duration>,
    /// The time from the end of the lookup until the connection can be used: TCP, and TLS if the
    /// URL requires it.
    pub connect: Duration,
}

/// The local and the remote address of a connection.
type AddressPair = (SocketAddr, SocketAddr);

/// The connection of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UsedConnection {
    /// The time to establish the connection, without the DNS lookup.
    pub(super) connect: Duration,
    /// True if the connection was idle before the request: it is older than the request, or another
    /// request has used it before.
    pub(super) is_reused: bool,
}

/// The record of one connection.
#[derive(Clone, Copy, Debug)]
struct Record {
    established: Instant,
    timing: ConnectTiming,
    /// True if a response has arrived on the connection.
    has_responded: bool,
    /// The instant of the last response, or of the connecting.
    last_used: Instant,
}

/// The records of the connections of one target.
///
/// The HTTP client does not report that it has closed a connection. So a search removes the records
/// of connections that can no longer be open. The number of records is limited in any case, because
/// a new connection from the same port to the same address replaces the old record.
#[derive(Debug)]
struct Records {
    by_addresses: HashMap<AddressPair, Record>,
    /// An upper bound for the time from one response on a connection to the next: a connection
    /// without a response for longer is closed.
    lifetime: Duration,
    /// The number of records at which the next search for old records begins. Each search sets this
    /// number to twice the remaining records, so the mean cost of a new connection is constant.
    next_search: usize,
}

/// The number of records that are kept without a search for old ones.
const FEW: usize = 64;

impl Records {
    fn new(lifetime: Duration) -> Records {
        Records { by_addresses: HashMap::new(), lifetime, next_search: FEW }
    }

    fn insert(&mut self, addresses: AddressPair, timing: ConnectTiming, now: Instant) {
        if self.by_addresses.len() >= self.next_search {
            let lifetime = self.lifetime;
            self.by_addresses
                .retain(|_, record| now.saturating_duration_since(record.last_used) <= lifetime);
            self.next_search = FEW.max(2 * self.by_addresses.len());
        }
        let record = Record { established: now, timing, has_responded: false, last_used: now };
        self.by_addresses.insert(addresses, record);
    }

    /// Records a response. Returns the time to establish the connection if this is the first
    /// response on it.
    fn respond(&mut self, addresses: AddressPair, now: Instant) -> Option<ConnectTiming> {
        let record = self.by_addresses.get_mut(&addresses)?;
        record.last_used = now;
        let is_first = !std::mem::replace(&mut record.has_responded, true);
        is_first.then_some(record.timing)
    }

    fn find(&self, addresses: AddressPair, sent: Instant) -> Option<UsedConnection> {
        let record = self.by_addresses.get(&addresses)?;
        // `established < sent` is not enough. While this request waits, another request can open a
        // connection and use it first. Then this request reuses a connection newer than `sent`.
        let is_reused = record.has_responded || record.established < sent;
        Some(UsedConnection { connect: record.timing.connect, is_reused })
    }
}

/// The connections of one target.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Mutex<Records>>);

impl Connections {
    /// `lifetime` is an upper bound for the time from one response on a connection to the next: the
    /// timeout of a request plus the keep-alive time.
    pub(super) fn new(lifetime: Duration) -> Connections {
        Connections(Arc::new(Mutex::new(Records::new(lifetime))))
    }

    /// Returns the layer to put around the connector. The connector has the time `limit` for the
    /// lookup, TCP and TLS together.
    pub(super) fn layer(&self, limit: Duration) -> TrackConnectionsLayer {
        TrackConnectionsLayer { connections: self.clone(), limit }
    }

    /// Records that a response arrived on a connection. Returns the time to establish the
    /// connection if this is the first response on it.
    pub(super) fn respond(&self, extensions: &Extensions) -> Option<ConnectTiming> {
        self.lock().respond(address_pair(extensions)?, Instant::now())
    }

    /// Returns the connection of a request that llmload began to send at the instant `sent`.
    pub(super) fn find(&self, connected: &Connected, sent: Instant) -> Option<UsedConnection> {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        self.lock().find(address_pair(&extensions)?, sent)
    }

    fn insert(&self, addresses: AddressPair, timing: ConnectTiming) {
        self.lock().insert(addresses, timing, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_pair(extensions: &Extensions) -> Option<AddressPair> {
    extensions.get::<HttpInfo>().map(|info| (info.local_addr(), info.remote_addr()))
}

#[derive(Clone, Debug)]
pub(super) struct TrackConnectionsLayer {
    connections: Connections,
    limit: Duration,
}

impl<S> Layer<S> for TrackConnectionsLayer {
    type Service = TrackConnections<S>;

    fn layer(&self, connector: S) -> TrackConnections<S> {
        TrackConnections { connector, connections: self.connections.clone(), limit: self.limit }
    }
}

/// A connector that limits and measures the time to establish each connection, and records the
/// connection.
#[derive(Clone, Debug)]
pub(super) struct TrackConnections<S> {
    connector: S,
    connections: Connections,
    limit: Duration,
}

impl<S, R> Service<R> for TrackConnections<S>
where
    S: Service<R, Error = Box<dyn Error + Send + Sync>>,
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
        let (connections, limit) = (self.connections.clone(), self.limit);
        Box::pin(async move {
            let start = Instant::now();
            let (connection, dns) = connect_within(limit, connecting).await?;
            let connect = start.elapsed().saturating_sub(dns.unwrap_or_default());
            let mut extensions = Extensions::new();
            connection.connected().get_extras(&mut extensions);
            if let Some(addresses) = address_pair(&extensions) {
                connections.insert(addresses, ConnectTiming { dns, connect });
            }
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(port: u16) -> AddressPair {
        (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    const TIMING: ConnectTiming = ConnectTiming { dns: None, connect: Duration::from_millis(3) };
    const LIFETIME: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_reused_if_it_is_older_than_the_request_or_has_responded() {
        let mut records = Records::new(LIFETIME);
        let before = Instant::now();
        let established = before + Duration::from_millis(1);
        records.insert(addresses(1), TIMING, established);
        let after = established + Duration::from_millis(1);
        let is_reused =
            |records: &Records, sent| records.find(addresses(1), sent).map(|used| used.is_reused);
        assert_eq!(is_reused(&records, before), Some(false));
        assert_eq!(is_reused(&records, established), Some(false));
        assert_eq!(is_reused(&records, after), Some(true));
        assert_eq!(records.find(addresses(2), after), None);
        assert_eq!(records.respond(addresses(1), after), Some(TIMING));
        assert_eq!(records.respond(addresses(1), after), None, "only the first response");
        assert_eq!(is_reused(&records, after), Some(true));
        assert_eq!(is_reused(&records, before), Some(true), "another request used it before");
        records.insert(addresses(1), TIMING, established);
        assert_eq!(is_reused(&records, before), Some(false), "a new connection from this port");
    }

    /// Ten new connections per second for 5.5 hours. The HTTP client closes them silently.
    #[tokio::test(start_paused = true)]
    async fn records_of_closed_connections_do_not_pile_up() {
        let (mut records, start) = (Records::new(LIFETIME), Instant::now());
        let mut most = 0;
        for k in 0..200_000_u32 {
            let now = start + Duration::from_millis(100) * k;
            let remote = SocketAddr::from(([127, 0, 0, 1], 80));
            let local = SocketAddr::from((k.to_be_bytes(), 1));
            records.insert((local, remote), TIMING, now);
            // This connection is open all the time.
            records.respond((SocketAddr::from(([0, 0, 0, 0], 1)), remote), now);
            most = most.max(records.by_addresses.len());
        }
        assert!(most <= 2 * 101 + FEW, "100 connections are within the lifetime: {most}");
        let first = (SocketAddr::from(([0, 0, 0, 0], 1)), SocketAddr::from(([127, 0, 0, 1], 80)));
        assert!(records.by_addresses.contains_key(&first), "an open connection is not forgotten");
    }
}
