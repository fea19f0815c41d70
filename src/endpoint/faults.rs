//! Finds the class ([`Failure`]) of an error of the HTTP client.
//!
//! The HTTP client classifies errors too, but its classes are misleading: every error while reading
//! a body is a "decode" error, and running out of file descriptors is a "connect" error. So the
//! functions in this module search the chain of causes (`Error::source`) instead.
//! `io::Error::source` skips the error that the `io::Error` contains, so the search also looks at
//! the contained error.
//!
//! A timeout while connecting is the only timeout that this module recognises. The module
//! `exchange` has the timers for all other timeouts.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use super::resend::{Attempt, round_trip};
use super::resolver::LookupError;
use crate::measurement::{ClientFault, Failure, FailureCause, FailureDetail, TlsFault};

/// A chain of causes, outermost first.
type Causes<'a> = [&'a (dyn Error + 'static)];

/// A request that ended before the response head.
#[derive(Debug)]
pub(super) struct SendFailure {
    pub(super) detail: FailureDetail,
    /// `Some` if the server has not worked on the request, so llmload can send it once more. The
    /// time is an upper bound for the arrival of an early response from the server.
    pub(super) resend: Option<Duration>,
}

/// Classifies an error that occurred before the response head.
pub(super) fn send_failure(attempt: &Attempt<'_>, error: reqwest::Error) -> SendFailure {
    let uses_tls = error.url().is_some_and(|url| url.scheme() == "https");
    // The query of the URL can contain a key.
    let error = error.without_url();
    let causes = causes(&error);
    let failure = if error.is_builder() {
        Failure::Internal
    } else if causes.iter().any(|cause| is_too_large(*cause)) {
        Failure::TooLarge
    } else if error.is_connect() {
        match connect_failure(&causes, uses_tls) {
            Failure::ConnectOther if error.is_timeout() => Failure::ConnectTimeout,
            failure => failure,
        }
    } else {
        established_failure(&causes)
    };
    let connection = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>()?.connect_info())
        .and_then(|connected| attempt.connection(connected));
    let is_unprocessed = failure == Failure::Reset
        && (is_refused(&causes) || is_disconnect(&causes) && attempt.is_unprocessed(connection));
    let resend = is_unprocessed.then(|| round_trip(connection));
    let detail = detail(failure, &causes);
    let detail = if error.is_connect() || error.is_builder() { detail.unsent() } else { detail };
    SendFailure { detail, resend }
}

