//! The reasons why a connection returned no complete response, and their failure classes.

use std::io;

use super::super::faults;
use crate::measurement::{Failure, FailureDetail};

/// A violation of HTTP/1.1 by the server, with a sentence about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The bytes are not a valid response.
    Malformed(&'static str),
    /// The head of the response exceeds a limit.
    TooLarge(&'static str),
}

/// The reason why a response is not complete.
#[derive(Debug)]
pub(in crate::endpoint) enum ResponseError {
    Violation(Violation),
    /// The connection has ended, or the system reported an error.
    Connection(io::Error),
}

impl From<Violation> for ResponseError {
    fn from(violation: Violation) -> ResponseError {
        ResponseError::Violation(violation)
    }
}

impl ResponseError {
    /// The server closed its side of the connection too early.
    pub(super) fn closed(place: &'static str) -> ResponseError {
        let message = format!("the server closed the connection {place}");
        ResponseError::Connection(io::Error::new(io::ErrorKind::UnexpectedEof, message))
    }

    /// Returns the failure of a request without a complete response head.
    pub(super) fn before_head(&self) -> FailureDetail {
        match self {
            ResponseError::Violation(violation) => violation.detail(),
            ResponseError::Connection(error) => faults::established_detail(error),
        }
    }

    /// Returns the failure of a request whose response body is not complete.
    pub(super) fn in_body(&self) -> FailureDetail {
        match self {
            ResponseError::Violation(violation) => violation.detail(),
            ResponseError::Connection(error) => faults::body_detail(error),
        }
    }
}

impl Violation {
    fn detail(self) -> FailureDetail {
        match self {
            Violation::Malformed(message) => FailureDetail::new(Failure::HttpProtocol, message),
            Violation::TooLarge(message) => FailureDetail::new(Failure::TooLarge, message),
        }
    }
}
