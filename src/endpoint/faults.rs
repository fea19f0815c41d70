//! Which class an error of the client is.
//!
//! The library's own flags mislead (every error of a body is a "decode" error, running out of
//! file descriptors is a "connect" error), so the chain of causes is walked instead. An
//! `io::Error` hides what it wraps from `source()`, so it is opened as well. Timeouts other than
//! connecting are never found here: llmload's own timers know which of them fired.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::connections::Connections;
use crate::measurement::{Failure, FailureDetail};

/// An error before the response head.
pub(super) fn classify_send(connections: &Connections, error: reqwest::Error) -> FailureDetail {
    // The address may carry a key in its query.
    let error = error.without_url();
    let causes = causes(&error);
    let used_before = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>()?.connect_info())
        .is_some_and(|connected| connections.was_used(connected));
    let failure = if error.is_builder() {
        Failure::Internal
    } else if causes.iter().any(|cause| is_too_large(*cause)) {
        Failure::TooLarge
    } else if lacks_resource(&causes) {
        Failure::ClientResource
    } else if error.is_connect() {
        connect_failure(&error, &causes)
    } else {
        established_failure(&causes, used_before)
    };
    detail(failure, &causes)
}

/// An error after the response head.
pub(super) fn classify_body(error: &reqwest::Error) -> FailureDetail {
    let causes = causes(error);
    let failure = if lacks_resource(&causes) {
        Failure::ClientResource
    } else if causes.iter().any(|cause| is_malformed(*cause)) {
        Failure::HttpProtocol
    } else {
        Failure::Truncated
    };
    detail(failure, &causes)
}

/// A question outside the schedule that nobody answered.
pub(super) fn no_answer(patience: Duration) -> FailureDetail {
    FailureDetail::new(Failure::TimeoutTotal, &format!("no answer within {patience:?}"))
}

fn connect_failure(error: &reqwest::Error, causes: &[&(dyn Error + 'static)]) -> Failure {
    if error.is_dns() {
        return Failure::Dns;
    }
    if causes.iter().any(|cause| cause.is::<rustls::Error>()) {
        return Failure::Tls;
    }
    if error.is_timeout() {
        return Failure::ConnectTimeout;
    }
    for kind in io_kinds(causes) {
        match kind {
            io::ErrorKind::TimedOut => return Failure::ConnectTimeout,
            io::ErrorKind::ConnectionRefused => return Failure::ConnectRefused,
            // The peer hung up or talked something else in the middle of the handshake.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => return Failure::Tls,
            _ => {}
        }
    }
    Failure::ConnectOther
}

/// What befell an established connection before the response head. It is the protocol's fault only
/// where bytes came that are not HTTP: the network can fail in more ways than have names here.
fn established_failure(causes: &[&(dyn Error + 'static)], used_before: bool) -> Failure {
    if causes.iter().any(|cause| cause.is::<rustls::Error>()) {
        // With TLS 1.3 a server turns a client's certificate down after the handshake.
        Failure::Tls
    } else if was_cut(causes) {
        if used_before { Failure::StaleConnection } else { Failure::Reset }
    } else if causes.iter().any(|cause| is_malformed(*cause)) {
        Failure::HttpProtocol
    } else {
        Failure::Reset
    }
}

/// EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM: this machine ran out of something.
fn lacks_resource(causes: &[&(dyn Error + 'static)]) -> bool {
    causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
        .any(|code| matches!(code, 24 | 23 | 99 | 105 | 12))
}

/// The peer went away before the head was complete.
fn was_cut(causes: &[&(dyn Error + 'static)]) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let by_hyper = causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    by_hyper
        || io_kinds(causes).any(|kind| {
            matches!(
                kind,
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        })
}

/// A head without end.
fn is_too_large(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large)
}

fn is_malformed(cause: &(dyn Error + 'static)) -> bool {
    let parse = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    let framing = cause.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    });
    // What this side found wrong, or the other side says was: not a stream or a connection that was
    // given up, which the network or the server may have had reasons for.
    let version2 = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
        use h2::Reason;
        let broken = [Reason::PROTOCOL_ERROR, Reason::FRAME_SIZE_ERROR, Reason::COMPRESSION_ERROR];
        !error.is_io()
            && (error.is_library() || error.reason().is_some_and(|reason| broken.contains(&reason)))
    });
    parse || framing || version2
}

fn io_kinds<'a>(causes: &'a [&(dyn Error + 'static)]) -> impl Iterator<Item = io::ErrorKind> + 'a {
    causes.iter().filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()))
}

/// The error and everything behind it, outermost first.
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

/// The last cause speaks most plainly.
fn detail(failure: Failure, causes: &[&(dyn Error + 'static)]) -> FailureDetail {
    let words = causes.last().map(ToString::to_string).unwrap_or_default();
    FailureDetail::new(failure, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the layers of the client wrap what the system says.
    fn wrapped(cause: io::Error) -> io::Error {
        io::Error::other(io::Error::new(cause.kind(), cause))
    }

    #[test]
    fn only_bytes_that_are_not_http_are_the_protocols_fault() {
        use Failure::{HttpProtocol, Reset, StaleConnection};
        for (code, fresh, used) in [
            (104, Reset, StaleConnection), // ECONNRESET
            (32, Reset, StaleConnection),  // EPIPE
            (110, Reset, Reset),           // ETIMEDOUT
            (113, Reset, Reset),           // EHOSTUNREACH
            (101, Reset, Reset),           // ENETUNREACH
            (100, Reset, Reset),           // ENETDOWN
            (5, Reset, Reset),             // EIO
        ] {
            let error = wrapped(io::Error::from_raw_os_error(code));
            let causes = causes(&error);
            assert!(!lacks_resource(&causes), "{error}");
            assert_eq!(established_failure(&causes, false), fresh, "{error}");
            assert_eq!(established_failure(&causes, true), used, "{error}");
        }
        let malformed = wrapped(io::Error::new(io::ErrorKind::InvalidData, "bad chunk size"));
        assert_eq!(established_failure(&causes(&malformed), false), HttpProtocol);
        let unknown = io::Error::other("something new");
        assert_eq!(established_failure(&causes(&unknown), false), Reset);
    }

    #[test]
    fn a_late_word_of_tls_is_a_failure_of_tls() {
        let refused = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let error = wrapped(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert_eq!(established_failure(&causes(&error), false), Failure::Tls);
    }

    #[test]
    fn what_this_machine_lacks_is_seen_however_deep_it_lies() {
        for (code, lacks) in
            [(24, true), (23, true), (99, true), (105, true), (12, true), (111, false)]
        {
            let error = wrapped(wrapped(io::Error::from_raw_os_error(code)));
            assert_eq!(lacks_resource(&causes(&error)), lacks, "{error}");
        }
        assert!(!lacks_resource(&causes(&io::Error::other("EMFILE"))));
    }
}