/// Classifies an error while connecting. `uses_tls` is true if the connection uses TLS.
pub(super) fn connect_detail(error: &(dyn Error + 'static), uses_tls: bool) -> FailureDetail {
    let causes = causes(error);
    detail(connect_failure(&causes, uses_tls), &causes).unsent()
}

/// Classifies an error on an established connection before the response head.
pub(super) fn established_detail(error: &io::Error) -> FailureDetail {
    let causes = causes(error);
    detail(established_failure(&causes), &causes)
}

/// Returns true if the peer ended the connection.
pub(super) fn is_disconnected(error: &io::Error) -> bool {
    is_disconnect(&causes(error))
}

/// Classifies an error that occurred after the response head.
pub(super) fn body_detail(error: &(dyn Error + 'static)) -> FailureDetail {
    let causes = causes(error);
    let failure = if client_fault(&causes).is_some() {
        Failure::ClientResource
    } else if causes.iter().any(|cause| is_malformed(*cause)) {
        Failure::HttpProtocol
    } else {
        Failure::Truncated
    };
    detail(failure, &causes)
}

/// Classifies the failure to build the client of a further connection. The first client had the
/// same settings, so this machine lacks something that it had before. The TLS library does not
/// report why it could not read the certificates of the system. The usual reason is too many open
/// files.
pub(super) fn build_failure(error: &(dyn Error + 'static)) -> FailureDetail {
    let causes = causes(error);
    let is_unread = causes.iter().any(|cause| cause.is::<rustls::Error>());
    let fault = client_fault(&causes).or(is_unread.then_some(ClientFault::OpenFiles));
    let detail = detail(Failure::ClientResource, &causes);
    let message = format!("no client for a further HTTP/2 connection: {}", detail.message);
    FailureDetail { cause: fault.map(FailureCause::Client), ..detail.with_message(&message) }
        .unsent()
}

/// Returns the failure of a request for the models or the version, if no response arrived within
/// `timeout`.
pub(super) fn no_response(timeout: Duration) -> FailureDetail {
    FailureDetail::new(Failure::TimeoutTotal, &format!("no response within {timeout:?}"))
        .with_cause(FailureCause::NoMetadata)
}

fn connect_failure(causes: &Causes<'_>, uses_tls: bool) -> Failure {
    if client_fault(causes).is_some() {
        return Failure::ClientResource;
    }
    if lookup_error(causes).is_some() {
        return Failure::Dns;
    }
    if causes.iter().any(|cause| cause.is::<rustls::Error>()) {
        return Failure::Tls;
    }
    for kind in io_kinds(causes) {
        match kind {
            io::ErrorKind::TimedOut => return Failure::ConnectTimeout,
            io::ErrorKind::ConnectionRefused => return Failure::ConnectRefused,
            // The peer closed the connection during the handshake, or does not speak TLS.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => return Failure::Tls,
            // A connection that a server refuses has the kind `ConnectionRefused`, so this
            // connection was reset later: during the handshake.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if uses_tls => {
                return Failure::Tls;
            }
            _ => {}
        }
    }
    Failure::ConnectOther
}

/// Classifies an error on an established connection before the response head. The class is
/// [`Failure::HttpProtocol`] only if bytes arrived that are not HTTP. An unknown error is
/// [`Failure::Reset`], because a network can fail in more ways than this function knows.
fn established_failure(causes: &Causes<'_>) -> Failure {
    if client_fault(causes).is_some() {
        Failure::ClientResource
    } else if causes.iter().any(|cause| cause.is::<rustls::Error>()) {
        // With TLS 1.3, a server that rejects the client's certificate does so after the handshake.
        Failure::Tls
    } else if is_disconnect(causes) {
        Failure::Reset
    } else if causes.iter().any(|cause| is_malformed(*cause)) {
        Failure::HttpProtocol
    } else {
        Failure::Reset
    }
}

fn lookup_error<'a>(causes: &Causes<'a>) -> Option<&'a LookupError> {
    causes.iter().find_map(|cause| cause.downcast_ref())
}

/// Returns the reason for an error of TLS, if the remedy depends on it.
pub fn tls_fault_of(error: &io::Error) -> Option<TlsFault> {
    tls_fault(&causes(error))
}

/// Returns the reason for a TLS failure. Returns `None` if the remedy does not depend on the
/// reason.
fn tls_fault(causes: &Causes<'_>) -> Option<TlsFault> {
    let fault =
        causes.iter().filter_map(|cause| cause.downcast_ref::<rustls::Error>()).find_map(|error| {
            match error {
                rustls::Error::InvalidMessage(_) => Some(TlsFault::NotTls),
                rustls::Error::InvalidCertificate(error) => certificate_fault(error),
                rustls::Error::AlertReceived(AlertDescription::UnknownCA) => {
                    Some(TlsFault::UntrustedIssuer)
                }
                rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
                    Some(TlsFault::Expired)
                }
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
                    Some(TlsFault::NoClientCertificate)
                }
                _ => None,
            }
        });
    let ended = io_kinds(causes).find_map(|kind| match kind {
        io::ErrorKind::UnexpectedEof => Some(TlsFault::NotTls),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some(TlsFault::Reset),
        _ => None,
    });
    fault.or(ended)
}

fn certificate_fault(error: &CertificateError) -> Option<TlsFault> {
    match error {
        CertificateError::UnknownIssuer => Some(TlsFault::UntrustedIssuer),
        // `openssl req -x509` creates such certificates.
        CertificateError::Other(other)
            if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            Some(TlsFault::UnlistedAuthority)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some(TlsFault::WrongName)
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Some(TlsFault::Expired),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some(TlsFault::NotYetValid)
        }
        _ => None,
    }
}

