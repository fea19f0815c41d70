//! The rate limits of a target.

use std::num::NonZeroU32;

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
