//! The changes of a breaker.

use std::fmt;
use std::time::Duration;

use crate::measurement::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// From now on, llmload drops all arrivals of the route.
    Opened {
        cause: OpenCause,
        /// The time until the first probe request.
        pause: Duration,
    },
    /// A probe request has succeeded.
    Closed {
        /// The time since the breaker opened.
        after: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenCause {
    /// Too many requests failed.
    Failures { failed: u64, finished: u64 },
    /// A request failed with `auth` or `quota`.
    Refused(Failure),
}

impl fmt::Display for OpenCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenCause::Failures { failed, finished } => {
                write!(f, "{failed} of the last {finished} requests failed")
            }
            OpenCause::Refused(failure) => write!(f, "a request failed with `{failure}`"),
        }
    }
}