/// Returns the resource of which this machine ran out.
fn client_fault(causes: &Causes<'_>) -> Option<ClientFault> {
    if lookup_error(causes).is_some_and(LookupError::is_out_of_threads) {
        return Some(ClientFault::Threads);
    }
    let mut codes =
        causes.iter().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    let fault = |code| match code {
        // EMFILE, ENFILE
        24 | 23 => Some(ClientFault::OpenFiles),
        // EADDRNOTAVAIL
        99 => Some(ClientFault::LocalPorts),
        // ENOBUFS, ENOMEM
        105 | 12 => Some(ClientFault::Memory),
        _ => None,
    };
    codes.find_map(fault)
}

/// Returns true if the peer closed the connection before the response head was complete.
fn is_disconnect(causes: &Causes<'_>) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let seen_by_hyper = causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    seen_by_hyper
        || io_kinds(causes).any(|kind| {
            matches!(
                kind,
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        })
}

/// Returns true if the server reported over HTTP/2 that it has not processed the request. The
/// server refused the stream, or it is about to close the connection and the stream is newer than
/// the last one that the server processes (RFC 9113, sections 6.8 and 8.7).
fn is_refused(causes: &Causes<'_>) -> bool {
    causes.iter().filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    })
}

/// Returns true if the response head exceeded the client's limit.
fn is_too_large(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large)
}

fn is_malformed(cause: &(dyn Error + 'static)) -> bool {
    let parse = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    let framing = cause.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    });
    // One side violated the rules of HTTP/2. Either this side found the violation, or the peer
    // reported one. A cancelled stream or connection is no violation, because the network or the
    // server can have a valid reason to cancel it.
    let http2 = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        use h2::Reason;
        let broken = [Reason::PROTOCOL_ERROR, Reason::FRAME_SIZE_ERROR, Reason::COMPRESSION_ERROR];
        !error.is_io()
            && (error.is_library() || error.reason().is_some_and(|reason| broken.contains(&reason)))
    });
    parse || framing || http2
}

fn io_kinds(causes: &Causes<'_>) -> impl Iterator<Item = io::ErrorKind> {
    causes.iter().filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()))
}

/// Returns the error and its causes, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut all = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        all.push(cause);
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    all
}

