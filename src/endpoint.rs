//! The HTTP client of one target. Only this module uses `reqwest`.
//!
//! The client sends each request exactly as it is configured. It uses no proxy from the
//! environment, follows no redirect, retries no failed request, decompresses no response and sends
//! no referer. Each of these features would send or measure something that is not in the schedule.
//! A redirect would also send the key to another server. There is one exception: llmload sends a
//! request once more if the server has not worked on it, see `resend`.

mod body;
mod client;
mod connections;
mod credentials;
mod faults;
mod http2;
mod metrics_page;
mod redaction;
mod resend;
mod resolver;
mod response;
mod version;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, SERVER};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use crate::deadline;
use crate::measurement::FailureDetail;
use crate::plan::Target;
use crate::protocol::{RateLimits, Trace};
use client::ClientBuilder;
pub use connections::ConnectTiming;
use connections::Connections;
use faults::SendFailure;
use http2::{Establishing, Http2Connections, Stream, Wait};
pub use metrics_page::MetricsPage;
use redaction::Redaction;
use reqwest::{Body, Method};
use resend::Attempt;
pub use response::HttpResponse;

/// The longest response about the endpoint itself (its models or its version), in bytes.
const MAX_METADATA: usize = 1 << 20;

/// An endpoint to send requests to. [`HttpEndpoint`] sends requests over HTTP. Tests that pause the
/// clock use an endpoint in memory, because real sockets do not stop with the clock.
pub trait Endpoint: Send + Sync + 'static {
    type Response: Response;

    /// Sends one request and waits for the response head. Calls `report` for each step.
    fn send(
        &self,
        request: Request,
        report: impl FnMut(SendStep) + Send,
    ) -> impl Future<Output = Result<Self::Response, FailureDetail>> + Send;

    /// Masks the endpoint's secrets in a text that the server sent, because servers quote requests.
    /// The default implementation is for an endpoint without secrets.
    fn redact(&self, text: String) -> String {
        text
    }
}

/// A step of the sending of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStep {
    /// The HTTP client sends the request, or opens a connection for it.
    Begun {
        /// The time in which the request waited inside llmload for a free HTTP/2 stream.
        waited: Duration,
    },
    /// The request waits inside llmload, because no HTTP/2 stream is free.
    Queued,
    /// The server has not worked on the request, so llmload sends it once more.
    Retried,
}

/// A response whose body is not read yet.
pub trait Response: Send {
    /// The HTTP status.
    fn status(&self) -> u16;

    /// The `content-type` header, if it is valid text.
    fn content_type(&self) -> Option<&str>;

    /// The first encoding of the body, from `content-encoding` or `transfer-encoding`. `None` means
    /// that the body is not encoded.
    fn content_encoding(&self) -> Option<&str>;

    /// The time to establish the connection, if this is the first response on it.
    fn connect_timing(&self) -> Option<ConnectTiming> {
        None
    }

    /// The rate limits that the response headers report.
    fn rate_limits(&self) -> Option<RateLimits> {
        None
    }

    /// All headers, for the archive of failures.
    fn headers(&self) -> Option<&HeaderMap> {
        None
    }

    /// The identifier that the endpoint gave to the request.
    fn request_id(&self) -> Option<String> {
        None
    }

    /// Reads the next bytes of the body. Returns `None` when the body has ended cleanly.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, FailureDetail>> + Send;
}

/// An HTTP request to an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The path below the base URL, such as `chat/completions`.
    pub path: &'static str,
    /// The JSON body.
    pub body: Bytes,
    /// True if llmload requests an event stream.
    pub stream: bool,
    /// The trace context that is sent in a header.
    pub trace: Option<Trace>,
}

/// An error while building a client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A header value contains characters that HTTP does not allow. The message does not contain
    /// the value, because the value can be a secret.
    #[error(
        "target {target}: the value for `{header}` contains characters that are not allowed in a header"
    )]
    Header { target: String, header: String },
    /// TLS or the proxy could not be set up.
    #[error("target {target}: the HTTP client could not be built: {source}")]
    Client { target: String, source: reqwest::Error },
}

