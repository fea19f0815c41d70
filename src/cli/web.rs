//! The options of the web server.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::Failed;
use crate::web::{self, ListenAddress, Listener, SecurityError, WebOptions, WebSecurity};

#[derive(Debug, Args)]
pub(super) struct WebArgs {
    /// Address of /metrics and the status page: ADDRESS:PORT, :PORT or unix:PATH. Repeat this
    /// option for several addresses
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":9899")]
    listen_addresses: Vec<ListenAddress>,
    /// File with the TLS certificate and the users of the web server, in the format of Prometheus'
    /// exporter-toolkit [default: plain HTTP for everyone]
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Accept admin commands (/-/reload, /-/pause, /-/resume, /-/quit, rates) from other machines
    /// and under any host name
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
}

impl WebArgs {
    /// Opens the sockets and reads the web configuration file.
    pub(super) fn open(&self) -> Result<WebOptions, Failed> {
        let file = self.web_config_file.as_deref();
        open(&self.listen_addresses, file, self.enable_lifecycle)
    }
}

/// The options of the web server of a run, which opens no port by default.
#[derive(Debug, Default, Args)]
pub(super) struct RunWebArgs {
    /// Serve /metrics and the status page at this address during the run: ADDRESS:PORT, :PORT or
    /// unix:PATH. Repeat this option for several addresses [default: no port]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    listen_addresses: Vec<ListenAddress>,
    /// File with the TLS certificate and the users of the web server, in the format of Prometheus'
    /// exporter-toolkit [default: plain HTTP for everyone]
    #[arg(long = "web.config.file", value_name = "FILE", requires = "listen_addresses")]
    web_config_file: Option<PathBuf>,
}

impl RunWebArgs {
    /// As [`WebArgs::open`]. Returns `None` without an address.
    pub(super) fn open(&self) -> Result<Option<WebOptions>, Failed> {
        if self.listen_addresses.is_empty() {
            return Ok(None);
        }
        open(&self.listen_addresses, self.web_config_file.as_deref(), false).map(Some)
    }
}

fn open(
    addresses: &[ListenAddress],
    file: Option<&Path>,
    lifecycle: bool,
) -> Result<WebOptions, Failed> {
    let security = file.map_or_else(|| Ok(WebSecurity::default()), WebSecurity::of_file);
    let security = security.map_err(|error| match error {
        SecurityError::Invalid(invalid) => Failed::from(invalid),
        SecurityError::Thread => Failed::from(anyhow::Error::new(error)),
    })?;
    if security.sends_passwords_in_clear() && addresses.iter().any(is_reachable) {
        tracing::warn!(
            "the web server has users but no TLS, so others on the network path can read their \
             passwords; add `tls_server_config` to the web configuration file"
        );
    }
    let listeners = addresses.iter().map(|address| {
        Listener::bind(address).map_err(|error| {
            let remedy = remedy(address, &error);
            anyhow::anyhow!("cannot listen on {address}: {error}; {remedy}")
        })
    });
    let listeners = listeners.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(WebOptions { listeners, lifecycle, security })
}

/// Returns the remedy for an address that the system refuses.
fn remedy(address: &ListenAddress, error: &Error) -> &'static str {
    let ListenAddress::Unix(path) = address else {
        return "choose another address with --web.listen-address";
    };
    let is_socket = || path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    match error.kind() {
        ErrorKind::NotFound => "create its folder, or correct the path",
        ErrorKind::NotADirectory => "correct the path: a part of it is a file, not a folder",
        ErrorKind::PermissionDenied => "make its folder writable for llmload",
        ErrorKind::AddrInUse if is_socket() => "end the process that listens there",
        ErrorKind::AddrInUse => "remove this file, which is no socket, or choose another path",
        ErrorKind::InvalidInput => "use a shorter path: a unix socket allows 107 bytes",
        _ => "choose another path",
    }
}

/// Returns true if clients on other machines can connect to the address.
fn is_reachable(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

/// Parses the address of the simulator, which has no unix socket.
pub(super) fn tcp_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse() {
        Ok(ListenAddress::Tcp(address)) => Ok(address),
        _ => Err("expected ADDRESS:PORT or :PORT, such as 127.0.0.1:9899 or :9899".to_owned()),
    }
}

pub(super) fn listen_tcp(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    web::bind_tcp(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with --web.listen-address")
    })
}