/// Returns a failure with the text of the innermost cause as its message, because the innermost
/// cause is the most exact one. The text of a failed lookup also contains the name.
fn detail(failure: Failure, causes: &Causes<'_>) -> FailureDetail {
    let lookup = lookup_error(causes);
    let innermost = || causes.last().map(ToString::to_string);
    let message = lookup.map(ToString::to_string).or_else(innermost).unwrap_or_default();
    let cause = match failure {
        Failure::Dns => lookup.map(|error| FailureCause::Lookup(error.fault())),
        Failure::Tls => tls_fault(causes).map(FailureCause::Tls),
        Failure::ClientResource => client_fault(causes).map(FailureCause::Client),
        _ => None,
    };
    FailureDetail { cause, ..FailureDetail::new(failure, &message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps a system error in two `io::Error`s, as the layers of the HTTP client do.
    fn wrapped(cause: io::Error) -> io::Error {
        io::Error::other(io::Error::new(cause.kind(), cause))
    }

    #[test]
    fn only_bytes_that_are_not_http_are_a_protocol_failure() {
        use Failure::{HttpProtocol, Reset};
        // A disconnect is the end of the connection by the peer. The network causes the others.
        for (code, disconnect) in [
            (104, true),  // ECONNRESET
            (32, true),   // EPIPE
            (110, false), // ETIMEDOUT
            (113, false), // EHOSTUNREACH
            (101, false), // ENETUNREACH
            (100, false), // ENETDOWN
            (5, false),   // EIO
        ] {
            let error = wrapped(io::Error::from_raw_os_error(code));
            let causes = causes(&error);
            assert_eq!(client_fault(&causes), None, "{error}");
            assert_eq!(established_failure(&causes), Reset, "{error}");
            assert_eq!(is_disconnect(&causes), disconnect, "{error}");
        }
        let malformed = wrapped(io::Error::new(io::ErrorKind::InvalidData, "bad chunk size"));
        assert_eq!(established_failure(&causes(&malformed)), HttpProtocol);
        let unknown = io::Error::other("something new");
        assert_eq!(established_failure(&causes(&unknown)), Reset);
    }

    #[test]
    fn a_tls_alert_after_the_handshake_is_a_tls_failure() {
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let error = wrapped(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert_eq!(established_failure(&causes(&error)), Failure::Tls);
    }

    #[test]
    fn an_exhausted_resource_is_found_at_any_depth_of_the_causes() {
        use ClientFault::{LocalPorts, Memory, OpenFiles};
        for (code, fault) in [
            (24, Some(OpenFiles)),
            (23, Some(OpenFiles)),
            (99, Some(LocalPorts)),
            (105, Some(Memory)),
            (12, Some(Memory)),
            (111, None),
        ] {
            let error = wrapped(wrapped(io::Error::from_raw_os_error(code)));
            assert_eq!(client_fault(&causes(&error)), fault, "{error}");
        }
        assert_eq!(client_fault(&causes(&io::Error::other("EMFILE"))), None);
    }

    #[test]
    fn a_client_that_cannot_be_built_is_a_lack_of_this_machine() {
        let unread = rustls::Error::General("No CA certificates were loaded".to_owned());
        for (error, fault) in [
            (wrapped(io::Error::from_raw_os_error(24)), Some(ClientFault::OpenFiles)),
            (wrapped(io::Error::from_raw_os_error(12)), Some(ClientFault::Memory)),
            (wrapped(io::Error::other(unread)), Some(ClientFault::OpenFiles)),
            (wrapped(io::Error::other("something new")), None),
        ] {
            let detail = build_failure(&error);
            assert_eq!(detail.failure, Failure::ClientResource);
            assert_eq!(detail.cause, fault.map(FailureCause::Client), "{error}");
        }
    }

    #[test]
    fn the_kind_of_a_tls_error_decides_its_tls_fault() {
        use TlsFault::{
            Expired, NoClientCertificate, NotTls, NotYetValid, Reset, UnlistedAuthority,
            UntrustedIssuer, WrongName,
        };
        let alert = rustls::Error::AlertReceived;
        let certificate = |error: CertificateError| rustls::Error::InvalidCertificate(error);
        let ca = rustls::OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity));
        for (error, fault) in [
            (rustls::InvalidMessage::InvalidContentType.into(), Some(NotTls)),
            (certificate(CertificateError::UnknownIssuer), Some(UntrustedIssuer)),
            (certificate(CertificateError::Other(ca)), Some(UnlistedAuthority)),
            (alert(AlertDescription::UnknownCA), Some(UntrustedIssuer)),
            (alert(AlertDescription::CertificateRequired), Some(NoClientCertificate)),
            (certificate(CertificateError::NotValidForName), Some(WrongName)),
            (certificate(CertificateError::Expired), Some(Expired)),
            (certificate(CertificateError::NotValidYet), Some(NotYetValid)),
            (certificate(CertificateError::BadSignature), None),
            (rustls::Error::DecryptError, None),
        ] {
            let error = wrapped(io::Error::new(io::ErrorKind::InvalidData, error));
            let detail = detail(Failure::Tls, &causes(&error));
            assert_eq!(detail.cause, fault.map(FailureCause::Tls), "{error}");
        }
        let closed = wrapped(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
        let detail = detail(Failure::Tls, &causes(&closed));
        assert_eq!(detail.cause, Some(FailureCause::Tls(NotTls)));
        let reset = wrapped(io::Error::from_raw_os_error(104));
        let detail = super::detail(Failure::Tls, &causes(&reset));
        assert_eq!(detail.cause, Some(FailureCause::Tls(Reset)));
    }
}
