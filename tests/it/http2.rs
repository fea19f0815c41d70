//! Tests of the HTTP/2 connections to a target over real sockets. The server reads whole requests,
//! so its counts are the requests that it can work on.

use std::convert::Infallible;
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
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::connections::{frame, http2_head, request, target};
use crate::run::run_against;
use crate::upstream::{DONE, FINISH, USAGE, self_signed, token};

fn events() -> String {
    [&token("a"), FINISH, USAGE, DONE].concat()
}

// ---- Dead connections ---------------------------------------------------------------------------

/// Timeouts that are much longer than the time after which llmload notices a dead connection.
const PATIENT: &str = ", http2: true, keep_alive: 10m, timeouts: {first_token: 5m, total: 10m}";

/// The first connection answers its first request. Then its peer is gone: it acknowledges nothing
/// and does not close the connection. Each later connection answers its first request too.
async fn start_that_vanishes() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
                let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
                while !received.windows(4).any(|four| four == b"\"max") {
                    let n = stream.read(&mut buffer).await.unwrap();
                    received.extend_from_slice(&buffer[..n]);
                }
                let body: Vec<u8> = [&token("a"), FINISH, USAGE, DONE]
                    .iter()
                    .flat_map(|event| frame(0, 0, 1, event.as_bytes()))
                    .collect();
                let bytes = [http2_head(), body, frame(0, 1, 1, &[])].concat();
                stream.write_all(&bytes).await.unwrap();
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    (url, connections)
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_ends_and_the_next_request_uses_a_new_one() {
    let (url, connections) = start_that_vanishes().await;
    let target = target(&url, PATIENT);
    assert_eq!(request(&target, true).await.0, Ok(()));
    let start = Instant::now();
    let (outcome, observed) = request(&target, true).await;
    assert_eq!(outcome, Err(Failure::Reset), "{:?}", observed.failed.lock().unwrap());
    assert!(start.elapsed() < Duration::from_mins(1), "long before the timeout of the request");
    assert_eq!(request(&target, true).await.0, Ok(()));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_while_it_is_idle_is_not_used() {
    let (url, connections) = start_that_vanishes().await;
    let target = target(&url, PATIENT);
    assert_eq!(request(&target, true).await.0, Ok(()));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(request(&target, true).await.0, Ok(()));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

/// A server that is busy for minutes still acknowledges pings.
#[tokio::test(start_paused = true)]
async fn a_slow_response_does_not_end_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: HttpRequest<Incoming>| async {
            request.into_body().collect().await.unwrap();
            tokio::time::sleep(Duration::from_secs(200)).await;
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(events()))).unwrap())
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ended = served.serve_connection(TokioIo::new(stream), service).await;
    });
    let (outcome, observed) = request(&target(&url, PATIENT), true).await;
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
    /// The number of `POST` requests whose head arrived.
    heads: AtomicUsize,
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
        let yaml = format!(
            "target: {{base_url: '{}://{}/v1', model: m, http2: true{}}}\nstart: now\n\
             schedule: [{{{phase}}}]\n",
            if self.uses_tls { "https" } else { "http" },
            self.address,
            if self.uses_tls { ", tls: {insecure_skip_verify: true}" } else { "" },
        );
        run_against(yaml, &[]).await.report.unwrap()
    }

    /// The number of requests that the server could work on.
    fn requests(&self) -> usize {
        self.seen.times.lock().unwrap().len()
    }

    fn median_time(&self) -> f64 {
        let mut times = self.seen.times.lock().unwrap().clone();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
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
    seen.heads.fetch_add(1, Ordering::Relaxed);
    request.into_body().collect().await?;
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
    let (connections, heads) = (&server.seen.connections, &server.seen.heads);
    let connections = connections.load(Ordering::Relaxed);
    assert!((3..=12).contains(&connections), "six requests at a time: {connections} connections");
    let heads = heads.load(Ordering::Relaxed);
    assert!(heads < 70, "a request that is taken back has a head only: {heads} heads");
    let (ours, theirs) = (total.time_to_first_token_seconds.p50.unwrap(), server.median_time());
    assert!((0.9 * theirs..1.5 * theirs).contains(&ours), "{ours} s, server {theirs} s");
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
    let (ours, theirs) = (&total.time_to_first_token_seconds, server.median_time());
    assert!((0.9 * theirs..2.0 * theirs).contains(&ours.p50.unwrap()), "{ours:?}, {theirs} s");
    assert!(ours.p95.unwrap() < 4.0 * theirs, "{ours:?}, server {theirs} s");
}

/// Without HTTP/2, each request in flight has a connection of its own, and none waits for another.
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
    let (ours, theirs) = (total.time_to_first_token_seconds.p50.unwrap(), server.median_time());
    assert!((0.9 * theirs..1.5 * theirs).contains(&ours), "{ours} s, server {theirs} s");
}
