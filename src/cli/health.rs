//! `llmload health`: the health check of the container image, which has no shell and no curl.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::Uri;
use http::uri::Scheme;
use tokio::time::Instant;

/// Shorter than the timeouts of Docker and Kubernetes, so llmload can still print an error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The length of `HTTP/1.1 200`. llmload reads no more.
const STATUS_LINE: usize = 12;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    // Not a doc comment, because clippy would require brackets around the URL, and the help would
    // show the brackets.
    #[arg(
        value_name = "URL",
        default_value = "http://127.0.0.1:9899/-/healthy",
        value_parser = http_url,
        help = "URL to check; status 200 means healthy"
    )]
    url: Uri,
}

/// Fails unless the URL returns status 200.
pub(super) fn check(args: &HealthArgs) -> anyhow::Result<()> {
    let status = status_line(&args.url, Instant::now() + TIMEOUT);
    let status = status.with_context(|| format!("{} does not respond", args.url))?;
    // A response of HTTP/1.0 is healthy too.
    anyhow::ensure!(
        status.starts_with("HTTP/1.") && status.ends_with(" 200"),
        "{} responded with `{}`",
        args.url,
        status.escape_debug()
    );
    Ok(())
}

fn status_line(url: &Uri, deadline: Instant) -> std::io::Result<String> {
    let host = url.host().unwrap_or_default();
    // A URL has brackets around an IPv6 address, but a resolver accepts none.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (name, url.port_u16().unwrap_or(80)).to_socket_addrs()?;
    let mut stream = connect(addresses, deadline)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut line = [0; STATUS_LINE];
    let mut read = 0;
    while read < STATUS_LINE {
        // Each read has only the time until the deadline. With a fixed timeout, a server that sends
        // one byte at a time could hold the check forever.
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut line[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The read has timed out.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&line[..read]).into_owned())
}

/// Connects to the first address that accepts a connection, because `localhost` can have two.
fn connect(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> std::io::Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, remaining(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn remaining(deadline: Instant) -> std::io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

fn http_url(text: &str) -> Result<Uri, String> {
    let url = text.parse::<Uri>().ok().filter(|url| url.scheme() == Some(&Scheme::HTTP));
    url.filter(|url| url.host().is_some_and(|host| !host.is_empty())).ok_or_else(|| {
        "expected a URL that starts with http://, such as http://127.0.0.1:9899/-/healthy"
            .to_owned()
    })
}
