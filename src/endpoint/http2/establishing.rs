//! Observes when an HTTP client establishes a connection, and which version of HTTP it uses.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::Connection;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::lock;

/// The state of the connecting of one HTTP client. It is a layer around the connector.
#[derive(Clone, Debug, Default)]
pub(in crate::endpoint) struct Establishing(Arc<EstablishingState>);

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
pub(super) enum Established {
    Http1,
    /// The instant at which the connection was established.
    Http2(Instant),
}

impl Establishing {
    /// Records that the client uses HTTP/2 without negotiation.
    pub(in crate::endpoint) fn set_prior_knowledge(&self) {
        self.0.prior_knowledge.store(true, Ordering::Relaxed);
    }

    /// Returns the last connection. Returns `None` while a connection is being established.
    pub(super) fn connection(&self) -> Option<Established> {
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
pub(in crate::endpoint) struct ObservedConnector<S> {
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
