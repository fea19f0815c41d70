//! The connections of the web server: their number, their time limits and their memory.
//!
//! A connection has at most one response in memory. If a client sends many requests at once and
//! does not read, the second request waits until the first response is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::Acceptor;
use super::listen::Stream;
use super::origin::Peer;
use super::pages::Page;

/// The longest time for a TLS handshake, for a request head, or for the body of an admin request.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time to read a response, and the longest time from a response to the next request.
/// Otherwise clients that never read could occupy all connections, and health checks would fail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time to finish a response when llmload closes the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The highest number of connections, as in the server of Prometheus. A further connection closes
/// the oldest one.
const MAX_CONNECTIONS: usize = 512;
/// The highest number of requests that an HTTP/2 client can send at once.
const MAX_STREAMS: u32 = 16;
/// The highest number of bytes in the head of an HTTP/2 request, and in the body of an HTTP/2
/// request that llmload has not read.
const MAX_HTTP2_BYTES: u32 = 64 << 10;
/// The response to a client that does not use TLS.
const TLS_REQUIRED: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    content-type: text/plain\r\ncontent-length: 39\r\n\r\n\
    This port uses TLS. Open an https URL.\n";

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Bytes of this response alone, or bytes that are always in memory.
    Bytes(Bytes),
    /// A page that other responses share.
    Page(Page),
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Content {
        Content::Bytes(bytes.into())
    }
}

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Page(page) => page.as_ref(),
        }
    }
}

pub(super) trait Respond: Send + Sync + 'static {
    /// Returns the TLS configuration of new connections to TCP ports; `None` for plain HTTP.
    fn tls(&self) -> Option<TlsAcceptor>;

    fn respond(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Content>> + Send;
}

/// Serves until `stop` is cancelled, and then completes the responses that have begun.
pub(super) async fn serve(
    mut acceptor: Acceptor,
    site: Arc<impl Respond>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let reserve = acceptor.reserve();
    // Each token closes one open connection. The oldest is first.
    let mut open: VecDeque<CancellationToken> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Some((stream, peer)) = accepted else {
            // The rest of llmload uses all free files.
            close_oldest(&mut open);
            continue;
        };
        if open.len() >= MAX_CONNECTIONS {
            open.retain(|connection| !connection.is_cancelled());
        }
        if open.len() >= MAX_CONNECTIONS {
            close_oldest(&mut open);
        }
        let closed = stop.child_token();
        open.push_back(closed.clone());
        let (site, reserve) = (Arc::clone(&site), Arc::clone(&reserve));
        connections.spawn(async move {
            match (stream, site.tls()) {
                (Stream::Tcp(stream), Some(tls)) => {
                    let handshake = tokio::time::timeout(HEAD_TIMEOUT, accept_tls(stream, tls));
                    let accepted = tokio::select! {
                        accepted = handshake => accepted.ok().flatten(),
                        () = closed.cancelled() => None,
                    };
                    if let Some(stream) = accepted {
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        // A browser has compared the name in the URL with the certificate.
                        let peer = peer.with_proven_name();
                        let serves =
                            serve_connection(*stream, is_http2, peer, site, closed.clone());
                        Box::pin(serves).await;
                    }
                }
                // The permissions of a unix socket protect it.
                (stream, _) => serve_connection(stream, false, peer, site, closed.clone()).await,
            }
            closed.cancel();
            reserve.refill();
        });
    }
    connections.close();
    connections.wait().await;
}

/// Closes the oldest connection. Otherwise a client with many connections could block health
/// checks.
fn close_oldest(open: &mut VecDeque<CancellationToken>) {
    open.retain(|connection| !connection.is_cancelled());
    if let Some(oldest) = open.pop_front() {
        oldest.cancel();
    }
}

/// Returns `None` if the client does not complete the handshake.
async fn accept_tls(stream: TcpStream, tls: TlsAcceptor) -> Option<Box<TlsStream<TcpStream>>> {
    let mut first = [0];
    // Without this check, a person who opens an http URL would see only a closed connection.
    if stream.peek(&mut first).await.ok()? == 1 && first[0].is_ascii_alphabetic() {
        let _in_time = tokio::time::timeout(CLOSE_TIMEOUT, require_tls(stream)).await;
        return None;
    }
    match tls.accept(stream).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            tracing::debug!(%error, "a client did not complete the TLS handshake");
            None
        }
    }
}

/// Responds to a client that does not use TLS. Reads the request to its end, because the kernel
/// resets a connection with unread bytes, and the client would lose the response.
async fn require_tls(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(TLS_REQUIRED).await?;
    stream.shutdown().await?;
    let mut unused = [0; 1024];
    while stream.read(&mut unused).await? > 0 {}
    Ok(())
}

#[derive(Clone, Debug)]
enum Activity {
    /// The client has received all responses.
    Idle,
    Handling,
    /// llmload sends a response. For a shared page, the token closes the connection.
    Sending(Option<CancellationToken>),
}

/// The turn of a request. Dropping it ends the request, also if hyper drops the request because the
/// client has cancelled it. The next request can then begin.
struct Turn(watch::Sender<Activity>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.send_replace(Activity::Idle);
    }
}

/// The body of a response that is not sent completely. hyper drops it after the last byte.
struct Unsent {
    content: Content,
    _turn: Turn,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        self.content.as_ref()
    }
}

