//! Tests of the HTTP/2 connections to a target over real sockets. The server reads whole requests,
//! so its counts are the requests that it can work on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use llmload::measurement::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connections::{frame, http2_head, request, target_with_ping};
use crate::run::run_against;
use crate::upstream::{DONE, FINISH, USAGE, self_signed, token};

fn events() -> String {
    [&token("a"), FINISH, USAGE, DONE].concat()
}

// ---- Dead connections ---------------------------------------------------------------------------

/// Timeouts that are much longer than the time after which llmload notices a dead connection.
const PATIENT: &str = ", http2: true, keep_alive: 10m, timeouts: {first_token: 5m, total: 10m}";

const PING: Duration = Duration::from_millis(500);

/// The connections of a server that stops to speak.
#[derive(Default)]
struct Vanishing {
    begun: AtomicUsize,
    /// Receives a permit when llmload has ended a connection.
    ended: Notify,
}

/// The first connection answers its first request. Then its peer is gone: it acknowledges nothing
/// and does not close the connection. Each later connection answers its first request too.
async fn start_that_vanishes() -> (String, Arc<Vanishing>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::<Vanishing>::default();
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.begun.fetch_add(1, Ordering::Relaxed);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
                read_request(&mut stream).await;
                stream.write_all(&answer()).await.unwrap();
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
                seen.ended.notify_one();
            });
        }
    });
    (url, connections)
}

/// Reads until the body of a request arrives. Returns the bytes.
async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    while !received.windows(4).any(|four| four == b"\"max") {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the connection ended before the request");
        received.extend_from_slice(&buffer[..n]);
    }
    received
}

/// The frames of a response on the first stream.
fn answer() -> Vec<u8> {
    let events = [&token("a"), FINISH, USAGE, DONE];
    let body: Vec<u8> = events.iter().flat_map(|event| frame(0, 0, 1, event.as_bytes())).collect();
    [http2_head(), body, frame(0, 1, 1, &[])].concat()
}

#[tokio::test]
async fn a_dead_connection_ends_and_the_next_request_uses_a_new_one() {
    let (url, connections) = start_that_vanishes().await;
    let target = target_with_ping(&url, PATIENT, PING);
    assert_eq!(request(&target, true).await.0, Ok(()));
    let (outcome, observed) = request(&target, true).await;
    assert_eq!(outcome, Err(Failure::Reset), "{:?}", observed.failed.lock().unwrap());
    assert_eq!(request(&target, true).await.0, Ok(()));
    assert_eq!(connections.begun.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_connection_that_dies_while_it_is_idle_is_not_used() {
    let (url, connections) = start_that_vanishes().await;
    let target = target_with_ping(&url, PATIENT, PING);
    assert_eq!(request(&target, true).await.0, Ok(()));
    connections.ended.notified().await;
    assert_eq!(request(&target, true).await.0, Ok(()));
    assert_eq!(connections.begun.load(Ordering::Relaxed), 2);
}

/// A busy server acknowledges pings. It responds after its third acknowledgement, which is later
/// than the end of a connection without acknowledgements.
#[tokio::test]
async fn a_slow_response_does_not_end_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        read_request(&mut stream).await;
        let (mut received, mut pings) = (Vec::new(), 0);
        while pings < 3 {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the connection ended");
            received.extend_from_slice(&buffer[..n]);
            // The head of a ping without an acknowledgement: 8 bytes follow on stream 0.
            let head = [0, 0, 8, 6, 0, 0, 0, 0, 0];
            while let Some(at) = received.windows(9).position(|nine| nine == head) {
                let Some(payload) = received.get(at + 9..at + 17) else { break };
                stream.write_all(&frame(6, 1, 0, payload)).await.unwrap();
                received.drain(..at + 17);
                pings += 1;
            }
        }
        stream.write_all(&answer()).await.unwrap();
        stream
    };
    let target = target_with_ping(&url, PATIENT, PING);
    let ((outcome, observed), _open) = tokio::join!(request(&target, true), server);
    assert_eq!(outcome, Ok(()), "{:?}", observed.failed.lock().unwrap());
}

// ---- The limit of streams -----------------------------------------------------------------------

/// A server that allows two HTTP/2 streams on a connection.
struct TwoStreams {
    address: SocketAddr,
    uses_tls: bool,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// The number of complete `POST` requests that arrived.
    bodies: AtomicUsize,
    /// The time from the last byte of each `POST` request to its response, in seconds.
    times: Mutex<Vec<f64>>,
}

impl TwoStreams {
    /// The server responds after `time`. With TLS, it offers HTTP/2.
    async fn start(time: Duration, uses_tls: bool) -> TwoStreams {
        let mut tls = rustls::ServerConfig::clone(&self_signed());
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let counted = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&counted);
                seen.connections.fetch_add(1, Ordering::Relaxed);
                let service = service_fn(move |request| respond(request, Arc::clone(&seen), time));
                let mut served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                served.max_concurrent_streams(2);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if uses_tls {
                        let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                        let _ended = served.serve_connection(stream, service).await;
                    } else {
                        let _ended = served.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        TwoStreams { address, uses_tls, seen }
    }

    async fn run(&self, phase: &str) -> llmload::report::Report {
        self.run_with("", phase).await
    }

