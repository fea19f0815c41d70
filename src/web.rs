//! The daemon's own HTTP server. With `simulator`, the one home of `hyper`'s server.
//!
//! - `/` the status page
//! - `/metrics` for Prometheus
//! - `/-/healthy` 200 while the process lives
//! - `/-/ready` 200 while it serves, 503 while it drains; no target has a say in it, so that a
//!   sidecar never takes its pod out of service
//! - `/config` the file as it was written, with what might be secret masked
//! - `/api/v1/status` what is going on, as JSON
//! - POST `/-/reload`, `/-/pause`, `/-/resume`, `/-/quit`, and POST or DELETE
//!   `/api/v1/scenarios/NAME/rate`: from this machine always, from others only if that was allowed; what
//!   is asked for twice is done once. GET of that rate is open to all

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
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::AdminHandle;
use crate::generator::Generator;
use crate::guard::Pause;
use crate::metrics::{self, Metrics};
use crate::schedule::Shard;
use crate::status::{Status, StatusBoard};

/// A client that has not sent a request head by then, also on a kept-alive connection, is cut off; so
/// long an order waits for its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that has not taken its answer and asked again by then is cut off too: one that never
/// reads would hold its place for ever, and enough of them would keep out the one who asks for health.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer that is on its way may take when its connection is to be closed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a scrape waits for what the kernel tells.
const KERNEL: Duration = Duration::from_millis(250);
/// Connections at once, as many as Prometheus itself allows; one more closes the oldest.
const CONNECTIONS: usize = 512;

const PAGE: &str = include_str!("web/page.html");
const TEXT: &str = "text/plain; charset=utf-8";

/// What the server shows.
#[derive(Debug)]
pub struct Site {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For the verdict on the status page.
    pub generator: Arc<Generator>,
    /// For the status page and `/config`.
    pub board: Arc<StatusBoard>,
    /// Where orders go.
    pub control: AdminHandle,
    /// Whether orders are taken from other machines too.
    pub lifecycle: bool,
    /// Whether the load is paused.
    pub paused: Pause,
    /// Which of the arrivals are ours.
    pub shard: Shard,
    /// Whether it is shutting down.
    pub draining: CancellationToken,
    /// When the daemon started.
    pub started: SystemTime,
}

/// Serves until `stop` is cancelled; answers that are on their way then still get there.
pub async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = TaskTracker::new();
    // What cuts each open connection off, the oldest first.
    let mut open: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: those in use come back, trying at once would spin.
                tracing::warn!(%error, "a connection to the daemon's port could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if open.len() >= CONNECTIONS {
            open.retain(|connection| !connection.is_cancelled());
        }
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            // Whoever fills all places must not keep out the one who asks for health.
            oldest.cancel();
        }
        let closed = stop.child_token();
        open.push_back(closed.clone());
        let site = Arc::clone(&site);
        let (at_work, works) = watch::channel(false);
        let service = service_fn(move |request| {
            let (site, at_work) = (Arc::clone(&site), at_work.clone());
            async move {
                at_work.send_replace(true);
                let answer = site.answer(request, peer.ip()).await;
                at_work.send_replace(false);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = server.serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            let mut connection = pin!(connection);
            tokio::select! {
                // What a client does to its own connection is its own affair.
                _ended = connection.as_mut() => {}
                () = silence(works) => {}
                () = closed.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _in_time = tokio::time::timeout(LAST_WORDS, connection).await;
                }
            }
            closed.cancel();
        });
    }
    connections.close();
    connections.wait().await;
}

/// Until nothing was asked for as long as patience lasts. Whoever waits for an answer that is being worked
/// at is not silent: a reload may take its time.
async fn silence(mut works: watch::Receiver<bool>) {
    loop {
        let at_work = *works.borrow_and_update();
        let changed = works.changed();
        let lasts =
            if at_work { Ok(changed.await) } else { tokio::time::timeout(PATIENCE, changed).await };
        if !matches!(lasts, Ok(Ok(()))) {
            return;
        }
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if let Some(asked) = admin::Route::of(path) {
            return self.apply(asked, request, peer).await;
        }
        let known = matches!(
            path,
            "/" | "/metrics" | "/-/healthy" | "/-/ready" | "/config" | "/api/v1/status"
        );
        if !known {
            return text(StatusCode::NOT_FOUND, "Nothing here. The start page is at /.\n");
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
            "/config" => {
                response(StatusCode::OK, "application/yaml; charset=utf-8", self.board.config())
            }
            "/api/v1/status" => {
                let halted = (self.draining.is_cancelled(), self.paused.is_on());
                let status =
                    Status::of(&self.board, &self.generator, halted, self.shard, self.started);
                json(&status)
            }
            _ => response(StatusCode::OK, "text/html; charset=utf-8", PAGE),
        }
    }
}

impl Site {
    /// Nothing of it is done on a thread that sends: ten thousand series are some milliseconds.
    async fn exposition(&self) -> Response<Full<Bytes>> {
        // Where the kernel is slow, the scrape has what it told last.
        let _in_time = tokio::time::timeout(KERNEL, self.generator.read_resource_usage()).await;
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
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("Only {allowed} here.\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn json(answer: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(answer) {
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
    async fn patience_starts_again_with_every_answer_and_ends() {
        let (at_work, works) = watch::channel(false);
        let start = Instant::now();
        let clients = async {
            for _ in 0..3 {
                tokio::time::sleep(PATIENCE / 2).await;
                at_work.send_replace(true);
                // An order that takes longer than the silence that is suffered.
                tokio::time::sleep(PATIENCE * 2).await;
                at_work.send_replace(false);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = silence(works) => {}
            () = clients => {}
        }
        assert_eq!(start.elapsed().as_secs(), (PATIENCE * 17 / 2).as_secs());
    }
}
