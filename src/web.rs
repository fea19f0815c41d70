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
mod origin;
mod pages;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::AdminHandle;
use crate::generator::GeneratorMonitor;
use crate::guard::Pause;
use crate::metrics::{self, Metrics};
use crate::schedule::Shard;
use crate::status::{Status, StatusBoard};
use accept::Acceptor;
use admin::AdminPath;
use connections::{Content, Respond};
use origin::{Access, Peer, Refusal};
use pages::PageSource;

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
    /// For the status page and `/config`.
    pub board: Arc<StatusBoard>,
    pub control: AdminHandle,
    /// `--web.enable-lifecycle`: admin requests are accepted from other machines.
    pub lifecycle: bool,
    pub paused: Pause,
    pub shard: Shard,
    /// Cancelled when the daemon begins to drain.
    pub draining: CancellationToken,
    /// The start of the daemon.
    pub started: SystemTime,
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
    /// If the system cannot start a thread.
    pub fn new(listener: TcpListener, state: WebState) -> io::Result<WebServer> {
        let (metrics, status) = (Arc::clone(&state.metrics), state.clone());
        let encode_metrics =
            move |text: &mut Vec<u8>| metrics.expose(text).map_err(|defect| defect.to_string());
        let encode_status = move |text: &mut Vec<u8>| {
            serde_json::to_writer(text, &status.status()).map_err(|error| error.to_string())
        };
        let site = Site {
            access: Access::new(state.lifecycle),
            metrics: PageSource::start("metrics", encode_metrics)?,
            status: PageSource::start("status", encode_status)?,
            state,
        };
        Ok(WebServer { acceptor: Acceptor::new(listener), site })
    }

    /// Serves until `stop` is cancelled, and then completes the responses that have begun.
    pub async fn serve(self, stop: CancellationToken) {
        connections::serve(self.acceptor, Arc::new(self.site), stop).await;
    }
}

impl WebState {
    fn status(&self) -> Status {
        let halted = (self.draining.is_cancelled(), self.paused.is_on());
        Status::new(&self.board, &self.generator, halted, self.shard, self.started)
    }
}

#[derive(Debug)]
struct Site {
    state: WebState,
    access: Access,
    metrics: PageSource,
    status: PageSource,
}

impl Respond for Site {
    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Content> {
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
            "/config" => self.access.check_configuration(request.headers()),
            "/api/v1/status" => self.access.check_read(request.headers()),
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
