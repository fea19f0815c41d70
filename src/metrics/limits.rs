//! The rate limits that an endpoint reports in its response headers.

use std::time::Duration;

use super::series::{LazyGauge, SeriesSet, metric_structs};
use crate::protocol::RateLimits;

metric_structs! {
    /// The families of rate limits. They have no series before the first header, because a 0 would
    /// mean that the limit is used up.
    LimitFamilies,
    LimitMetrics {
        requests_limit: LazyGauge = RATE_LIMIT_REQUESTS_LIMIT;
        requests_remaining: LazyGauge = RATE_LIMIT_REQUESTS_REMAINING;
        requests_reset: LazyGauge = RATE_LIMIT_REQUESTS_RESET;
        tokens_limit: LazyGauge = RATE_LIMIT_TOKENS_LIMIT;
        tokens_remaining: LazyGauge = RATE_LIMIT_TOKENS_REMAINING;
        tokens_reset: LazyGauge = RATE_LIMIT_TOKENS_RESET;
        retry_after: LazyGauge = RETRY_AFTER;
    }
}

impl LimitFamilies {
    pub(super) fn bind_limits(&self, labels: &[&str], series: &mut SeriesSet) -> Limits {
        Limits(self.bind(labels, series))
    }
}

/// The latest rate limits of one route (one scenario on one target).
#[derive(Debug)]
pub(super) struct Limits(LimitMetrics);

impl Limits {
    pub(super) fn set(&self, limits: &RateLimits) {
        let (gauges, seconds) = (&self.0, |time: Duration| time.as_secs_f64());
        let RateLimits { requests, tokens, retry_after } = limits;
        for (gauge, value) in [
            (&gauges.requests_limit, requests.limit),
            (&gauges.requests_remaining, requests.remaining),
            (&gauges.requests_reset, requests.reset.map(seconds)),
            (&gauges.tokens_limit, tokens.limit),
            (&gauges.tokens_remaining, tokens.remaining),
            (&gauges.tokens_reset, tokens.reset.map(seconds)),
            (&gauges.retry_after, retry_after.map(seconds)),
        ] {
            if let Some(value) = value {
                gauge.set(value);
            }
        }
    }
}