/// Serves one connection until it ends, is idle for too long, or `closed` is cancelled.
async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    is_http2: bool,
    peer: Peer,
    site: Arc<impl Respond>,
    closed: CancellationToken,
) {
    let (activity, observed) = watch::channel(Activity::Idle);
    let service = service_fn(move |request: Request<Incoming>| {
        let is_head = request.method() == Method::HEAD;
        let (site, activity) = (Arc::clone(&site), activity.clone());
        async move {
            let turn = begin(activity).await;
            let mut response = site.respond(request, peer).await;
            if is_head {
                remove_body(&mut response);
            }
            Ok::<_, Infallible>(response.map(|content| {
                let expired = match &content {
                    Content::Bytes(_) => None,
                    Content::Page(page) => Some(page.expired.clone()),
                };
                turn.0.send_replace(Activity::Sending(expired));
                Full::new(Bytes::from_owner(Unsent { content, _turn: turn }))
            }))
        }
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HTTP2_BYTES)
            .initial_stream_window_size(MAX_HTTP2_BYTES)
            .initial_connection_window_size(MAX_HTTP2_BYTES);
        let connection = pin!(server.serve_connection(stream, service));
        drive(connection, observed, &closed).await;
    } else {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let connection = pin!(server.serve_connection(stream, service));
        drive(connection, observed, &closed).await;
    }
}

/// Removes the body of a response to HEAD, but keeps its length. hyper does this over
/// HTTP/1.1 only. Over HTTP/2, such a body is a protocol error.
fn remove_body(response: &mut Response<Content>) {
    let length = response.body().as_ref().len();
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    *response.body_mut() = Content::Bytes(Bytes::new());
}

/// Waits until the client has received all earlier responses, and begins a request. Over HTTP/2,
/// several requests can wait, and only one of them begins.
async fn begin(activity: watch::Sender<Activity>) -> Turn {
    let mut previous = activity.subscribe();
    loop {
        // The sender is still here, so the wait cannot fail.
        let idle = previous.wait_for(|activity| matches!(activity, Activity::Idle));
        drop(idle.await);
        let has_begun = activity.send_if_modified(|activity| {
            let is_idle = matches!(activity, Activity::Idle);
            if is_idle {
                *activity = Activity::Handling;
            }
            is_idle
        });
        if has_begun {
            return Turn(activity);
        }
    }
}

async fn drive<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    observed: watch::Receiver<Activity>,
    closed: &CancellationToken,
) {
    tokio::select! {
        // A client is allowed to close its connection in any way.
        _ended = connection.as_mut() => {}
        () = too_slow(observed) => {}
        () = closed.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _in_time = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
        }
    }
}

/// Returns if the connection has been idle or sending for [`IDLE_TIMEOUT`], or if llmload needs the
/// memory of its response. The timeout does not run while llmload handles a request, because a
/// reload can take long.
async fn too_slow(mut observed: watch::Receiver<Activity>) {
    loop {
        let activity = observed.borrow_and_update().clone();
        let expired = async {
            match &activity {
                Activity::Sending(Some(expired)) => expired.cancelled().await,
                _ => std::future::pending().await,
            }
        };
        let is_handling = matches!(activity, Activity::Handling);
        let changed = observed.changed();
        tokio::select! {
            changed = changed => if changed.is_err() { return },
            () = expired => return,
            () = tokio::time::sleep(IDLE_TIMEOUT), if !is_handling => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use tokio::sync::Notify;
    use tokio::time::Instant;

    /// Never responds to the first request.
    #[derive(Default)]
    struct FirstStalls {
        has_stalled: AtomicBool,
        stalls: Notify,
    }

    impl Respond for FirstStalls {
        fn tls(&self) -> Option<TlsAcceptor> {
            None
        }

        async fn respond(&self, _: Request<Incoming>, _: Peer) -> Response<Content> {
            if !self.has_stalled.swap(true, Ordering::SeqCst) {
                self.stalls.notify_one();
                std::future::pending::<()>().await;
            }
            Response::new(Content::from("the second response"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_over_http_2_does_not_block_the_next_request() {
        let (client, server) = tokio::io::duplex(64 << 10);
        let site = Arc::new(FirstStalls::default());
        let closed = CancellationToken::new();
        let serves = serve_connection(server, true, Peer::LOCAL, Arc::clone(&site), closed);
        tokio::spawn(serves);
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (mut client, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = || Request::get("http://localhost/").body(Full::<Bytes>::default()).unwrap();
        // Dropping the request sends RST_STREAM.
        tokio::select! {
            response = client.send_request(request()) => panic!("{response:?}"),
            () = site.stalls.notified() => {}
        }
        let second = tokio::time::timeout(IDLE_TIMEOUT * 2, client.send_request(request()));
        assert_eq!(second.await.expect("the next request begins").unwrap().status(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_restarts_after_every_response() {
        let (activity, observed) = watch::channel(Activity::Idle);
        let start = Instant::now();
        let clients = async {
            for _ in 0..3 {
                tokio::time::sleep(IDLE_TIMEOUT / 2).await;
                activity.send_replace(Activity::Handling);
                // This request takes longer than the idle timeout.
                tokio::time::sleep(IDLE_TIMEOUT * 2).await;
                activity.send_replace(Activity::Sending(None));
                tokio::time::sleep(IDLE_TIMEOUT / 2).await;
                activity.send_replace(Activity::Idle);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = too_slow(observed) => {}
            () = clients => {}
        }
        assert_eq!(start.elapsed(), IDLE_TIMEOUT * 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_reads_an_expired_page_is_too_slow() {
        let expired = CancellationToken::new();
        let (activity, observed) = watch::channel(Activity::Sending(Some(expired.clone())));
        let start = Instant::now();
        let expires = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            expired.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = too_slow(observed) => {}
            () = expires => {}
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        drop(activity);
    }
}
