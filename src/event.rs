//! What happens to an arrival, told to whoever observes: metrics, the status page, the log.
//!
//! Observers are synchronous, bounded and cannot fail. The counts that must agree with each other
//! at every instant are not events but the [ledger](crate::ledger).

use std::time::Duration;

use tokio::time::Instant;

use crate::measurement::{FailureDetail, Measurement};
use crate::protocol::{RateLimits, Trace};
use crate::schedule::Lengths;

/// One scheduled instant of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number in the one series that all shards of the scenario share; prompts follow from it.
    pub k: u64,
    /// When it was due.
    pub due: Instant,
    /// The position of its phase in the schedule; none where a rate was set by hand.
    pub phase: Option<usize>,
    /// How long its prompt and answer shall be, where a trace says so.
    pub lengths: Option<Lengths>,
}

/// Why an arrival was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The daemon was shutting down.
    Draining,
    /// Somebody paused the load.
    Paused,
    /// It came up later than `max_lag`: the generator was held up.
    Late,
    /// `max_concurrency` requests were in flight.
    MaxConcurrency,
}

impl DropReason {
    /// Every reason, in the order in which they are tried.
    pub const ALL: [DropReason; 4] =
        [DropReason::Draining, DropReason::Paused, DropReason::Late, DropReason::MaxConcurrency];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Draining => "draining",
            DropReason::Paused => "paused",
            DropReason::Late => "late",
            DropReason::MaxConcurrency => "max_concurrency",
        }
    }
}

/// Why llmload itself cut a request off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AbortReason {
    /// It outlived the grace period of a shutdown.
    Shutdown,
    /// It outlived the grace period of a stream of load that a reload removed.
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
    /// It was not sent.
    Dropped(DropReason),
    /// It was handed to the HTTP client, so long after its due instant.
    Sent {
        /// Due instant to hand-over.
        lag: Duration,
    },
    /// The head of its response arrived.
    ResponseHead {
        /// The HTTP status.
        status: u16,
    },
    /// It was the first that was answered on its connection, which had taken so long to make.
    Connected {
        /// To find the addresses of a name, where one was looked up.
        dns: Option<Duration>,
        /// To connect then, TLS included.
        connect: Duration,
    },
    /// The endpoint said how much it still grants.
    Limits(&'a RateLimits),
    /// The first text came; it counts even if the request fails later.
    FirstToken {
        /// Since sending: TTFT.
        since_sent: Duration,
        /// Since the due instant.
        since_due: Duration,
    },
    /// Events with text came, all in one read.
    Chunks {
        /// How many.
        count: u32,
        /// Time since the read before that brought any; `None` for the first.
        gap: Option<Duration>,
    },
    /// It succeeded.
    Succeeded(&'a Measurement),
    /// It failed, so long after sending.
    Failed {
        /// The class, and words for people.
        detail: &'a FailureDetail,
        /// Since sending.
        duration: Duration,
        /// Since the due instant.
        since_due: Duration,
        /// By which names others know it.
        names: &'a RequestIds,
    },
}

/// By which names others know a request: with them its part of the story is found over there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestIds {
    /// In traces.
    pub trace: Option<Trace>,
    /// At the endpoint or its gateway, in their own words, fit to be shown.
    pub request_id: Option<String>,
}

/// Somebody who is told.
pub trait Observe: Send + Sync {
    /// Takes note of what happened to an arrival; must not wait.
    fn observe(&self, arrival: &Arrival, event: Event<'_>);
}

impl<T: Observe + ?Sized> Observe for std::sync::Arc<T> {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        (**self).observe(arrival, event);
    }
}

/// Where there is somebody, he is told.
impl<T: Observe> Observe for Option<T> {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        if let Some(observer) = self {
            observer.observe(arrival, event);
        }
    }
}

/// Both are told.
impl<A: Observe, B: Observe> Observe for (A, B) {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        self.0.observe(arrival, event);
        self.1.observe(arrival, event);
    }
}
