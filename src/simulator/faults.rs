//! The faults that the simulator injects. Each fault affects a configured fraction of the requests.

/// For each fault, the fraction (0 to 1) of requests that get it. The sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// An immediate 429 with a `retry-after` header.
    pub http_429: f64,
    /// An immediate 500.
    pub http_500: f64,
    /// A reset of the connection before the response head.
    pub reset: f64,
    /// After a few tokens, nothing more arrives until the client gives up.
    pub stall: f64,
    /// After a few tokens, an error object ends the response, although its status is 200.
    pub stream_error: f64,
    /// After a few tokens, the connection breaks.
    pub truncation: f64,
}

/// The fault that one request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Http429,
    Http500,
    Reset,
    Stall,
    StreamError,
    Truncation,
}

impl Fault {
    /// Every fault, in the order of [`Faults`].
    pub(super) const ALL: [Fault; 6] = [
        Fault::Http429,
        Fault::Http500,
        Fault::Reset,
        Fault::Stall,
        Fault::StreamError,
        Fault::Truncation,
    ];

    /// Returns the name of the fault in the configuration and in `/metrics`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Fault::Http429 => "http_429",
            Fault::Http500 => "http_500",
            Fault::Reset => "reset",
            Fault::Stall => "stall",
            Fault::StreamError => "stream_error",
            Fault::Truncation => "truncation",
        }
    }

    /// Returns the fraction of requests that get this fault.
    pub(super) fn fraction(self, faults: &Faults) -> f64 {
        match self {
            Fault::Http429 => faults.http_429,
            Fault::Http500 => faults.http_500,
            Fault::Reset => faults.reset,
            Fault::Stall => faults.stall,
            Fault::StreamError => faults.stream_error,
            Fault::Truncation => faults.truncation,
        }
    }

    /// Chooses the fault of a request, or `None`. `point` is random, from 0 to 1. The fractions of
    /// the faults divide this interval into parts, in the order of [`Fault::ALL`]. The rest of the
    /// interval stands for no fault.
    pub(super) fn choose(faults: &Faults, point: f64) -> Option<Fault> {
        let mut end = 0.0;
        Fault::ALL.into_iter().find(|fault| {
            end += fault.fraction(faults);
            point < end
        })
    }
}
