//! The demand of a request, and the permission to send it.
//!
//! A request holds its [`Permit`] from the admission to its end. [`Permit::finish`] passes the
//! outcome to the limits. If llmload aborts the request or its task panics, the permit is dropped.
//! Then the outcome is unknown. The limits count the complete demand of such a request, and the
//! breaker does not count it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::RateLimiter;
use super::breaker::BreakerPass;
use super::route_budgets::BudgetedRequest;
use crate::event::BreakerChange;
use crate::measurement::{Failure, Usage};

/// The most tokens that a request can use. llmload estimates it before it sends the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// An estimate from the length of the text.
    pub input_tokens: u64,
    /// The output limit in the request; `None` if the request has no limit.
    pub output_tokens: Option<u64>,
}

impl Demand {
    /// The demand of a request that no limit on tokens applies to.
    pub const NONE: Demand = Demand { input_tokens: 0, output_tokens: Some(0) };

    /// Input and output tokens. Without an output limit, only the input tokens.
    pub fn known_tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens.unwrap_or(0))
    }
}

/// The outcome of a request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome {
    /// `None` if the request succeeded.
    pub failure: Option<Failure>,
    /// The tokens that the endpoint counted.
    pub usage: Usage,
    /// The wait that the endpoint requested in the response head.
    pub retry_after: Option<Duration>,
    /// True if llmload has possibly sent a part of the request.
    pub was_sent: bool,
    /// The status of a response that refused the request.
    pub refusal: Option<u16>,
}

/// The permission to send one request.
#[derive(Debug)]
#[must_use = "a dropped permit counts as a request with an unknown outcome"]
pub struct Permit {
    breaker: Option<BreakerPass>,
    rate_limiter: Option<Arc<RateLimiter>>,
    budgeted: Option<BudgetedRequest>,
}

impl Permit {
    pub(super) fn new(
        rate_limiter: Option<Arc<RateLimiter>>,
        budgeted: Option<BudgetedRequest>,
    ) -> Permit {
        Permit { breaker: None, rate_limiter, budgeted }
    }

    pub(super) fn with_breaker(self, breaker: Option<BreakerPass>) -> Permit {
        Permit { breaker, ..self }
    }

    /// Passes the outcome of the request to the limits. Returns the change of the breaker that
    /// follows from it.
    pub fn finish(self, outcome: &RequestOutcome, now: Instant) -> Option<BreakerChange> {
        if let Some(limiter) = &self.rate_limiter {
            limiter.record(outcome, now);
        }
        if let Some(budgeted) = self.budgeted {
            budgeted.settle(outcome);
        }
        self.breaker?.finish(outcome.failure, now)
    }
}
