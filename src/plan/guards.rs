//! The guards that the configuration sets: the rate limits of a target and the breaker of a
//! scenario.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::slo::Share;

/// The limits of this daemon. All scenarios of the target share them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Per minute.
    pub requests: Option<NonZeroU32>,
    /// Input and output tokens per minute.
    pub tokens: Option<NonZeroU32>,
    /// True if llmload obeys the header `retry-after`.
    pub retry_after: bool,
}

/// The breaker of each route (one scenario on one target).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The share of failed requests at which the breaker opens.
    pub failures: Share,
    /// The length of the time for which the breaker counts requests.
    pub over: Duration,
    /// The lowest number of requests that the breaker judges.
    pub at_least: NonZeroU32,
    /// From the opening to the first probe.
    pub pause: Duration,
    /// Each failed probe doubles the pause, up to this time. At least `pause`.
    pub max_pause: Duration,
}
