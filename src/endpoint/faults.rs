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
    } else if lacks_resource(&causes) {
        Failure::ClientResource
    } else if error.is_connect() {
        connect_failure(&error, &causes)
    } else if was_cut(&causes) {
        if used_before { Failure::StaleConnection } else { Failure::Reset }
    } else {
        Failure::HttpProtocol
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

/// EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM: this machine ran out of something.
fn lacks_resource(causes: &[&(dyn Error + 'static)]) -> bool {
    causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
        .any(|code| matches!(code, 24 | 23 | 99 | 105 | 12))
}

/// The peer went away before the head was complete.
fn was_cut(causes: &[&(dyn Error + 'static)]) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let by_hyper = causes
        .iter()
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    by_hyper
        || io_kinds(causes).any(|kind| {
            matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
        })
}

fn is_malformed(cause: &(dyn Error + 'static)) -> bool {
    let parse = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    let framing = cause.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    });
    parse || framing
}

fn io_kinds<'a>(causes: &'a [&(dyn Error + 'static)]) -> impl Iterator<Item = io::ErrorKind> + 'a {
    causes.iter().filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()))
}

/// The error and everything behind it, outermost first.
fn causes(error: &reqwest::Error) -> Vec<&(dyn Error + 'static)> {
    let mut all = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
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
