//! Which connections have answered before.
//!
//! A server may close a kept-alive connection at the very moment a request is put on it. That is
//! a race that nobody is to blame for, but only if the connection was an old one; so each new one
//! is noted when it is made and struck off with its first answer or error. With it goes how long it
//! took to make: it counts once, for the request that was first answered on it.

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
    /// How long the name took of the connection that is being made.
    static NAMED: Cell<Option<Duration>>;
}

/// How long a connection took to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connecting {
    /// To find the addresses of its name; `None` where an address stood in its place.
    pub dns: Option<Duration>,
    /// What came then: TCP, and TLS where there is some.
    pub connect: Duration,
}

/// Asks the system for the addresses of a name, each time a connection is made: what a name means may
/// change while the daemon runs. Nothing is kept here; how long an answer holds is the system's to know.
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let asked = Instant::now();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // Outside of a connection nobody asks.
            let _nobody = NAMED.try_with(|named| named.set(Some(asked.elapsed())));
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}

/// A connection's own and its peer's address.
type Ends = (SocketAddr, SocketAddr);

/// The connections of one client that have not carried anything yet. Bounded by the number of
/// local ports: a port that is taken again is the same entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    fresh: Arc<Mutex<HashMap<Ends, Connecting>>>,
}

impl Connections {
    /// To be put around the connector.
    pub(super) fn layer(&self) -> NoteLayer {
        NoteLayer { connections: self.clone() }
    }

    /// A response came over a connection with these extensions; where it is the first, how long that
    /// took to make.
    pub(super) fn used(&self, extensions: &Extensions) -> Option<Connecting> {
        self.take(ends(extensions)?)
    }

    /// Whether this connection had been used before an error struck it.
    pub(super) fn was_reused(&self, connected: &Connected) -> bool {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        ends(&extensions).is_some_and(|ends| self.take(ends).is_none())
    }

    fn take(&self, ends: Ends) -> Option<Connecting> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).remove(&ends)
    }
}

fn ends(extensions: &Extensions) -> Option<Ends> {
    extensions.get::<HttpInfo>().map(|info| (info.local_addr(), info.remote_addr()))
}

#[derive(Clone, Debug)]
pub(super) struct NoteLayer {
    connections: Connections,
}

impl<S> Layer<S> for NoteLayer {
    type Service = Note<S>;

    fn layer(&self, connector: S) -> Note<S> {
        Note { connector, connections: self.connections.clone() }
    }
}

/// A connector that notes the connections it makes.
#[derive(Clone, Debug)]
pub(super) struct Note<S> {
    connector: S,
    connections: Connections,
}

impl<S, R> Service<R> for Note<S>
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
        Box::pin(NAMED.scope(Cell::new(None), async move {
            let began = Instant::now();
            let connection = connecting.await?;
            let dns = NAMED.with(Cell::get);
            let connect = began.elapsed().saturating_sub(dns.unwrap_or_default());
            let mut extensions = Extensions::new();
            connection.connected().get_extras(&mut extensions);
            if let Some(ends) = ends(&extensions) {
                let mut fresh = connections.fresh.lock().unwrap_or_else(PoisonError::into_inner);
                fresh.insert(ends, Connecting { dns, connect });
            }
            Ok(connection)
        }))
    }
}