/// A pooled HTTP client with a target's address, credentials and headers.
#[derive(Debug)]
pub struct HttpEndpoint {
    client: reqwest::Client,
    /// The connections for requests to the model, if several requests share a connection.
    http2: Option<Http2Connections>,
    clients: Arc<ClientBuilder>,
    /// Opens a new connection for each request. Several idle connections can end together, so
    /// llmload does not send a request once more on another idle connection.
    fresh: reqwest::Client,
    base: Url,
    /// The query of every request. It is not part of `base`, because llmload displays the base URL,
    /// and the query can contain a key.
    query: Option<SecretString>,
    headers: HeaderMap,
    connections: Connections,
    redaction: Redaction,
    /// The simulator that receives the requests, if it runs in this process. The simulator runs
    /// until its last client is dropped.
    host: Option<Arc<dyn Debug + Send + Sync>>,
}

impl HttpEndpoint {
    /// Creates a client for a target at this base URL.
    ///
    /// # Errors
    /// A header value is not allowed in HTTP, or TLS or the proxy cannot be set up.
    pub fn new(target: &Target, base: &Url) -> Result<HttpEndpoint, BuildError> {
        HttpEndpoint::with_ping(target, base, client::PING)
    }

    /// As [`HttpEndpoint::new`], with another time for the pings of an HTTP/2 connection. llmload
    /// sends a ping after this time without a frame, and the server has the same time to
    /// acknowledge it.
    ///
    /// # Errors
    /// As [`HttpEndpoint::new`].
    pub fn with_ping(
        target: &Target,
        base: &Url,
        ping: Duration,
    ) -> Result<HttpEndpoint, BuildError> {
        let keep_alive = target.connection.keep_alive;
        let lifetime = target.timeouts.total.saturating_add(keep_alive.unwrap_or_default());
        let connections = Connections::new(lifetime);
        let proxy = credentials::proxy_authorization(target)?;
        let clients = Arc::new(ClientBuilder {
            target: target.clone(),
            base: base.clone(),
            connections: connections.clone(),
            proxy_authorization: proxy,
            ping,
        });
        let shares = target.connection.http2 && keep_alive.is_some();
        let establishing = shares.then(Establishing::default);
        let build = |keep_alive, establishing| {
            clients
                .build(keep_alive, establishing)
                .map_err(|source| BuildError::Client { target: target.name.clone(), source })
        };
        let (client, fresh) = (build(keep_alive, establishing.clone())?, build(None, None)?);
        let http2 = establishing.map(|first| Http2Connections::new(client.clone(), first));
        let (base, query, headers) =
            (base.clone(), credentials::query(target), credentials::headers(target)?);
        let redaction = credentials::redaction(target);
        Ok(HttpEndpoint {
            client,
            http2,
            clients,
            fresh,
            base,
            query,
            headers,
            connections,
            redaction,
            host: None,
        })
    }

