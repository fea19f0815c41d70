//! A TCP connection with or without TLS, or a connection to a unix socket.
//!
//! All connections of a thread share one buffer for reads, because a read never waits while it uses
//! the buffer. So an idle or slow connection needs no memory for a buffer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// The longest read, in bytes.
const BUFFER: usize = 64 * 1024;
/// The time without a packet after which the system tests if the server is still there, and the
/// interval of these tests.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The number of tests without a reply after which the connection ends.
const KEEPALIVE_RETRIES: u32 = 3;
/// The time after which the connection ends if the server does not acknowledge the bytes that
/// llmload sent.
#[cfg(target_os = "linux")]
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Sends the message that ends a TLS connection, so the server does not log a cut connection. If
/// the message cannot be written at once, the connection ends without it.
impl Drop for Socket {
    fn drop(&mut self) {
        if let Socket::Tls(stream) = self {
            let context = &mut Context::from_waker(Waker::noop());
            let _is_sent = Pin::new(stream).poll_shutdown(context);
        }
    }
}

/// Sets the options of a new connection. Without them, the connection still works.
pub(super) fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Without this option, the kernel holds back the end of a request until the server has
    // acknowledged its start.
    let _delays = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(KEEPALIVE_RETRIES);
    let _is_untested = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _has_longer_time = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_WITHIN));
}

impl Socket {
    fn system_socket(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Tls(stream) => SockRef::from(stream.get_ref().0),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }

    /// Reads once and passes the bytes to `take`. The number of bytes is 0 if the server has closed
    /// its side of the connection.
    pub(super) fn poll_read<T>(
        &mut self,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut [u8]) -> T,
    ) -> Poll<io::Result<T>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(match self {
                Socket::Tcp(stream) => Pin::new(stream).poll_read(context, &mut read),
                Socket::Tls(stream) => Pin::new(stream).poll_read(context, &mut read),
                Socket::Unix(stream) => Pin::new(stream).poll_read(context, &mut read),
            })?;
            Poll::Ready(Ok(take(read.filled_mut())))
        })
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    /// Passes on the bytes that TLS has encrypted but not written yet.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Returns true if an idle connection is open and no bytes have arrived on it. No request was
    /// sent, so bytes would not be its response.
    pub(super) fn is_idle(&mut self) -> bool {
        // The server can have sent a message of TLS that has no content for the request.
        let has_content = match self {
            Socket::Tcp(_) | Socket::Unix(_) => false,
            Socket::Tls(_) => {
                self.poll_read(&mut Context::from_waker(Waker::noop()), |_| ()).is_ready()
            }
        };
        // The runtime learns of the end of a connection only in its next turn, the system knows it
        // at once.
        let mut byte = [MaybeUninit::uninit()];
        let is_silent = match self.system_socket().peek(&mut byte) {
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        !has_content && is_silent
    }
}
