//! The HTTP client of one target. Only this module uses an HTTP library.
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
pub mod http1;
mod http2;
mod library;
mod metrics_page;
mod redaction;
mod resend;
mod resolver;
mod response;
mod tls;
mod turn;
mod version;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use secrecy::{ExposeSecret, SecretString};
use url::{Position, Url};

use crate::deadline;
use crate::measurement::FailureDetail;
use crate::plan::{self, Target};
use crate::protocol::{RateLimits, Trace};
use client::ClientBuilder;
pub use connections::ConnectTiming;
use connections::Connections;
pub use credentials::basic_authorization;
pub use faults::tls_fault_of;
use http1::{Http1Client, Http1Request, RequestHead};
use library::{LibraryClient, LibraryRequest};
pub use metrics_page::MetricsPage;
use redaction::Redaction;
pub use response::HttpResponse;
use response::Received;
pub use tls::begin_tls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
        /// The time in which the request waited inside llmload for a free HTTP/2 stream, or for the
        /// connecting of other requests.
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

    /// The names and the values of all headers, for the archive of failures.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
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
    /// The header with the id of the session.
    pub session: Option<(HeaderName, HeaderValue)>,
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
    #[error("target {target}: the HTTP client could not be built: {cause}")]
    Client { target: String, cause: Box<dyn std::error::Error + Send + Sync> },
}

/// A pooled HTTP client with a target's address, credentials and headers.
#[derive(Debug)]
pub struct HttpEndpoint {
    client: Client,
    base: Url,
    /// The value of the header `host`.
    host_header: String,
    /// The query of every request. It is not part of `base`, because llmload displays the base URL,
    /// and the query can contain a key.
    query: Option<SecretString>,
    headers: HeaderMap,
    redaction: Redaction,
    /// The simulator that receives the requests, if it runs in this process. The simulator runs
    /// until its last client is dropped.
    host: Option<Arc<dyn Debug + Send + Sync>>,
}

#[derive(Debug)]
enum Client {
    Http1(Http1Client),
    /// For HTTP/2 and proxies.
    Library(LibraryClient),
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
        let headers = credentials::headers(target)?;
        let options = &target.connection;
        let client = if options.http2 || options.proxy.is_some() {
            let lifetime =
                target.timeouts.total.saturating_add(options.keep_alive.unwrap_or_default());
            let library = LibraryClient::new(ClientBuilder {
                target: target.clone(),
                base: base.clone(),
                connections: Connections::new(lifetime),
                proxy_authorization: credentials::proxy_authorization(target)?,
                ping,
            });
            library.map(Client::Library)
        } else {
            http1_client(target, base).map(Client::Http1)
        };
        let client =
            client.map_err(|cause| BuildError::Client { target: target.name.clone(), cause })?;
        Ok(HttpEndpoint {
            client,
            base: base.clone(),
            host_header: match plan::unix_socket(base) {
                // A unix socket has no name. curl sends the name of its URL, which is usually this.
                Some(_) => "localhost".to_owned(),
                None => base[Position::BeforeHost..Position::AfterPort].to_owned(),
            },
            query: credentials::query(target),
            headers,
            redaction: credentials::redaction(target),
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
            let accept = HeaderValue::from_static("*/*");
            let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
            let response = match &self.client {
                Client::Http1(client) => {
                    let request = self.http1_request("GET", url, &headers, None);
                    Received::Http1(client.send(&request, |_| ()).await?)
                }
                Client::Library(client) => {
                    let request = self.library_request(Method::GET, url, &headers, None);
                    Received::Library(client.get(&request).await?)
                }
            };
            let mut response = HttpResponse::new(response);
            let (status, server) = (response.status(), response.header(SERVER.as_str()));
            let server = server.map(str::to_owned);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
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

    /// Sets the query of every request, which can contain a key.
    fn set_query(&self, url: &mut Url) {
        url.set_query(self.query.as_ref().map(ExposeSecret::expose_secret));
    }

    fn http1_request(
        &self,
        method: &'static str,
        mut url: Url,
        headers: &HeaderMap,
        body: Option<Bytes>,
    ) -> Http1Request {
        self.set_query(&mut url);
        let head = RequestHead {
            method,
            path: &url[Position::BeforePath..Position::AfterQuery],
            host: &self.host_header,
            target: &self.headers,
            request: headers,
        };
        Http1Request::new(head, body)
    }

    fn library_request(
        &self,
        method: Method,
        mut url: Url,
        headers: &HeaderMap,
        body: Option<Bytes>,
    ) -> LibraryRequest {
        self.set_query(&mut url);
        let mut all = self.headers.clone();
        all.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        LibraryRequest { method, url, headers: all, body }
    }
}

fn http1_client(target: &Target, base: &Url) -> Result<Http1Client, BoxError> {
    let options = &target.connection;
    let tls = (base.scheme() == "https").then(|| tls::client_config(options, &["http/1.1"]));
    Http1Client::new(base, tls.transpose()?, target.timeouts.connect, options.keep_alive)
}

/// Returns the headers of a request for a response of the model.
fn completion_headers(request: &Request) -> HeaderMap {
    let accept = if request.stream { "text/event-stream" } else { "application/json" };
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let trace = request.trace.and_then(|trace| trace.to_string().try_into().ok());
    if let Some(trace) = trace {
        headers.insert(Trace::HEADER, trace);
    }
    if let Some((name, id)) = &request.session {
        headers.insert(name.clone(), id.clone());
    }
    headers
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
        report: impl FnMut(SendStep) + Send,
    ) -> Result<HttpResponse, FailureDetail> {
        let (url, headers) = (self.url(request.path), completion_headers(&request));
        let body = Some(request.body);
        let received = match &self.client {
            Client::Http1(client) => {
                let request = self.http1_request("POST", url, &headers, body);
                Received::Http1(client.send(&request, report).await?)
            }
            Client::Library(client) => {
                let request = self.library_request(Method::POST, url, &headers, body);
                Received::Library(client.send(&request, report).await?)
            }
        };
        Ok(HttpResponse::new(received))
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
