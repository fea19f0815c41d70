//! The connections of one client that have not carried a response yet.
//!
//! A server may close a kept-alive connection at the very moment a request is written to it. Nobody
//! is to blame for that race, but only if the connection was used before. So a layer around the
//! connector records each new connection, and its first response or error removes the record. The
//! record holds the time to establish the connection, which counts for the first request on it.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Extensions;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use reqwest::dns::{Name, Resolve, Resolving};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// The DNS lookup time of the connection that the current task establishes. The resolver sets
    /// it and the connector reads it: the client calls one inside the other, with no value between.
    static LOOKUP_TIME: Cell<Option<Duration>>;
}

/// The time to establish a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTiming {
    /// The DNS lookup; `None` if the URL has an IP address instead of a name.
    pub dns: Option<Duration>,
    /// The time after the lookup: TCP, and TLS if it is used.
    pub connect: Duration,
}

/// Resolves names with the system's resolver, anew for each connection.
///
/// A name may get another address while the daemon runs. The system caches its answers; llmload
/// does not.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let start = Instant::now();
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // Fails outside of a connector's scope, where nobody reads the time.
            let _no_scope = LOOKUP_TIME.try_with(|time| time.set(Some(start.elapsed())));
            Ok(Box::new(addresses.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// The local and the remote address of a connection.
type AddressPair = (SocketAddr, SocketAddr);

/// The connections of one client that have not carried a response yet.
///
/// The number of local ports bounds the map: a new connection on the same port replaces the old
/// entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    fresh: Arc<Mutex<HashMap<AddressPair, ConnectTiming>>>,
}

impl Connections {
    /// The layer to put around the connector.
    pub(super) fn layer(&self) -> TrackConnectionsLayer {
        TrackConnectionsLayer { connections: self.clone() }
    }

    /// Marks the connection of a response as used. Returns the time to establish it, if this is the
    /// first response on it.
    pub(super) fn take_timing(&self, extensions: &Extensions) -> Option<ConnectTiming> {
        self.take(address_pair(extensions)?)
    }

    /// Returns true if the connection had carried a response before an error ended it.
    pub(super) fn was_reused(&self, connected: &Connected) -> bool {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        address_pair(&extensions).is_some_and(|addresses| self.take(addresses).is_none())
    }

    fn take(&self, addresses: AddressPair) -> Option<ConnectTiming> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).remove(&addresses)
    }

    fn insert(&self, addresses: AddressPair, timing: ConnectTiming) {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(addresses, timing);
    }
}

fn address_pair(extensions: &Extensions) -> Option<AddressPair> {
    extensions.get::<HttpInfo>().map(|info| (info.local_addr(), info.remote_addr()))
}

#[derive(Clone, Debug)]
pub(super) struct TrackConnectionsLayer {
    connections: Connections,
}

impl<S> Layer<S> for TrackConnectionsLayer {
    type Service = TrackConnections<S>;

    fn layer(&self, connector: S) -> TrackConnections<S> {
        TrackConnections { connector, connections: self.connections.clone() }
    }
}

/// A connector that times and records the connections it establishes.
#[derive(Clone, Debug)]
pub(super) struct TrackConnections<S> {
    connector: S,
    connections: Connections,
}

impl<S, R> Service<R> for TrackConnections<S>
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
        let connections = self.connections.clone();
        Box::pin(LOOKUP_TIME.scope(Cell::new(None), async move {
            let start = Instant::now();
            let connection = connecting.await?;
            let dns = LOOKUP_TIME.with(Cell::get);
            let connect = start.elapsed().saturating_sub(dns.unwrap_or_default());
            let mut extensions = Extensions::new();
            connection.connected().get_extras(&mut extensions);
            if let Some(addresses) = address_pair(&extensions) {
                connections.insert(addresses, ConnectTiming { dns, connect });
            }
            Ok(connection)
        }))
    }
}
