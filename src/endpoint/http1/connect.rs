//! Opens a connection: name lookup, TCP and TLS.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::super::ConnectTiming;
use super::super::faults;
use super::super::resolver::{addresses_of, connect_within};
use super::socket::{self, Socket};
use crate::measurement::{Failure, FailureDetail};
use crate::plan;

/// The time that the addresses of one family have before llmload also tries the other family. A
/// host can have IPv6 addresses that do not work (RFC 8305, section 5).
const FALLBACK_DELAY: Duration = Duration::from_millis(300);

type ConnectError = Box<dyn Error + Send + Sync>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// The time to establish the connection.
    pub(super) timing: ConnectTiming,
    /// True if a response has arrived on the connection.
    pub(super) has_responded: bool,
}

#[derive(Debug)]
enum Server {
    Tcp {
        host: Host<String>,
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Opens connections to one server.
#[derive(Debug)]
pub(super) struct Connector {
    server: Server,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The limit for the lookup, TCP and TLS together.
    limit: Duration,
}

impl Connector {
    /// Uses TLS if `tls` has a configuration.
    ///
    /// # Errors
    /// The URL has no host, or TLS does not allow its name.
    pub(super) fn new(
        base: &Url,
        tls: Option<ClientConfig>,
        limit: Duration,
    ) -> Result<Connector, Box<dyn Error + Send + Sync>> {
        if let Some(socket) = plan::unix_socket(base) {
            return Ok(Connector { server: Server::Unix(socket), tls: None, limit });
        }
        let no_host = "the URL has no host";
        let host = base.host().ok_or(no_host)?.to_owned();
        let port = base.port_or_known_default().ok_or(no_host)?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let name = match &host {
                    Host::Domain(name) => ServerName::try_from(name.clone())?,
                    Host::Ipv4(address) => ServerName::IpAddress(IpAddr::V4(*address).into()),
                    Host::Ipv6(address) => ServerName::IpAddress(IpAddr::V6(*address).into()),
                };
                Some((Arc::new(config), name))
            }
        };
        Ok(Connector { server: Server::Tcp { host, port }, tls, limit })
    }

    /// Opens a connection within the limit.
    ///
    /// # Errors
    /// The failure class of the step that did not succeed.
    pub(super) async fn connect(&self) -> Result<Connection, FailureDetail> {
        let (start, has_tcp) = (Instant::now(), AtomicBool::new(false));
        // Only new connections need this future, so it does not enlarge each request.
        let connecting = connect_within(self.limit, Box::pin(self.open(&has_tcp)));
        let (socket, dns) = connecting.await.map_err(|error| {
            let detail = faults::connect_detail(&*error, self.tls.is_some());
            if detail.failure == Failure::ConnectTimeout && has_tcp.load(Ordering::Relaxed) {
                let limit = self.limit;
                let message = format!("the TLS handshake did not end within {limit:?}");
                return detail.with_message(&message);
            }
            detail
        })?;
        let connect = start.elapsed().saturating_sub(dns.unwrap_or_default());
        let timing = ConnectTiming { dns, connect };
        Ok(Connection { socket, timing, has_responded: false })
    }

    /// Sets `has_tcp` when only TLS is left.
    async fn open(&self, has_tcp: &AtomicBool) -> Result<Socket, ConnectError> {
        let (host, port) = match &self.server {
            Server::Tcp { host, port } => (host, *port),
            Server::Unix(path) => return Ok(Socket::Unix(connect_to_socket(path).await?)),
        };
        let addresses = match host {
            Host::Domain(name) => addresses_of(name).await?,
            Host::Ipv4(address) => vec![SocketAddr::from((*address, 0))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, 0))],
        };
        let with_port = addresses.into_iter().map(|mut address| {
            address.set_port(port);
            address
        });
        // The caller ends the connecting after the limit, and knows the reason. This longer limit
        // only divides the time among the addresses of a name.
        let limit = self.limit + self.limit / 10;
        let stream = connect_to_any(with_port.collect(), limit).await?;
        socket::set_options(&stream);
        has_tcp.store(true, Ordering::Relaxed);
        Ok(match &self.tls {
            None => Socket::Tcp(stream),
            Some((tls, name)) => {
                let tls = TlsConnector::from(Arc::clone(tls));
                Socket::Tls(Box::new(tls.connect(name.clone(), stream).await?))
            }
        })
    }
}

/// Connects to a unix socket. If its file does not exist, the server does not run, as if a port
/// refused the connection.
async fn connect_to_socket(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let message = format!("the unix socket {} does not exist", path.display());
            io::Error::new(io::ErrorKind::ConnectionRefused, message)
        }
        _ => error,
    })
}

/// Connects to the first address that accepts the connection. The addresses of the family of the
/// first address have priority.
async fn connect_to_any(addresses: Vec<SocketAddr>, limit: Duration) -> io::Result<TcpStream> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    if others.is_empty() {
        return connect_in_order(&preferred, limit).await;
    }
    let delayed = async {
        tokio::time::sleep(FALLBACK_DELAY).await;
        connect_in_order(&others, limit).await
    };
    let began = Instant::now();
    let mut delayed = Box::pin(delayed);
    let mut first = Box::pin(connect_in_order(&preferred, limit));
    let first_error = tokio::select! {
        biased;
        connected = &mut first => match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                // The other family does not have to wait any longer, unless it has begun.
                let connected = if began.elapsed() < FALLBACK_DELAY {
                    connect_in_order(&others, limit).await
                } else {
                    delayed.await
                };
                return connected.map_err(|_| error);
            }
        },
        connected = &mut delayed => match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        },
    };
    first.await.map_err(|_| first_error)
}

/// Tries one address after the other. Each address has an equal part of the limit. The first error
/// is usually the most relevant one.
async fn connect_in_order(addresses: &[SocketAddr], limit: Duration) -> io::Result<TcpStream> {
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut first_error = None;
    for address in addresses {
        let connecting = tokio::time::timeout(limit / parts, TcpStream::connect(address));
        match connecting.await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => _ = first_error.get_or_insert(error),
            Err(_) => {
                let message = format!("{address} did not respond within {:?}", limit / parts);
                let error = io::Error::new(io::ErrorKind::TimedOut, message);
                first_error.get_or_insert(error);
            }
        }
    }
    let none = || io::Error::new(io::ErrorKind::NotConnected, "the name has no address");
    Err(first_error.unwrap_or_else(none))
}