    /// Runs a phase with these keys of the target.
    async fn run_with(&self, keys: &str, phase: &str) -> llmload::report::Report {
        let yaml = format!(
            "target: {{base_url: '{}://{}/v1', model: m, http2: true{}{}}}\nstart: now\n\
             schedule: [{{{phase}}}]\n",
            if self.uses_tls { "https" } else { "http" },
            self.address,
            if self.uses_tls { ", tls: {insecure_skip_verify: true}" } else { "" },
            keys,
        );
        run_against(yaml, &[]).await.report.unwrap()
    }

    /// The number of requests that the server could work on.
    fn requests(&self) -> usize {
        self.seen.times.lock().unwrap().len()
    }

    /// Compares the TTFT with the times of the server. A wait for a stream would be many times as
    /// long.
    fn check_median(&self, report: &llmload::report::Report) {
        let total = &report.routes[0].total;
        let mut times = self.seen.times.lock().unwrap().clone();
        times.sort_by(f64::total_cmp);
        let (ours, theirs) =
            (total.time_to_first_token_seconds.p50.unwrap(), times[times.len() / 2]);
        assert!((theirs / 2.0..theirs * 4.0).contains(&ours), "{ours} s, server {theirs} s");
    }
}

async fn respond(
    request: HttpRequest<Incoming>,
    seen: Arc<Seen>,
    time: Duration,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() != hyper::Method::POST {
        return Ok(Response::builder().status(404).body(Full::default()).unwrap());
    }
    request.into_body().collect().await?;
    seen.bodies.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    tokio::time::sleep(time).await;
    seen.times.lock().unwrap().push(start.elapsed().as_secs_f64());
    let response = Response::builder().header("content-type", "text/event-stream");
    Ok(response.body(Full::new(Bytes::from(events()))).unwrap())
}

#[tokio::test]
async fn further_connections_open_if_all_streams_of_a_connection_are_in_use() {
    for uses_tls in [false, true] {
        check_further_connections(uses_tls).await;
    }
}

async fn check_further_connections(uses_tls: bool) {
    let server = TwoStreams::start(Duration::from_millis(300), uses_tls).await;
    let report = server.run("constant: 20/s, for: 3s").await;
    let total = &report.routes[0].total;
    assert_eq!((total.arrivals, total.failed), (60, 0), "{:?}", report.routes[0].ledger.failed);
    assert_eq!(server.requests(), 60, "each request is complete once");
    let connections = server.seen.connections.load(Ordering::Relaxed);
    assert!(connections > 1, "about six requests at a time need several connections");
    server.check_median(&report);
}

/// All requests of a closed loop begin at the same time, before the limit is known. Some of them
/// wait inside llmload, and this wait is no time of the server.
#[tokio::test]
async fn a_wait_for_a_stream_is_dispatch_lag_and_not_ttft() {
    let server = TwoStreams::start(Duration::from_millis(100), false).await;
    let report = server.run("concurrency: 40, requests: 200").await;
    let total = &report.routes[0].total;
    assert_eq!((total.arrivals, total.failed), (200, 0), "{:?}", report.routes[0].ledger.failed);
    assert_eq!(server.requests(), 200, "each request is complete once");
    server.check_median(&report);
}

/// The server answers no request, and most requests of the burst get no stream. The server cannot
/// be slow with a request that it has not received. When many requests time out at once, the server
/// can end a connection because of the many reset streams.
#[tokio::test]
async fn a_timeout_without_a_stream_is_no_failure_of_the_server() {
    let server = TwoStreams::start(Duration::from_mins(10), false).await;
    let report =
        server.run_with(", timeouts: {first_token: 2s}", "concurrency: 40, requests: 40").await;
    let failed = &report.routes[0].ledger.failed;
    let count = |failure: Failure| failed.get(failure.as_str()).copied().unwrap_or_default();
    let (ours, reset) = (count(Failure::ClientResource), count(Failure::Reset));
    let slow = count(Failure::TimeoutFirstToken);
    assert_eq!(ours + reset + slow, 40, "{failed:?}");
    let bodies = server.seen.bodies.load(Ordering::Relaxed);
    assert!(slow <= bodies as u64, "{failed:?}, but the server received {bodies} requests");
}

/// Without HTTP/2, each request in flight has a separate connection, and none waits for another.
#[tokio::test]
async fn a_server_that_chooses_http_1_gets_one_connection_for_each_request_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
    let (counted, acceptor) = (Arc::clone(&seen), tokio_rustls::TlsAcceptor::from(self_signed()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, acceptor) = (Arc::clone(&counted), acceptor.clone());
            seen.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let time = Duration::from_millis(300);
                let service = service_fn(move |request| respond(request, Arc::clone(&seen), time));
                let served = hyper::server::conn::http1::Builder::new();
                let _ended = served.serve_connection(stream, service).await;
            });
        }
    });
    let server = TwoStreams { address, uses_tls: true, seen };
    let report = server.run("concurrency: 20, requests: 100").await;
    let total = &report.routes[0].total;
    assert_eq!((total.arrivals, total.failed), (100, 0), "{:?}", report.routes[0].ledger.failed);
    assert_eq!(server.requests(), 100);
    let connections = server.seen.connections.load(Ordering::Relaxed);
    assert!(connections >= 20, "{connections} connections");
    server.check_median(&report);
}
