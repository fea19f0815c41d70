//! The HTTP server of the daemon.
//!
//! - `/`: the status page
//! - `/metrics`: the Prometheus exposition
//! - `/-/healthy`: 200 while the process lives
//! - `/-/ready`: 200 while llmload serves, 503 while it drains. It does not depend on the targets,
//!   so an llmload sidecar never makes its pod unready
//! - `/config`: the configuration file as written, with secrets masked
//! - `/api/v1/status`: the status as JSON
//! - POST `/-/reload`, `/-/pause`, `/-/resume`, `/-/quit`, and POST or DELETE
//!   `/api/v1/scenarios/NAME/rate`: admin requests. They are accepted from this machine, from other
//!   machines with `--web.enable-lifecycle`, and never from a web page of another site. A repeated
//!   pause, resume or DELETE has no effect. A repeated reload reads the files again. A repeated
//!   POST of a rate starts its time again
//! - GET `/api/v1/scenarios/NAME/rate`: the current rate of a scenario, for clients on any machine
//!
//! No client can delay other clients or the load: see `pages` (encoding), `connections` (memory and
//! time limits), `accept` (open files) and `origin` (access).

mod accept;
mod admin;
mod connections;
mod listen;
mod origin;
mod pages;
mod security;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::control::AdminHandle;
use crate::generator::GeneratorMonitor;
use crate::guard::{Accounts, Pause};
use crate::metrics::{self, Metrics};
use crate::schedule::Shard;
use crate::status::{Status, StatusBoard};
use accept::Acceptor;
use admin::AdminPath;
use connections::{Content, Respond};
pub use listen::{
    ListenAddress, ListenAddressError, Listener, SocketFile, bind_tcp, connect_unix_at_once,
};
use origin::{Access, Peer, Refusal};
use pages::PageSource;
use security::Login;
pub use security::{SecurityError, WebSecurity, check_file};

const PAGE: &str = include_str!("web/page.html");
/// The status page contains its script and its style, and requests only the status.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Clone, Debug)]
pub struct WebState {
    pub metrics: Arc<Metrics>,
    /// For the distortions on the status page.
    pub generator: Arc<GeneratorMonitor>,
    /// For the budgets on the status page.
    pub accounts: Arc<Accounts>,
    /// For the status page and `/config`.
    pub board: Arc<StatusBoard>,
    pub control: AdminHandle,
    pub paused: Pause,
    pub shard: Shard,
    /// Cancelled when the daemon begins to drain.
    pub draining: CancellationToken,
    /// The start of the daemon.
    pub started: SystemTime,
}

/// The options of the web server.
#[derive(Debug)]
pub struct WebOptions {
    pub listeners: Vec<Listener>,
    /// `--web.enable-lifecycle`: admin requests are accepted from other machines.
    pub lifecycle: bool,
    pub security: WebSecurity,
}

#[derive(Debug)]
pub struct WebServer {
    acceptor: Acceptor,
    site: Site,
}

impl WebServer {
    /// Starts the threads that encode `/metrics` and the status.
    ///
    /// # Errors
    /// If the system cannot start a thread, or the runtime cannot use a listener.
    pub fn new(options: WebOptions, state: WebState) -> io::Result<WebServer> {
        let (metrics, status) = (Arc::clone(&state.metrics), state.clone());
        let encode_metrics =
            move |text: &mut Vec<u8>| metrics.expose(text).map_err(|defect| defect.to_string());
        let encode_status = move |text: &mut Vec<u8>| {
            serde_json::to_writer(text, &status.status()).map_err(|error| error.to_string())
        };
        let site = Site {
            access: Access::new(options.lifecycle),
            security: options.security,
            metrics: PageSource::start("metrics", encode_metrics)?,
            status: PageSource::start("status", encode_status)?,
            state,
        };
        Ok(WebServer { acceptor: Acceptor::new(options.listeners)?, site })
    }

    /// Returns the URLs of the web server.
    pub fn urls(&self) -> Vec<String> {
        self.acceptor.urls(if self.site.tls().is_some() { "https" } else { "http" })
    }

    /// Serves until `stop` is cancelled, and then completes the responses that have begun.
    pub async fn serve(self, stop: CancellationToken) {
        connections::serve(self.acceptor, Arc::new(self.site), stop).await;
    }
}

