//! Accepts the connections of the web server, even at the limit of open files. For this case,
//! llmload keeps some files open in reserve, and closes one of them for each connection.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Error};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::listen::{Listener, SocketFile, Stream};
use super::origin::Peer;

/// The files in reserve: for a scrape, a health check, a readiness check and a person.
const RESERVE: usize = 4;
/// The shortest time between two log lines about connections that llmload could not accept.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// The pause after an error. Without it, a retry would be a busy loop.
const RETRY: Duration = Duration::from_millis(100);
/// The size of the send buffer of a connection, in bytes. The kernel uses up to twice as much. With
/// a round trip of 100 ms, a client still receives a megabyte per second.
#[cfg(target_os = "linux")]
const SEND_BUFFER: usize = 64 << 10;
/// `EMFILE` and `ENFILE`: the process or the system has too many open files.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// Files that are open only so that llmload can close them.
#[derive(Debug, Default)]
pub(super) struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    /// Opens files until the reserve is full or no file is free.
    pub(super) fn refill(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while files.len() < RESERVE {
            match File::open("/dev/null") {
                Ok(file) => files.push(file),
                Err(_) => return,
            }
        }
    }

    /// Closes a file. Returns false if the reserve is empty.
    fn release(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().is_some()
    }
}

/// A listener on the runtime.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// The file exists as long as the listener.
    Unix(UnixListener, SocketFile),
}

impl Socket {
    fn new(listener: Listener) -> io::Result<Socket> {
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                limit_send_buffers(&listener);
                Ok(Socket::Tcp(listener))
            }
            Listener::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Ok(Socket::Unix(UnixListener::from_std(listener)?, file))
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match self {
            Socket::Tcp(listener) => listener.poll_accept(context).map_ok(|(stream, address)| {
                let peer = Peer::new(address.ip(), stream.local_addr().ok());
                (Stream::Tcp(stream), peer)
            }),
            Socket::Unix(listener, _) => listener
                .poll_accept(context)
                .map_ok(|(stream, _)| (Stream::Unix(stream), Peer::LOCAL)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Acceptor {
    sockets: Vec<Socket>,
    /// The socket that is tried first, so that no socket delays the others.
    first: usize,
    reserve: Arc<Reserve>,
    log: AcceptLog,
}

impl Acceptor {
    /// # Errors
    /// The runtime cannot use a socket.
    pub(super) fn new(listeners: Vec<Listener>) -> io::Result<Acceptor> {
        let reserve = Arc::new(Reserve::default());
        reserve.refill();
        let sockets = listeners.into_iter().map(Socket::new).collect::<io::Result<Vec<_>>>()?;
        Ok(Acceptor { sockets, first: 0, reserve, log: AcceptLog::default() })
    }

    /// Returns the reserve. The end of a connection refills it.
    pub(super) fn reserve(&self) -> Arc<Reserve> {
        Arc::clone(&self.reserve)
    }

    /// Returns the URLs of the sockets for a log line. `scheme` is the one of TCP ports.
    pub(super) fn urls(&self, scheme: &str) -> Vec<String> {
        let url = |socket: &Socket| match socket {
            Socket::Tcp(listener) => Some(reachable_url(scheme, listener.local_addr().ok()?)),
            Socket::Unix(_, file) => Some(format!("unix:{}", file.path().display())),
        };
        self.sockets.iter().filter_map(url).collect()
    }

    /// Waits for the next connection. Returns `None` if no file is free for it.
    pub(super) async fn accept(&mut self) -> Option<(Stream, Peer)> {
        loop {
            let error = match poll_fn(|context| self.poll_accept(context)).await {
                Ok(accepted) => {
                    self.reserve.refill();
                    return Some(accepted);
                }
                Err(error) => error,
            };
            let is_full = error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
            self.log.record(&error, is_full);
            if is_full && self.reserve.release() {
                continue;
            }
            tokio::time::sleep(RETRY).await;
            if is_full {
                return None;
            }
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        let count = self.sockets.len();
        for index in (0..count).map(|step| (self.first + step) % count) {
            if let Poll::Ready(accepted) = self.sockets[index].poll_accept(context) {
                self.first = (index + 1) % count;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

/// Returns a URL that a browser on this machine can open.
fn reachable_url(scheme: &str, address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("{scheme}://localhost:{}/ (all interfaces)", address.port())
    } else {
        format!("{scheme}://{address}/")
    }
}

/// Limits the memory of the kernel for each accepted connection. Otherwise a client that does not
/// read costs several megabytes, which count for the memory limit of a container.
fn limit_send_buffers(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(listener, SEND_BUFFER) {
        tracing::debug!(%error, "the send buffers of the web port have no limit");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Logs errors of `accept`, at most one line per [`LOG_INTERVAL`].
#[derive(Debug, Default)]
struct AcceptLog {
    logged_at: Option<Instant>,
    not_logged: u64,
}

impl AcceptLog {
    fn record(&mut self, error: &Error, is_full: bool) {
        let Some(errors) = self.count(Instant::now()) else { return };
        if is_full {
            tracing::warn!(
                errors,
                "the web port uses its reserve of files, because no other file is free; raise \
                 `ulimit -n` or lower max_concurrency"
            );
        } else {
            tracing::warn!(%error, errors, "could not accept a connection to the web port");
        }
    }

    /// Counts an error. If a line is due, returns the number of errors since the last line.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.not_logged += 1;
        let is_due = self
            .logged_at
            .is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL);
        is_due.then(|| {
            self.logged_at = Some(now);
            std::mem::take(&mut self.not_logged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_and_logged_once_a_minute() {
        let (mut log, start) = (AcceptLog::default(), Instant::now());
        assert_eq!(log.count(start), Some(1));
        for second in 1..60 {
            assert_eq!(log.count(start + Duration::from_secs(second)), None);
        }
        assert_eq!(log.count(start + LOG_INTERVAL), Some(60));
        assert_eq!(log.count(start + LOG_INTERVAL), None);
    }
}
