//! The events of an arrival. The metrics, the status page, the log and the report observe these
//! events.
//!
//! Observers are synchronous, use bounded memory and cannot fail. Counts that must agree with each
//! other at every instant are not derived from events: the [ledger](crate::ledger) counts them.

mod breaker;
mod evidence;
mod session_end;
mod turn_group;

use std::time::Duration;

use tokio::time::Instant;

use crate::measurement::{FailureDetail, Measurement};
use crate::protocol::{RateLimits, Trace};
use crate::schedule::Lengths;
pub use breaker::{BreakerChange, OpenCause};
pub use evidence::Evidence;
pub use session_end::SessionEnd;
pub use turn_group::TurnGroup;

/// One request that becomes due in a scenario. llmload sends it to each target of the scenario, or
/// drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The number of the arrival in the sequence that all shards of the scenario share. This number
    /// determines the prompt.
    pub k: u64,
    /// The instant at which the request is due.
    pub due: Instant,
    /// The position of the phase in the schedule; `None` during a manual rate override.
    pub phase: Option<usize>,
    /// The lengths of the prompt and of the response, if a trace sets these lengths.
    pub lengths: Option<Lengths>,
    /// The number of the turn in its session, from 0. Always 0 without sessions.
    pub turn: u32,
}

impl Arrival {
    /// Returns the time from the recorded instant of the row of a trace to the sending. `lag` is
    /// the dispatch lag. `None` if the arrival is from no trace.
    pub fn replay_lag(&self, lag: Duration) -> Option<Duration> {
        // The recorded instant of a row is its due instant.
        self.lengths.map(|_| lag)
    }
}

/// Why an arrival was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The daemon was shutting down.
    Draining,
    /// The load was paused.
    Paused,
    /// llmload reached the arrival more than `max_lag` after its due time.
    Late,
    /// The breaker was open, because requests had failed.
    Breaker,
    /// `max_sessions` sessions were in progress, so llmload started no further session.
    MaxSessions,
    /// `max_concurrency` requests were in flight.
    MaxConcurrency,
    /// A budget is used up, or its spending cannot be saved.
    Budget,
    /// A rate limit of the target was reached, or the endpoint requested a wait.
    RateLimit,
}

impl DropReason {
    /// Every reason, in the order in which [`Guard`](crate::guard::Guard) checks the reasons.
    pub const ALL: [DropReason; 8] = [
        DropReason::Draining,
        DropReason::Paused,
        DropReason::Late,
        DropReason::Breaker,
        DropReason::MaxSessions,
        DropReason::MaxConcurrency,
        DropReason::Budget,
        DropReason::RateLimit,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Draining => "draining",
            DropReason::Paused => "paused",
            DropReason::Late => "late",
            DropReason::Breaker => "breaker",
            DropReason::MaxSessions => "max_sessions",
            DropReason::MaxConcurrency => "max_concurrency",
            DropReason::Budget => "budget",
            DropReason::RateLimit => "rate_limit",
        }
    }
}

/// Why llmload itself ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AbortReason {
    /// The request outlived the grace period of a shutdown.
    Shutdown,
    /// A reload removed the route (one scenario on one target), and the request outlived the grace
    /// period.
    Reload,
}

impl AbortReason {
    /// Every reason.
    pub const ALL: [AbortReason; 2] = [AbortReason::Shutdown, AbortReason::Reload];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            AbortReason::Shutdown => "shutdown",
            AbortReason::Reload => "reload",
        }
    }
}

/// Something that happened to an arrival.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The arrival was not sent.
    Dropped(DropReason),
    /// The end of the request opened or closed the breaker of the route.
    BreakerChanged(BreakerChange),
    /// llmload passed the request to the HTTP client. With HTTP/2, the request also has a free
    /// stream.
    Sent {
        /// The dispatch lag, which is the time since the due instant. It contains the wait for a
        /// free stream, but not the time to connect.
        lag: Duration,
        /// The wait for a free stream.
        waited: Duration,
    },
    /// The connection ended before the server could work on the request, so llmload sends the
    /// request once more.
    ConnectionRetried,
    /// The head of a response arrived.
    ResponseHead {
        /// The HTTP status.
        status: u16,
    },
    /// The response head arrived, and the request had opened a new connection.
    Connected {
        /// The DNS lookup time, if a name was looked up.
        dns: Option<Duration>,
        /// The time to connect after the DNS lookup, TLS included.
        connect: Duration,
    },
    /// The response head reported the remaining rate limits.
    RateLimits(&'a RateLimits),
    /// The first text arrived. llmload records its time even if the request fails later.
    FirstToken {
        /// TTFT: the time since sending.
        since_sent: Duration,
        /// The time since the due instant.
        since_due: Duration,
    },
    /// The first text after the reasoning arrived. llmload records its time even if the request
    /// fails later.
    FirstAnswerToken {
        /// TTFO: the time since sending.
        since_sent: Duration,
    },
    /// One read from the connection returned stream events with text.
    Chunks {
        /// The number of these stream events.
        count: u32,
        /// The instant of the read.
        at: Instant,
        /// The time since the previous read from the connection that returned text. `None` for the
        /// first such read.
        gap: Option<Duration>,
    },
    /// The request succeeded.
    Succeeded(&'a Measurement),
    /// The request failed.
    Failed {
        /// The class, and a message for people.
        detail: &'a FailureDetail,
        /// The time since sending.
        duration: Duration,
        /// The time since the due instant.
        since_due: Duration,
        /// The identifiers of the request in other systems.
        ids: &'a RequestIds,
        /// The request and the start of its response. The bytes are not masked.
        evidence: &'a Evidence,
    },
}

/// The identifiers of a request in other systems. With them, a user can find the request in traces
/// and in the logs of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestIds {
    /// The trace context that llmload sent.
    pub trace: Option<Trace>,
    /// The request id that the endpoint or its gateway returned, sanitized for display.
    pub request_id: Option<String>,
}

/// A receiver of events.
pub trait Observe: Send + Sync {
    /// Records what happened to an arrival. Must not block.
    fn observe(&self, arrival: &Arrival, event: Event<'_>);

    /// Returns true if the observer needs the bytes in the [`Evidence`] of failed requests.
    fn needs_evidence(&self) -> bool {
        false
    }
}

impl<T: Observe + ?Sized> Observe for std::sync::Arc<T> {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        (**self).observe(arrival, event);
    }

    fn needs_evidence(&self) -> bool {
        (**self).needs_evidence()
    }
}
