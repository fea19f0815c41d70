//! The remedies for a page that is not healthy.

use std::io::{self, ErrorKind};

use http::Uri;
use http::uri::Scheme;

use super::{HEALTHY, HealthArgs, Place};
use crate::endpoint::tls_fault_of;
use crate::measurement::TlsFault;

/// The first bytes of an alert of TLS.
const TLS_ALERT: &[u8] = &[0x15, 3];

/// Returns the remedy for a response without status 200. It begins with `status`.
pub(super) fn of_response(args: &HealthArgs, status: &[u8]) -> String {
    let text = String::from_utf8_lossy(status);
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..));
    let of_scheme = https_instead(args);
    match code {
        Some("401") if args.user.is_none() => {
            "write --user, and --password-file or --password-env".to_owned()
        }
        Some("401") => "correct the user or the password".to_owned(),
        Some("404") => format!("correct the path; llmload serves {HEALTHY} and /-/ready"),
        Some("400") => of_scheme.unwrap_or_else(|| "correct the URL".to_owned()),
        Some("503") => "wait until the server is ready, or check its log".to_owned(),
        Some(code) if code.starts_with('3') => {
            "name the URL to which this one redirects".to_owned()
        }
        Some(_) => "check the URL, and the log of the server".to_owned(),
        None if status.is_empty() || status.starts_with(TLS_ALERT) => {
            of_scheme.unwrap_or_else(|| "check the log of the server".to_owned())
        }
        None => "correct the address, because this is no complete response of HTTP/1".to_owned(),
    }
}

/// Returns the remedy for a page that does not respond.
pub(super) fn of_error(args: &HealthArgs, error: &io::Error) -> String {
    let path = match &args.place {
        Place::Url(url) => return of_tls(url, error).unwrap_or_else(|| of_network(args, error)),
        Place::Unix(path) => path,
    };
    let is_other_file = || path.metadata().is_ok_and(|file| file.is_file() || file.is_dir());
    match error.kind() {
        ErrorKind::NotFound => "start llmload with --web.listen-address unix:PATH, or correct the \
                                path: no such file exists"
            .to_owned(),
        ErrorKind::PermissionDenied => {
            "run the check as a member of the group of the socket".to_owned()
        }
        ErrorKind::ConnectionRefused if is_other_file() => {
            "correct the path: the file is no socket".to_owned()
        }
        ErrorKind::ConnectionRefused => "start llmload: nothing listens at the socket".to_owned(),
        ErrorKind::InvalidInput => "use a shorter path: a unix socket allows 107 bytes".to_owned(),
        _ => of_network(args, error),
    }
}

fn of_network(args: &HealthArgs, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "start llmload, or name the address of its --web.listen-address".to_owned()
        }
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            "check the address, the load of the machine, and the log of the server".to_owned()
        }
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            https_instead(args).unwrap_or_else(|| "check the log of the server".to_owned())
        }
        _ => "check the host name and the port".to_owned(),
    }
}

fn of_tls(url: &Uri, error: &io::Error) -> Option<String> {
    if url.scheme() != Some(&Scheme::HTTPS) {
        return None;
    }
    let remedy = match tls_fault_of(error)? {
        TlsFault::NotTls => "use http://, because the port does not expect TLS",
        TlsFault::UntrustedIssuer => {
            "name the authority of the server's certificate with --ca-file, or write \
             --insecure-skip-verify"
        }
        TlsFault::UnlistedAuthority => {
            "name the server's certificate with --ca-file, or write --insecure-skip-verify"
        }
        TlsFault::NoClientCertificate => "write --cert-file and --key-file",
        TlsFault::WrongName => "use a host name that is in the server's certificate",
        TlsFault::Expired => "renew the server's certificate, or correct the clock of this machine",
        TlsFault::NotYetValid => "correct the clock of this machine",
        TlsFault::Reset => "check the log of the server",
    };
    Some(remedy.to_owned())
}

/// The remedy for a port that expects TLS. `None` if the URL already has https.
fn https_instead(args: &HealthArgs) -> Option<String> {
    let Place::Url(url) = &args.place else { return None };
    (url.scheme() == Some(&Scheme::HTTP))
        .then(|| "use https:// if the port expects TLS, or check the log of the server".to_owned())
}
