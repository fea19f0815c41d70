//! The HTTP client of one target. The one home of `reqwest`.
//!
//! It does what it is told and nothing else: no proxy from the environment, no redirect, no retry,
//! no decompression, no referer. Every one of those would send or measure something that nobody
//! scheduled, and a redirect would carry the key to a stranger.

mod client;
mod connections;
mod faults;
mod redaction;
mod version;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    SERVER,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::measurement::FailureDetail;
use crate::plan::{Auth, Target};
use crate::protocol::{RateLimits, Trace, headers};
pub use connections::Connecting;
use connections::Connections;
use redaction::Redaction;

/// The most that is read of an answer to a question about the endpoint itself.
const ABOUT_ITSELF: usize = 1 << 20;

/// Something that answers requests. Real ones speak HTTP; tests of the loop on a paused clock
/// answer from memory, since sockets do not know about paused time.
pub trait Endpoint: Send + Sync + 'static {
    /// The type of a response.
    type Response: Response;

    /// Sends one request and waits for the response head.
    fn send(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Self::Response, FailureDetail>> + Send;

    /// Words from over there fit to be shown: whatever this endpoint was told to keep secret is masked,
    /// be it the server that quoted it. An endpoint without secrets has nothing to do.
    fn redact(&self, words: String) -> String {
        words
    }
}

/// A response whose body is still to come.
pub trait Response: Send {
    /// The HTTP status.
    fn status(&self) -> u16;

    /// The `content-type` header, where there is a readable one.
    fn content_type(&self) -> Option<&str>;

    /// The `content-encoding` of the body, where there is one; `identity` is none.
    fn content_encoding(&self) -> Option<&str>;

    /// How long it took to make the connection, where this is the first answer on it.
    fn connected(&self) -> Option<Connecting> {
        None
    }

    /// What the endpoint says of its limits.
    fn rate_limits(&self) -> Option<RateLimits> {
        None
    }

    /// By which name the endpoint knows the request.
    fn request_id(&self) -> Option<String> {
        None
    }

    /// The bytes of one read; `None` after a clean end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, FailureDetail>> + Send;
}

/// A request as the wire sees it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Under the base URL, such as `chat/completions`.
    pub path: &'static str,
    /// The JSON body.
    pub body: Bytes,
    /// Whether an event stream is asked for.
    pub stream: bool,
    /// By which name the traces of others shall know it.
    pub trace: Option<Trace>,
}

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A header value that HTTP does not allow. The value itself is not told: it may be a secret.
    #[error("target {target}: the value for `{header}` has characters that a header cannot carry")]
    Header {
        /// The target.
        target: String,
        /// The header's name.
        header: String,
    },
    /// The set-up of TLS or of the proxy failed.
    #[error("target {target}: the HTTP client could not be built: {source}")]
    Client {
        /// The target.
        target: String,
        /// The cause.
        source: reqwest::Error,
    },
}

/// A pooled HTTP client with a target's address, credentials and headers.
#[derive(Debug)]
pub struct HttpEndpoint {
    client: reqwest::Client,
    base: Url,
    /// Beside the address and not in it: an address is shown.
    query: Option<SecretString>,
    headers: HeaderMap,
    connections: Connections,
    redaction: Redaction,
    /// Whoever answers at that address within this process.
    host: Option<Arc<dyn Debug + Send + Sync>>,
}

impl HttpEndpoint {
    /// A client for a target at this address.
    ///
    /// # Errors
    /// If a header value is not allowed in HTTP or the set-up of TLS fails.
    pub fn new(target: &Target, base: &Url) -> Result<HttpEndpoint, BuildError> {
        let seen = Connections::default();
        let client = client::build(target, base, &seen)
            .map_err(|source| BuildError::Client { target: target.name.clone(), source })?;
        let (base, query, headers) = (base.clone(), query(target), headers(target)?);
        let redaction = redaction(target);
        Ok(HttpEndpoint { client, base, query, headers, connections: seen, redaction, host: None })
    }

