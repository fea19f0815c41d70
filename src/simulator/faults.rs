//! The faults that the simulator injects, each into a share of the requests.

/// The share (0 to 1) of requests with each fault; together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A 429 at once, with `retry-after`.
    pub http_429: f64,
    /// A 500 at once.
    pub http_500: f64,
    /// A reset of the connection before the response head.
    pub reset: f64,
    /// Silence after a few tokens, until the client gives up.
    pub stall: f64,
    /// An error object in the 200 stream after a few tokens.
    pub stream_error: f64,
    /// A broken connection in the middle of the stream.
    pub truncation: f64,
}

/// A fault of one request.
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

    /// The name of the fault in the configuration and in `/metrics`.
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

    /// The share of requests with this fault.
    pub(super) fn share(self, faults: &Faults) -> f64 {
        match self {
            Fault::Http429 => faults.http_429,
            Fault::Http500 => faults.http_500,
            Fault::Reset => faults.reset,
            Fault::Stall => faults.stall,
            Fault::StreamError => faults.stream_error,
            Fault::Truncation => faults.truncation,
        }
    }

    /// Chooses a fault, if any, by a random point from 0 to 1: the shares divide that interval from
    /// its start, in the order of [`Fault::ALL`].
    pub(super) fn choose(faults: &Faults, point: f64) -> Option<Fault> {
        let mut end = 0.0;
        Fault::ALL.into_iter().find(|fault| {
            end += fault.share(faults);
            point < end
        })
    }
}
