//! Which connections have answered before.
//!
//! A server may close a kept-alive connection at the very moment a request is put on it. That is
//! a race that nobody is to blame for, but only if the connection was an old one; so each new one
//! is noted when it is made and struck off with its first answer or error.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::Extensions;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use tower_layer::Layer;
use tower_service::Service;

/// A connection's own and its peer's address.
type Ends = (SocketAddr, SocketAddr);

/// The connections of one client that have not carried anything yet. Bounded by the number of
/// local ports: a port that is taken again is the same entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    fresh: Arc<Mutex<HashSet<Ends>>>,
}

impl Connections {
    /// To be put around the connector.
    pub(super) fn layer(&self) -> NoteLayer {
        NoteLayer { connections: self.clone() }
    }

    /// A response came over a connection with these extensions.
    pub(super) fn used(&self, extensions: &Extensions) {
        if let Some(ends) = ends(extensions) {
            self.take(ends);
        }
    }

    /// Whether this connection had been used before an error struck it.
    pub(super) fn was_used(&self, connected: &Connected) -> bool {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        ends(&extensions).is_some_and(|ends| !self.take(ends))
    }

    fn take(&self, ends: Ends) -> bool {
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
        Box::pin(async move {
            let connection = connecting.await?;
            let mut extensions = Extensions::new();
            connection.connected().get_extras(&mut extensions);
            if let Some(ends) = ends(&extensions) {
                connections.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(ends);
            }
            Ok(connection)
        })
    }
}
