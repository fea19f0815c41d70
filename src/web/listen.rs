//! The addresses of the web server: TCP ports and unix sockets.
//!
//! The permissions of a unix socket allow its user and its group to connect. So llmload needs no
//! TLS there, and accepts admin requests.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The permissions of a unix socket: its user and its group can connect.
const SOCKET_MODE: u32 = 0o660;
/// The number of clients that can wait at a unix socket until llmload accepts them.
const BACKLOG: i32 = 128;
/// The scheme of the address of a unix socket.
const UNIX: &str = "unix:";

/// An address of `--web.listen-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ListenAddressError {
    #[error("expected ADDRESS:PORT, :PORT or unix:PATH, such as 127.0.0.1:9899 or :9899")]
    Form,
    #[error("the path of the unix socket is missing; write unix:PATH")]
    NoPath,
}

/// Parses an address. `:9899` listens on all IPv4 and IPv6 interfaces, as in Prometheus.
impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            // `unix:///run/a.sock` and `unix:/run/a.sock` name the same socket.
            let path = path.strip_prefix("//").unwrap_or(path);
            let missing = path.is_empty().then_some(ListenAddressError::NoPath);
            return missing.map_or(Ok(ListenAddress::Unix(path.into())), Err);
        }
        let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        let resolve = || full.to_socket_addrs().ok()?.next();
        let address = full.parse().ok().or_else(resolve);
        address.map(ListenAddress::Tcp).ok_or(ListenAddressError::Form)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    /// The system refuses the address, or another process listens at it.
    pub fn bind(address: &ListenAddress) -> io::Result<Listener> {
        match address {
            ListenAddress::Tcp(address) => bind_tcp(*address).map(Listener::Tcp),
            ListenAddress::Unix(path) => bind_unix(path),
        }
    }
}

/// Opens a TCP port.
///
/// # Errors
/// The system refuses the address, or another process listens at it.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).or_else(|error| {
        // This machine has no IPv6, so llmload listens on all IPv4 interfaces.
        if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        } else {
            Err(error)
        }
    })
}

/// Opens a unix socket. A process that was killed leaves its socket file, so llmload replaces a
/// socket at which nobody listens. It replaces no other file.
fn bind_unix(path: &Path) -> io::Result<Listener> {
    let listener = open_unix(path).or_else(|error| {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        let is_refused = || {
            // A process with a full queue of clients listens too.
            let connected = connect_unix_at_once(path);
            connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        if error.kind() != ErrorKind::AddrInUse || !is_socket || !is_refused() {
            return Err(error);
        }
        fs::remove_file(path)?;
        open_unix(path)
    })?;
    let file = SocketFile::new(path)?;
    // The umask has possibly removed permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(Listener::Unix(listener, file))
}

/// Opens a unix socket. On Linux, its file never has more permissions than [`SOCKET_MODE`].
fn open_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM, None)?));
    // Linux creates the file with the permissions of the socket. Other systems refuse this call.
    let _is_refused = socket.set_permissions(fs::Permissions::from_mode(SOCKET_MODE));
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connects to a unix socket, but does not wait.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] if a process listens and many clients wait for it, and
/// [`ErrorKind::ConnectionRefused`] if no process listens.
pub fn connect_unix_at_once(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// The file of a unix socket. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process has possibly replaced the socket.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _is_left = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// A connection of a client.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_forms_of_prometheus_and_of_unix_sockets() {
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().unwrap());
        let unix = |path: &str| ListenAddress::Unix(path.into());
        for (text, address) in [
            (":9899", tcp("[::]:9899")),
            ("127.0.0.1:0", tcp("127.0.0.1:0")),
            ("[::1]:80", tcp("[::1]:80")),
            ("unix:/run/llmload.sock", unix("/run/llmload.sock")),
            ("unix:///run/llmload.sock", unix("/run/llmload.sock")),
            ("unix:llmload.sock", unix("llmload.sock")),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap(), address, "{text}");
        }
        for text in ["", "9899", "127.0.0.1", "unix:", "unix://", "http://127.0.0.1:1"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_unix_socket_never_has_permissions_for_everyone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let _listener = open_unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !SOCKET_MODE, 0, "{mode:o}");
    }

    #[test]
    fn a_process_with_a_full_queue_of_clients_keeps_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let server = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(0).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match connect_unix_at_once(&path) {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let in_use = Listener::bind(&ListenAddress::Unix(path)).unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn only_a_socket_at_which_nobody_listens_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let address = ListenAddress::Unix(path.clone());
        let first = Listener::bind(&address).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let in_use = Listener::bind(&address).unwrap_err();
        assert_eq!(in_use.kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "the end of the listener removes its file");
        // A process that is killed leaves its file.
        drop(UnixListener::bind(&path).unwrap());
        let second = Listener::bind(&address).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file of somebody else").unwrap();
        drop(second);
        assert!(path.exists(), "the file is not the socket of this listener");
        assert!(Listener::bind(&address).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file of somebody else");
    }
}
