//! `llmload health`: asks a daemon whether it is healthy. An image without a shell has nothing else
//! to ask with.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::Uri;
use http::uri::Scheme;
use tokio::time::Instant;

/// Below the timeout that Docker and Kubernetes give a check, so that it fails with words.
const PATIENCE: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200`: what follows is not read.
const STATUS_LINE: usize = 12;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    // Not a doc comment: that would want the address in brackets, and show them.
    #[arg(
        value_name = "URL",
        default_value = "http://127.0.0.1:9899/-/healthy",
        value_parser = page,
        help = "What to ask; anything that answers 200 is healthy"
    )]
    url: Uri,
}

/// Nothing where it answers 200, else what it did.
pub(super) fn ask(args: &HealthArgs) -> anyhow::Result<()> {
    let status = status_line(&args.url, Instant::now() + PATIENCE);
    let status = status.with_context(|| format!("{} does not answer", args.url))?;
    // `HTTP/1.0 200` is as healthy.
    anyhow::ensure!(
        status.starts_with("HTTP/1.") && status.ends_with(" 200"),
        "{} answers `{}`",
        args.url,
        status.escape_debug()
    );
    Ok(())
}

fn status_line(url: &Uri, deadline: Instant) -> std::io::Result<String> {
    let host = url.host().unwrap_or_default();
    // An address in brackets is one of IPv6; resolvers want it without.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (name, url.port_u16().unwrap_or(80)).to_socket_addrs()?;
    let mut stream = connect(addresses, deadline)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut line = [0; STATUS_LINE];
    let mut read = 0;
    while read < STATUS_LINE {
        // Anew each time: one byte now and then would outlive a timeout of each read.
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut line[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // That is how a read that timed out is told.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line[..read]).into_owned())
}

/// To the first address of a name that takes a connection: `localhost` may have two.
fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> std::io::Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn page(text: &str) -> Result<Uri, String> {
    let url = text.parse::<Uri>().ok().filter(|url| url.scheme() == Some(&Scheme::HTTP));
    url.filter(|url| url.host().is_some_and(|host| !host.is_empty())).ok_or_else(|| {
        "expected a URL that starts with http://, such as http://127.0.0.1:9899/-/healthy"
            .to_owned()
    })
}
