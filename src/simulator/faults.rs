//! The faults that the simulator injects.

/// For each fault, the fraction (0 to 1) of the requests. The sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// A 429 with a `retry-after` header.
    pub http_429: f64,
    pub http_500: f64,
    /// A reset of the connection before the response head.
    pub reset: f64,
    /// Silence after a few tokens, until the client gives up.
    pub stall: f64,
    /// An error object after a few tokens, with status 200.
    pub stream_error: f64,
    /// A broken connection after a few tokens.
    pub truncation: f64,
}

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
    /// In the order of [`Faults`].
    pub(super) const ALL: [Fault; 6] = [
        Fault::Http429,
        Fault::Http500,
        Fault::Reset,
        Fault::Stall,
        Fault::StreamError,
        Fault::Truncation,
    ];

    /// The name in the configuration and in `/metrics`.
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

    /// Chooses a fault by `point`, a random number from 0 to 1. For example, with the fractions 0.2
    /// and 0.1, the first fault gets points below 0.2, the second gets points from 0.2 to 0.3, and
    /// higher points have no fault.
    pub(super) fn choose(faults: &Faults, point: f64) -> Option<Fault> {
        let mut end = 0.0;
        Fault::ALL.into_iter().find(|fault| {
            end += fault.fraction(faults);
            point < end
        })
    }
}