    /// Keeps a server in this process alive until this client is dropped.
    #[must_use]
    pub fn served_by<H: Debug + Send + Sync + 'static>(
        mut self,
        host: Option<Arc<H>>,
    ) -> HttpEndpoint {
        self.host = host.map(|host| host as Arc<dyn Debug + Send + Sync>);
        self
    }

    /// The base URL without its query.
    pub fn address(&self) -> &str {
        self.base.as_str()
    }

    /// Requests the list of models. Returns the status and the names of the models. If the response
    /// is not a list of models, there are no names.
    ///
    /// # Errors
    /// No response arrived within `timeout`.
    pub async fn models(&self, timeout: Duration) -> Result<(u16, Vec<String>), FailureDetail> {
        let page = self.get(self.url("models"), timeout).await?;
        let names = model_names(&page.body).into_iter().map(|name| self.redaction.apply(name));
        Ok((page.status, names.collect()))
    }

    /// Requests the version of the server. Servers report their version on a page or in the header
    /// `server`. Returns `None` if the server reports no version.
    ///
    /// # Errors
    /// No response arrived within `timeout`.
    pub async fn version(&self, timeout: Duration) -> Result<Option<String>, FailureDetail> {
        let mut server = None;
        for path in version::PATHS {
            let page = self.get(version::url(&self.base, path), timeout).await?;
            let version = if page.status == 200 { version::parse(&page.body) } else { None };
            if let Some(version) = version {
                return Ok(Some(version::to_label(&self.redaction.apply(version))));
            }
            server = page.server;
        }
        let server = server.filter(|server| version::has_version(server));
        Ok(server.map(|server| version::to_label(&self.redaction.apply(server))))
    }

    /// Fetches a page about the endpoint itself. Reads about [`MAX_METADATA`] bytes at most.
    async fn get(&self, url: Url, timeout: Duration) -> Result<Page, FailureDetail> {
        let fetch = async {
            let send = async |client: &reqwest::Client| {
                let request = self.request(client, Method::GET, url.clone());
                Attempt::new(&self.connections).send_without_body(request).await
            };
            let result = match send(&self.client).await {
                Err(SendFailure { resend: Some(_), .. }) => send(&self.fresh).await,
                result => result,
            };
            let mut response = result.map_err(|failure| failure.detail)?;
            self.connections.respond(response.extensions());
            let status = response.status().as_u16();
            let server = response
                .headers()
                .get(SERVER)
                .and_then(|server| server.to_str().ok())
                .map(str::to_owned);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| faults::body_failure(&e))? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_METADATA {
                    break;
                }
            }
            Ok(Page { status, server, body })
        };
        let page = deadline::within(timeout, fetch).await;
        let page = page.unwrap_or_else(|| Err(faults::no_response(timeout)));
        page.map_err(|detail| {
            let message = self.redaction.apply(detail.message.clone());
            detail.with_message(&message)
        })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn request(
        &self,
        client: &reqwest::Client,
        method: Method,
        mut url: Url,
    ) -> reqwest::RequestBuilder {
        url.set_query(self.query.as_ref().map(ExposeSecret::expose_secret));
        client.request(method, url).headers(self.headers.clone())
    }

    /// Builds a request for a response of the model, without its body.
    fn completion(&self, client: &reqwest::Client, request: &Request) -> reqwest::RequestBuilder {
        let accept = if request.stream { "text/event-stream" } else { "application/json" };
        let builder = self
            .request(client, Method::POST, self.url(request.path))
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json");
        match request.trace {
            Some(trace) => builder.header(Trace::HEADER, trace.to_string()),
            None => builder,
        }
    }

    /// Sends a request on a connection with a free stream. If the connection turns out to be full,
    /// llmload takes the request back and uses another connection.
    async fn send_on_stream(
        &self,
        http2: &Http2Connections,
        request: &Request,
        report: &mut (impl FnMut(SendStep) + Send),
    ) -> (Result<reqwest::Response, SendFailure>, Option<Stream>) {
        let mut waited = Duration::ZERO;
        loop {
            let (stream, begin) = (http2.stream(request.body.len()), Instant::now());
            let client = match stream.client(&self.clients).await {
                Ok(client) => client,
                Err(failure) => return (Err(failure), None),
            };
            waited += begin.elapsed();
            let attempt = Attempt::new(&self.connections);
            let body = attempt.body(request.body.clone()).opening(stream.opener());
            let sending = self.completion(client, request).body(Body::wrap(body));
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

/// A response about the endpoint itself: its models or its version.
struct Page {
    status: u16,
    /// The value of the header `server`.
    server: Option<String>,
    body: Vec<u8>,
}

impl Endpoint for HttpEndpoint {
    type Response = HttpResponse;

    async fn send(
        &self,
        request: Request,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<HttpResponse, FailureDetail> {
        let (result, stream) = if let Some(http2) = &self.http2 {
            self.send_on_stream(http2, &request, &mut report).await
        } else {
            report(SendStep::Begun { waited: Duration::ZERO });
            let attempt = Attempt::new(&self.connections);
            let body = attempt.body(request.body.clone());
            let sending = self.completion(&self.client, &request).body(Body::wrap(body));
            (attempt.send(sending).await, None)
        };
        let result = match result {
            Err(SendFailure { resend: Some(round_trip), .. }) => {
                report(SendStep::Retried);
                let attempt = Attempt::new(&self.connections);
                let body = attempt.body(request.body.clone()).cautious(round_trip);
                let sending = self.completion(&self.fresh, &request);
                attempt.send(sending.body(Body::wrap(body))).await
            }
            result => result,
        };
        let response = result.map_err(|failure| failure.detail)?;
        if let Some(stream) = &stream {
            stream.record_response();
        }
        let connect_timing = self.connections.respond(response.extensions());
        Ok(HttpResponse::new(response, connect_timing, stream))
    }

    fn redact(&self, text: String) -> String {
        self.redaction.apply(text)
    }
}

/// Returns the names in a list of models. The list has the format of OpenAI, with the name in `id`.
fn model_names(body: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(serde::Deserialize)]
    struct Model {
        id: String,
    }
    serde_json::from_slice::<List>(body)
        .map(|list| list.data.into_iter().map(|model| model.id).collect())
        .unwrap_or_default()
}
