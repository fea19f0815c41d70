//! The HTTP server of the daemon. Only this module and `simulator` use `hyper`'s server.
//!
//! - `/`: the status page
//! - `/metrics`: the Prometheus exposition
//! - `/-/healthy`: 200 while the process lives
//! - `/-/ready`: 200 while llmload serves, 503 while it drains. Its response does not depend on the
//!   targets, so an llmload sidecar never makes its pod unready
//! - `/config`: the configuration file as written, with secrets masked
//! - `/api/v1/status`: the status as JSON
//! - POST `/-/reload`, `/-/pause`, `/-/resume`, `/-/quit`, and POST or DELETE
//!   `/api/v1/scenarios/NAME/rate`: admin requests. They are accepted from this machine, from other
//!   machines only with `--web.enable-lifecycle`, and never from a web page of another site. A
//!   repeated pause, resume or DELETE has no further effect. A repeated reload reads the files
//!   again, and a repeated POST of a rate starts its time again
//! - GET `/api/v1/scenarios/NAME/rate`: the current rate of a scenario, for clients on any machine

mod admin;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::AdminHandle;
use crate::generator::GeneratorMonitor;
use crate::guard::Pause;
use crate::metrics::{self, Metrics};
use crate::schedule::Shard;
use crate::status::{Status, StatusBoard};
use admin::AdminPath;

/// The time that a client has to send a request head, on a new or a kept-alive connection. The same
/// limit applies to the body of an admin request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A client must read its response and send the next request in this time. Without this limit,
/// clients that never read could occupy all connections, and health checks would fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// When llmload closes a connection, a response in progress has this time to finish.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest time that a scrape waits for new values from the kernel.
const KERNEL_TIMEOUT: Duration = Duration::from_millis(250);
/// The highest number of connections. The server of Prometheus has the same limit. Each further
/// connection closes the oldest connection.
const MAX_CONNECTIONS: usize = 512;

const PAGE: &str = include_str!("web/page.html");
const TEXT: &str = "text/plain; charset=utf-8";

/// The state that request handlers share.
#[derive(Debug)]
pub struct WebState {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For the distortions on the status page.
    pub generator: Arc<GeneratorMonitor>,
    /// For the status page and `/config`.
    pub board: Arc<StatusBoard>,
    /// Executes admin commands.
    pub control: AdminHandle,
    /// True if admin requests are accepted from other machines: `--web.enable-lifecycle`.
    pub lifecycle: bool,
    /// Shows if the load is paused.
    pub paused: Pause,
    /// The shard of this daemon.
    pub shard: Shard,
    /// Cancelled when the daemon begins to drain.
    pub draining: CancellationToken,
    /// The time at which the daemon started.
    pub started: SystemTime,
}

/// Serves until `stop` is cancelled. Then it completes the responses that have begun.
pub async fn serve(listener: TcpListener, state: Arc<WebState>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    // Each token closes one open connection. The oldest connection is first.
    let mut open: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The usual cause is a lack of free file descriptors. A retry without a pause would
                // be a busy loop.
                tracing::warn!(%error, "could not accept a connection to the web port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        make_room(&mut open);
        let closed = stop.child_token();
        open.push_back(closed.clone());
        connections.spawn(serve_connection(stream, peer.ip(), Arc::clone(&state), closed));
    }
    connections.close();
    connections.wait().await;
}

/// Closes the oldest connection if there are too many. Otherwise a client with many connections
/// could block health checks.
fn make_room(open: &mut VecDeque<CancellationToken>) {
    if open.len() >= MAX_CONNECTIONS {
        open.retain(|connection| !connection.is_cancelled());
    }
    if open.len() >= MAX_CONNECTIONS
        && let Some(oldest) = open.pop_front()
    {
        oldest.cancel();
    }
}

/// Serves one connection until it ends, is idle for too long, or `closed` is cancelled.
async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    state: Arc<WebState>,
    closed: CancellationToken,
) {
    let (set_busy, busy) = watch::channel(false);
    let service = service_fn(move |request| {
        let (state, set_busy) = (Arc::clone(&state), set_busy.clone());
        async move {
            set_busy.send_replace(true);
            let response = state.handle(request, peer).await;
            set_busy.send_replace(false);
            Ok::<_, Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // The result is ignored: a client is allowed to close its connection in any way.
        _ended = connection.as_mut() => {}
        () = idle_timeout(busy) => {}
        () = closed.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _in_time = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
        }
    }
    closed.cancel();
}

/// Returns after a connection has been idle for [`IDLE_TIMEOUT`]. A connection is not idle while
/// llmload handles a request: a reload, for example, can take longer than the timeout.
async fn idle_timeout(mut busy: watch::Receiver<bool>) {
    loop {
        let is_busy = *busy.borrow_and_update();
        let changed = busy.changed();
        let in_time = if is_busy {
            Ok(changed.await)
        } else {
            tokio::time::timeout(IDLE_TIMEOUT, changed).await
        };
        if !matches!(in_time, Ok(Ok(()))) {
            return;
        }
    }
}

impl WebState {
    async fn handle(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
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
        match path {
            "/metrics" => self.exposition().await,
            "/-/healthy" => text(StatusCode::OK, "llmload is healthy.\n"),
            "/-/ready" if self.draining.is_cancelled() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "llmload is shutting down.\n")
            }
            "/-/ready" => text(StatusCode::OK, "llmload is ready.\n"),
            "/config" => response(
                StatusCode::OK,
                "application/yaml; charset=utf-8",
                self.board.masked_config(),
            ),
            "/api/v1/status" => {
                let halted = (self.draining.is_cancelled(), self.paused.is_on());
                let status =
                    Status::new(&self.board, &self.generator, halted, self.shard, self.started);
                json(&status)
            }
            _ => response(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        }
    }

    /// Encodes the exposition on a separate thread, because ten thousand series take a few
    /// milliseconds and must not delay requests.
    async fn exposition(&self) -> Response<Full<Bytes>> {
        // If the kernel is slow, the scrape shows the previous values.
        let _in_time =
            tokio::time::timeout(KERNEL_TIMEOUT, self.generator.read_resource_usage()).await;
        let metrics = Arc::clone(&self.metrics);
        let error = match tokio::task::spawn_blocking(move || metrics.expose()).await {
            Ok(Ok(body)) => return response(StatusCode::OK, metrics::CONTENT_TYPE, body),
            Ok(Err(defect)) => defect.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
    }
}

fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response =
        text(StatusCode::METHOD_NOT_ALLOWED, format!("Method not allowed; use {allowed}.\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(document: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(document) {
        Ok(body) => response(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, TEXT, body)
}

fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_restarts_after_every_response() {
        let (set_busy, busy) = watch::channel(false);
        let start = Instant::now();
        let clients = async {
            for _ in 0..3 {
                tokio::time::sleep(IDLE_TIMEOUT / 2).await;
                set_busy.send_replace(true);
                // This request takes longer than the idle timeout.
                tokio::time::sleep(IDLE_TIMEOUT * 2).await;
                set_busy.send_replace(false);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = idle_timeout(busy) => {}
            () = clients => {}
        }
        assert_eq!(start.elapsed().as_secs(), (IDLE_TIMEOUT * 17 / 2).as_secs());
    }
}