    /// This client of somebody within this process, who is held on to as long as it may send.
    #[must_use]
    pub fn served_by<H: Debug + Send + Sync + 'static>(
        mut self,
        host: Option<Arc<H>>,
    ) -> HttpEndpoint {
        self.host = host.map(|host| host as Arc<dyn Debug + Send + Sync>);
        self
    }

    /// The base URL, without its query.
    pub fn address(&self) -> &str {
        self.base.as_str()
    }

    /// Asks for the list of models: its status, and the names if there is a list.
    ///
    /// # Errors
    /// If there was no answer within `patience`.
    pub async fn models(&self, patience: Duration) -> Result<(u16, Vec<String>), FailureDetail> {
        let said = self.get(self.url("models"), patience).await?;
        let names = model_names(&said.body).into_iter().map(|name| self.redaction.text(name));
        Ok((said.status, names.collect()))
    }

    /// The version of the server, in its own words; `None` where it does not tell.
    ///
    /// # Errors
    /// If there was no answer within `patience`.
    pub async fn version(&self, patience: Duration) -> Result<Option<String>, FailureDetail> {
        let mut server = None;
        for path in version::PATHS {
            let said = self.get(version::url(&self.base, path), patience).await?;
            let version = Some(said.body)
                .filter(|_| said.status == 200)
                .and_then(|body| version::read(&body));
            if let Some(version) = version {
                return Ok(Some(version::label(&self.redaction.text(version))));
            }
            server = said.server;
        }
        let server = server.filter(|server| version::tells_one(server));
        Ok(server.map(|server| version::label(&self.redaction.text(server))))
    }

    /// Asks for something about the endpoint itself.
    async fn get(&self, url: Url, patience: Duration) -> Result<Said, FailureDetail> {
        let ask = async {
            let response = self.request(reqwest::Method::GET, url).send().await;
            let mut response = response.map_err(|e| faults::send_failure(&self.connections, e))?;
            self.connections.used(response.extensions());
            let status = response.status().as_u16();
            let server = response
                .headers()
                .get(SERVER)
                .and_then(|server| server.to_str().ok())
                .map(str::to_owned);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| faults::body_failure(&e))? {
                body.extend_from_slice(&chunk);
                if body.len() > ABOUT_ITSELF {
                    break;
                }
            }
            Ok(Said { status, server, body })
        };
        let said = match tokio::time::timeout(patience, ask).await {
            Ok(said) => said,
            Err(_) => Err(faults::no_response(patience)),
        };
        said.map_err(|detail| {
            let message = self.redaction.text(detail.message.clone());
            detail.with_message(&message)
        })
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn request(&self, method: reqwest::Method, mut url: Url) -> reqwest::RequestBuilder {
        url.set_query(self.query.as_ref().map(ExposeSecret::expose_secret));
        self.client.request(method, url).headers(self.headers.clone())
    }
}

/// What an endpoint says about itself.
struct Said {
    status: u16,
    /// The header `server`.
    server: Option<String>,
    body: Vec<u8>,
}

impl Endpoint for HttpEndpoint {
    type Response = HttpResponse;

    async fn send(&self, request: Request) -> Result<HttpResponse, FailureDetail> {
        let accept = if request.stream { "text/event-stream" } else { "application/json" };
        let sending = self
            .request(reqwest::Method::POST, self.url(request.path))
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(request.body);
        let sending = match request.trace {
            Some(trace) => sending.header(Trace::HEADER, trace.to_string()),
            None => sending,
        };
        match sending.send().await {
            Ok(response) => {
                let connected = self.connections.used(response.extensions());
                Ok(HttpResponse { response, connected })
            }
            Err(error) => Err(faults::send_failure(&self.connections, error)),
        }
    }

    fn redact(&self, words: String) -> String {
        self.redaction.text(words)
    }
}

/// An HTTP response whose body is still to come.
pub struct HttpResponse {
    response: reqwest::Response,
    connected: Option<Connecting>,
}

impl HttpResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

/// The status only: the response holds the address with its query, and headers that may quote ours.
impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Response for HttpResponse {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    fn content_encoding(&self) -> Option<&str> {
        let values = self.response.headers().get_all(CONTENT_ENCODING).into_iter();
        // One that cannot be read is none that was asked for either.
        let names =
            values.flat_map(|value| value.to_str().unwrap_or("?").split(',').map(str::trim));
        let mut applied =
            names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        applied.next()
    }

    fn connected(&self) -> Option<Connecting> {
        self.connected
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        RateLimits::read(|name| self.header(name), SystemTime::now())
    }

    fn request_id(&self) -> Option<String> {
        headers::request_id(|name| self.header(name))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        self.response.chunk().await.map_err(|error| faults::body_failure(&error))
    }
}

/// The query of every request, encoded.
fn query(target: &Target) -> Option<SecretString> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &target.query {
        query.append_pair(name, value.expose_secret());
    }
    Some(query.finish()).filter(|query| !query.is_empty()).map(SecretString::from)
}

fn redaction(target: &Target) -> Redaction {
    let key = match &target.auth {
        Auth::None => None,
        Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => Some(&key.value),
    };
    let (headers, query) = (target.headers.iter().map(|h| &h.1), target.query.iter().map(|q| &q.1));
    Redaction::new(key.into_iter().chain(headers).chain(query).map(ExposeSecret::expose_secret))
}

fn headers(target: &Target) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let secret = |header: &str, text: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| BuildError::Header {
            target: target.name.clone(),
            header: header.to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    };
    for (name, value) in &target.headers {
        headers.append(name, secret(name.as_str(), value.expose_secret())?);
    }
    match &target.auth {
        Auth::None => {}
        Auth::Bearer(key) => {
            let value = format!("Bearer {}", key.value.expose_secret());
            headers.insert(AUTHORIZATION, secret("authorization", &value)?);
        }
        Auth::ApiKey(key) => {
            headers.insert("api-key", secret("api-key", key.value.expose_secret())?);
        }
        Auth::XApiKey(key) => {
            headers.insert("x-api-key", secret("x-api-key", key.value.expose_secret())?);
        }
    }
    Ok(headers)
}

/// The `id`s of an OpenAI-style list of models.
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
