//! Keeps a record of each connection on which no response has arrived yet.
//!
//! A server can close an idle connection at the moment when llmload sends the next request on it.
//! The server is not to blame for this. But it is to blame if a new connection breaks. To tell the
//! two cases apart, a layer around the connector records each new connection, and the first
//! response or error on a connection removes its record.
//!
//! The record contains the time that it took to establish the connection. This time belongs to the
//! first request on the connection.

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
    /// The DNS lookup time of the connection that the current task establishes. The resolver writes
    /// this value and the connector reads it. The HTTP client calls the resolver from within the
    /// connector and offers no other way to pass the value.
    static LOOKUP_TIME: Cell<Option<Duration>>;
}

/// The time to establish a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTiming {
    /// The duration of the DNS lookup. `None` if the URL has an IP address instead of a name.
    pub dns: Option<Duration>,
    /// The time from the end of the lookup until the connection can be used: TCP, and TLS if the
    /// URL requires it.
    pub connect: Duration,
}

/// Resolves host names with the resolver of the system.
///
/// Each new connection causes a lookup, because a name can get another address while the daemon
/// runs. The system can cache addresses. llmload does not cache them.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let start = Instant::now();
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // This fails if the resolver is not called by a connector. In that case, the time is
            // not needed.
            let _no_scope = LOOKUP_TIME.try_with(|time| time.set(Some(start.elapsed())));
            Ok(Box::new(addresses.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// The local and the remote address of a connection.
type AddressPair = (SocketAddr, SocketAddr);

/// The connections of one client on which no response has arrived yet.
///
/// The map cannot grow without limit, because the number of local ports is limited. A new
/// connection from the same port to the same address replaces the old entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    fresh: Arc<Mutex<HashMap<AddressPair, ConnectTiming>>>,
}

impl Connections {
    /// Returns the layer to put around the connector.
    pub(super) fn layer(&self) -> TrackConnectionsLayer {
        TrackConnectionsLayer { connections: self.clone() }
    }

    /// Removes the record of the connection on which a response arrived. Returns the time to
    /// establish the connection if this is the first response on it.
    pub(super) fn take_timing(&self, extensions: &Extensions) -> Option<ConnectTiming> {
        self.take(address_pair(extensions)?)
    }

    /// Returns true if a response had arrived on the connection before an error ended it.
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

/// A connector that measures the time to establish each connection and records the connection.
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