impl WebState {
    fn status(&self) -> Status {
        let halted = (self.draining.is_cancelled(), self.paused.is_on());
        let WebState { board, generator, accounts, shard, started, .. } = self;
        Status::new(board, generator, accounts, halted, *shard, *started)
    }
}

#[derive(Debug)]
struct Site {
    state: WebState,
    access: Access,
    security: WebSecurity,
    metrics: PageSource,
    status: PageSource,
}

impl Respond for Site {
    fn tls(&self) -> Option<TlsAcceptor> {
        self.security.current().tls()
    }

    async fn respond(&self, mut request: Request<Incoming>, peer: Peer) -> Response<Content> {
        set_host(&mut request);
        let security = self.security.current();
        let mut response = if security.allows(Instant::now()) {
            match security.log_in(request.headers()).await {
                Login::Open => self.respond_to_user(request, peer).await,
                Login::Accepted => self.respond_to_user(request, peer.with_proven_name()).await,
                Login::Refused => login_required(),
                Login::Busy => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many passwords wait for their verification. Try again later.\n",
                ),
            }
        } else {
            text(StatusCode::TOO_MANY_REQUESTS, "The rate limit is reached. Try again later.\n")
        };
        security.set_headers(response.headers_mut());
        response
    }
}

impl Site {
    async fn respond_to_user(&self, request: Request<Incoming>, peer: Peer) -> Response<Content> {
        let path = request.uri().path();
        if let Some(admin_path) = AdminPath::parse(path) {
            return self.handle_admin(admin_path, request, peer).await;
        }
        let known = matches!(
            path,
            "/" | "/metrics" | "/-/healthy" | "/-/ready" | "/config" | "/api/v1/status"
        );
        if !known {
            return text(StatusCode::NOT_FOUND, "Page not found. The status page is at /.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return wrong_method("GET, HEAD");
        }
        // Prometheus and health checks use any name, such as the name of a Kubernetes service.
        let access = match path {
            "/config" => self.access.check_configuration(request.headers(), peer),
            "/api/v1/status" => self.access.check_read(request.headers(), peer),
            _ => Ok(()),
        };
        if let Err(refusal) = access {
            return refused(refusal);
        }
        match path {
            "/metrics" => {
                self.state.generator.read_resource_usage().await;
                page(&self.metrics, metrics::CONTENT_TYPE).await
            }
            "/-/healthy" => text(StatusCode::OK, "llmload is healthy.\n"),
            "/-/ready" if self.state.draining.is_cancelled() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "llmload is shutting down.\n")
            }
            "/-/ready" => text(StatusCode::OK, "llmload is ready.\n"),
            "/config" => response(
                StatusCode::OK,
                "application/yaml; charset=utf-8",
                self.state.board.masked_config(),
            ),
            "/api/v1/status" => page(&self.status, "application/json").await,
            _ => status_page(),
        }
    }
}

async fn page(source: &PageSource, kind: &'static str) -> Response<Content> {
    match source.page().await {
        Ok(page) => response(StatusCode::OK, kind, Content::Page(page)),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// The status page loads nothing from another site, and no other site can frame it.
fn status_page() -> Response<Content> {
    let mut page = response(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    page.headers_mut().insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    page
}

/// Puts the host of the URL into `host`, where `origin` reads it. The URL of an HTTP/2 request has
/// a host, and the URL of an HTTP/1.1 request can have one.
fn set_host(request: &mut Request<Incoming>) {
    let host = request.uri().authority().map(|host| HeaderValue::from_str(host.as_str()));
    if let Some(Ok(host)) = host {
        request.headers_mut().insert(HOST, host);
    }
}

fn login_required() -> Response<Content> {
    let mut response = text(StatusCode::UNAUTHORIZED, "A user and a password are required.\n");
    let challenge = HeaderValue::from_static("Basic realm=\"llmload\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn refused(refusal: Refusal) -> Response<Content> {
    text(StatusCode::FORBIDDEN, format!("{refusal}\n"))
}

fn wrong_method(allowed: &'static str) -> Response<Content> {
    let mut response =
        text(StatusCode::METHOD_NOT_ALLOWED, format!("Method not allowed; use {allowed}.\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(document: &impl serde::Serialize) -> Response<Content> {
    match serde_json::to_vec(document) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Content>) -> Response<Content> {
    response(status, TEXT, body)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Content>) -> Response<Content> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
