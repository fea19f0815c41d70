//! `llmload health`: the health check of the container image, which has no shell and no curl.

mod connection;
mod remedy;

use std::io::{self, Error, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use super::variable;
use crate::endpoint;
use crate::plan;
use connection::{Connection, connect, connect_unix};

/// Shorter than the timeouts of Docker and Kubernetes, so llmload can still print an error.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The length of `HTTP/1.1 200`. llmload reads no more.
const STATUS_LINE: usize = 12;
/// The start of each response.
const HTTP1: &[u8] = b"HTTP/1.";
/// The page to check at a unix socket.
const HEALTHY: &str = "/-/healthy";
/// The size of the largest file with a password, a certificate or a key, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    // Not a doc comment, because clippy would require brackets around the URL, and the help would
    // show the brackets.
    #[arg(
        value_name = "URL",
        default_value = "http://127.0.0.1:9899/-/healthy",
        value_parser = place,
        help = "URL to check, or unix:PATH for a unix socket; status 200 means healthy"
    )]
    place: Place,
    /// User of the web server
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// File that contains the password of the user
    #[arg(long, value_name = "FILE", requires = "user", group = "password")]
    password_file: Option<PathBuf>,
    /// Name of the environment variable that holds the password of the user
    #[arg(long, value_name = "VARIABLE", requires = "user", group = "password")]
    password_env: Option<String>,
    /// Certificate authority to trust [default: the authorities of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure_skip_verify")]
    ca_file: Option<PathBuf>,
    /// Client certificate, if the web server requires one
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Private key of the client certificate
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Accept any certificate of the web server, as the kubelet does
    #[arg(long)]
    insecure_skip_verify: bool,
}

/// The page to check.
#[derive(Clone, Debug)]
enum Place {
    Url(Uri),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Url(url) => url.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Fails unless the URL returns status 200.
pub(super) fn check(args: &HealthArgs) -> anyhow::Result<()> {
    let has_user = |url: &Uri| url.authority().is_some_and(|part| part.as_str().contains('@'));
    // No message shows such a URL, because it contains a password.
    anyhow::ensure!(
        !matches!(&args.place, Place::Url(url) if has_user(url)),
        "the URL contains a user or a password; write --user and --password-file or \
         --password-env instead"
    );
    let (authorization, tls) = (authorization(args)?, tls_options(args)?);
    let status = status_line(args, &authorization, &tls, Instant::now() + TIMEOUT);
    let status = status.map_err(|error| {
        let remedy = remedy::of_error(args, &error);
        anyhow::anyhow!("{} does not respond: {error}; {remedy}", args.place)
    })?;
    let text = String::from_utf8_lossy(&status);
    // A response of HTTP/1.0 is healthy too.
    anyhow::ensure!(
        status.starts_with(HTTP1) && text.ends_with(" 200"),
        "{} responded with `{}`; {}",
        args.place,
        text.escape_debug(),
        remedy::of_response(args, &status)
    );
    Ok(())
}

/// Returns the first bytes of the response.
fn status_line(
    args: &HealthArgs,
    authorization: &str,
    tls: &plan::Connection,
    deadline: Instant,
) -> io::Result<Vec<u8>> {
    let (host, path) = match &args.place {
        Place::Url(url) => {
            (url.host().unwrap_or_default(), url.path_and_query().map_or("/", |path| path.as_str()))
        }
        Place::Unix(_) => ("localhost", HEALTHY),
    };
    let mut stream = open(args, tls, deadline)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n")
            .as_bytes(),
    )?;
    stream.flush()?;
    let mut line = [0; STATUS_LINE];
    let mut read = 0;
    // A server that speaks another protocol possibly keeps the connection open.
    while read < STATUS_LINE && HTTP1[..read.min(HTTP1.len())] == line[..read.min(HTTP1.len())] {
        match stream.read(&mut line[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The server has refused the request and closed the connection.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && read > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(line[..read].to_vec())
}

fn open(
    args: &HealthArgs,
    tls: &plan::Connection,
    deadline: Instant,
) -> io::Result<Box<dyn Connection>> {
    let url = match &args.place {
        Place::Unix(path) => return Ok(Box::new(connect_unix(path, deadline)?)),
        Place::Url(url) => url,
    };
    // A URL has brackets around an IPv6 address, but a resolver accepts none.
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_https = url.scheme() == Some(&Scheme::HTTPS);
    let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let stream = connect(host, port, deadline)?;
    if !is_https {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(endpoint::begin_tls(tls, host, stream).map_err(Error::other)?))
}

/// Reads the certificates and the key. They have no effect without TLS.
fn tls_options(args: &HealthArgs) -> anyhow::Result<plan::Connection> {
    let certificates = |pem: &str| {
        let mut found = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
        found.peek().is_some() && found.all(|certificate| certificate.is_ok())
    };
    let key = |pem: &str| PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok();
    let certificate = read_pem(args.cert_file.as_deref(), "certificate", certificates)?;
    let key = read_pem(args.key_file.as_deref(), "private key without a passphrase", key)?;
    let identity = certificate.zip(key);
    Ok(plan::Connection {
        ca: read_pem(args.ca_file.as_deref(), "certificate", certificates)?,
        identity: identity.map(|(certificate, key)| format!("{certificate}\n{key}").into()),
        insecure_skip_verify: args.insecure_skip_verify,
        ..plan::Connection::default()
    })
}

/// Reads a PEM file. The error names the expected `content`.
fn read_pem(
    file: Option<&Path>,
    content: &str,
    is_valid: impl Fn(&str) -> bool,
) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = read_small(file)?;
    anyhow::ensure!(
        is_valid(&text),
        "{} contains no valid {content} in PEM format; name a file that starts with `-----BEGIN`",
        file.display()
    );
    Ok(Some(text))
}

/// Returns the header line, or an empty text without a user.
fn authorization(args: &HealthArgs) -> anyhow::Result<String> {
    let Some(user) = &args.user else { return Ok(String::new()) };
    let password = match (&args.password_file, &args.password_env) {
        (Some(file), _) => read_small(file)?.trim_end_matches(['\r', '\n']).to_owned(),
        (None, Some(name)) => {
            let value = variable(name).and_then(|value| value.into_string().ok());
            value.with_context(|| format!("the variable {name} is not set; set it"))?
        }
        (None, None) => String::new(),
    };
    let value = endpoint::basic_authorization(user.clone(), password);
    Ok(format!("Authorization: {value}\r\n"))
}

/// Reads a text file. A pipe or a device could be endless.
fn read_small(file: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}; name a readable file", file.display());
    let metadata = std::fs::metadata(file).with_context(cannot)?;
    anyhow::ensure!(metadata.is_file() && metadata.len() <= MAX_FILE, cannot());
    std::fs::read_to_string(file).with_context(cannot)
}

fn place(text: &str) -> Result<Place, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let missing = || "the path of the unix socket is missing; write unix:PATH".to_owned();
        return if path.is_empty() { Err(missing()) } else { Ok(Place::Unix(path.into())) };
    }
    let is_http = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https"));
    let url = text.parse::<Uri>().ok().filter(is_http);
    url.filter(|url| url.host().is_some_and(|host| !host.is_empty())).map(Place::Url).ok_or_else(
        || {
            "expected a URL that starts with http:// or https://, such as \
             http://127.0.0.1:9899/-/healthy"
                .to_owned()
        },
    )
}
