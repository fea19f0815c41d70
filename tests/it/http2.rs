//! Tests of the HTTP/2 connections to a target over real sockets. The server reads whole requests,
//! so its counts are the requests that it can work on.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use crate::upstream::{DONE, FINISH, USAGE, token};

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
