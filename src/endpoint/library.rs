//! The client for HTTP/2 and for proxies. It uses an HTTP library, `reqwest`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Body;
use tokio::time::Instant;
use url::Url;

use super::client::ClientBuilder;
use super::connections::Connections;
use super::faults::SendFailure;
use super::http2::{Establishing, Http2Connections, Stream, Wait};
use super::resend::Attempt;
use super::{BoxError, ConnectTiming, SendStep};
use crate::measurement::FailureDetail;

/// The clients of the HTTP library for one target.
#[derive(Debug)]
pub(super) struct LibraryClient {
    client: reqwest::Client,
    /// The connections for requests to the model, if several requests share a connection.
    http2: Option<Http2Connections>,
    clients: Arc<ClientBuilder>,
    /// Opens a new connection for each request. Several idle connections can end together, so
    /// llmload does not send a request once more on another idle connection.
    fresh: reqwest::Client,
    connections: Connections,
}

/// A request for the HTTP library.
#[derive(Debug)]
pub(super) struct LibraryRequest {
    pub(super) method: http::Method,
    /// The URL with its query, which can contain a key.
    pub(super) url: Url,
    pub(super) headers: http::HeaderMap,
    /// `None` for a request without a body.
    pub(super) body: Option<Bytes>,
}

/// A response whose body is not read yet.
pub(super) struct LibraryResponse {
    pub(super) response: reqwest::Response,
    pub(super) connect_timing: Option<ConnectTiming>,
    /// The HTTP/2 stream, which is in use until the response is dropped.
    _stream: Option<Stream>,
}

impl LibraryClient {
    /// # Errors
    /// TLS or the proxy cannot be set up.
    pub(super) fn new(clients: ClientBuilder) -> Result<LibraryClient, BoxError> {
        let options = &clients.target.connection;
        let shares = options.http2 && options.keep_alive.is_some();
        let establishing = shares.then(Establishing::default);
        let client = clients.build(options.keep_alive, establishing.clone())?;
        let fresh = clients.build(None, None)?;
        let http2 = establishing.map(|first| Http2Connections::new(client.clone(), first));
        let connections = clients.connections.clone();
        Ok(LibraryClient { client, http2, clients: Arc::new(clients), fresh, connections })
    }

    /// Sends a request to the model. Calls `report` for each step.
    ///
    /// # Errors
    /// No response head arrived.
    pub(super) async fn send(
        &self,
        request: &LibraryRequest,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<LibraryResponse, FailureDetail> {
        let (result, stream) = if let Some(http2) = &self.http2 {
            self.send_on_stream(http2, request, &mut report).await
        } else {
            report(SendStep::Begun { waited: Duration::ZERO });
            (self.send_once(&self.client, request, None).await, None)
        };
        let result = match result {
            Err(SendFailure { resend: Some(round_trip), .. }) => {
                report(SendStep::Retried);
                self.send_once(&self.fresh, request, Some(round_trip)).await
            }
            result => result,
        };
        let response = result.map_err(|failure| failure.detail)?;
        if let Some(stream) = &stream {
            stream.record_response();
        }
        Ok(self.respond(response, stream))
    }

    /// Sends a request about the endpoint itself.
    ///
    /// # Errors
    /// No response head arrived.
    pub(super) async fn get(
        &self,
        request: &LibraryRequest,
    ) -> Result<LibraryResponse, FailureDetail> {
        let result = match self.send_once(&self.client, request, None).await {
            Err(SendFailure { resend: Some(_), .. }) => {
                self.send_once(&self.fresh, request, None).await
            }
            result => result,
        };
        let response = result.map_err(|failure| failure.detail)?;
        Ok(self.respond(response, None))
    }

    fn respond(&self, response: reqwest::Response, stream: Option<Stream>) -> LibraryResponse {
        let connect_timing = self.connections.respond(response.extensions());
        LibraryResponse { response, connect_timing, _stream: stream }
    }

    /// `caution` is the time that a large body waits for an early response.
    async fn send_once(
        &self,
        client: &reqwest::Client,
        request: &LibraryRequest,
        caution: Option<Duration>,
    ) -> Result<reqwest::Response, SendFailure> {
        let attempt = Attempt::new(&self.connections);
        let builder = request.without_body(client);
        let Some(bytes) = &request.body else {
            return attempt.send_without_body(builder).await;
        };
        let body = attempt.body(bytes.clone());
        let body = match caution {
            Some(time) => body.cautious(time),
            None => body,
        };
        attempt.send(builder.body(Body::wrap(body))).await
    }

    /// Sends a request on a connection with a free stream. If the connection turns out to be full,
    /// llmload takes the request back and uses another connection.
    async fn send_on_stream(
        &self,
        http2: &Http2Connections,
        request: &LibraryRequest,
        report: &mut (impl FnMut(SendStep) + Send),
    ) -> (Result<reqwest::Response, SendFailure>, Option<Stream>) {
        let mut waited = Duration::ZERO;
        loop {
            let bytes = request.body.clone().unwrap_or_default();
            let (stream, begin) = (http2.stream(bytes.len()), Instant::now());
            let client = match stream.client(&self.clients).await {
                Ok(client) => client,
                Err(failure) => return (Err(failure), None),
            };
            waited += begin.elapsed();
            let attempt = Attempt::new(&self.connections);
            let body = attempt.body(bytes).opening(stream.opener());
            let sending = request.without_body(client).body(Body::wrap(body));
            let mut sending = Box::pin(attempt.send(sending));
            let wait = tokio::select! {
                biased;
                wait = stream.wait(Instant::now(), || report(SendStep::Queued)) => wait,
                result = &mut sending => {
                    report(SendStep::Begun { waited });
                    drop(sending);
                    return (result, Some(stream));
                }
            };
            match wait {
                Wait::Opened(time) => {
                    report(SendStep::Begun { waited: waited + time });
                    let result = sending.await;
                    return (result, Some(stream));
                }
                Wait::Withdrawn(time) => waited += time,
            }
        }
    }
}

impl LibraryRequest {
    fn without_body(&self, client: &reqwest::Client) -> reqwest::RequestBuilder {
        client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone())
    }
}
