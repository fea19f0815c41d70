//! Servers behind TLS: the server with the faults, over HTTP/1.1, and a server that breaks streams
//! and connections of HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::{TcpListener, TcpStream};

use crate::upstream::{DONE, FINISH, USAGE, self_signed, token};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Clone, Copy, Debug)]
pub struct Secure {
    /// Over HTTP/1.1.
    pub http1: SocketAddr,
    pub http2: SocketAddr,
}

impl Secure {
    /// `wire` is the server with the faults.
    pub async fn start(seed: u64, wire: SocketAddr) -> Secure {
        Secure { http1: start_relay(seed, wire).await, http2: start_http2(seed).await }
    }
}

/// Starts a server that decrypts each connection and relays it to `wire`. It ends some connections
/// during the handshake, and does not respond to others.
async fn start_relay(seed: u64, wire: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(self_signed());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (fault, acceptor) = (random.random_range(0..20), acceptor.clone());
            tokio::spawn(async move {
                match fault {
                    0 => drop(stream),
                    1 => {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        drop(stream);
                    }
                    _ => {
                        let Ok(mut client) = acceptor.accept(stream).await else { return };
                        let Ok(mut server) = TcpStream::connect(wire).await else { return };
                        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                }
            });
        }
    });
    address
}

/// Starts a server for HTTP/2. It ends each connection after at most three seconds, even if streams
/// are open.
async fn start_http2(seed: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tls = rustls::ServerConfig::clone(&self_signed());
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let number = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let life = Duration::from_millis(random.random_range(100..3000));
            let (acceptor, number) = (acceptor.clone(), Arc::clone(&number));
            let service = service_fn(move |request| {
                respond(seed, number.fetch_add(1, Ordering::Relaxed), request)
            });
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.max_concurrent_streams(4);
                let served = server.serve_connection(TokioIo::new(stream), service);
                let _ended = tokio::time::timeout(life, served).await;
            });
        }
    });
    address
}

async fn respond(
    seed: u64,
    number: u64,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let quote = format!("{:?} {}", request.headers(), request.uri());
    let _received = request.into_body().collect().await;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ number.rotate_left(32));
    let [start, end] = [token("a"), [FINISH, USAGE, DONE].concat()];
    let reset = || Err(std::io::Error::other("reset"));
    let frame = |text: String| Ok(Frame::data(Bytes::from(text)));
    Ok(match random.random_range(0..12) {
        0 => answer(500, vec![frame(quote)]),
        1 => answer(429, vec![frame("{\"error\":{\"message\":\"too many\"}}".to_owned())]),
        // The server resets the stream before its first event, or after it.
        2 => answer(200, vec![reset()]),
        3 => answer(200, vec![frame(start), reset()]),
        4 => answer(200, vec![frame(start)]),
        5 => std::future::pending().await,
        6 => {
            let broken = format!("data: {{\"key\": {quote}\n\n");
            answer(200, vec![frame(start), frame(broken), frame(end)])
        }
        _ => answer(200, vec![frame(start), frame(end)]),
    })
}

fn answer(status: u16, frames: Vec<Result<Frame<Bytes>, std::io::Error>>) -> Response<Body> {
    let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
    let kind = if status == 200 { "text/event-stream" } else { "application/json" };
    Response::builder().status(status).header("content-type", kind).body(body).unwrap()
}
