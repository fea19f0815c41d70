//! The rate limits that an endpoint reports in its response headers.

use std::time::Duration;

use super::series::{LateGauge, SeriesSet, handles};
use crate::protocol::RateLimits;

handles! {
    /// Families without a series before the first header: a 0 would mean that the limit is used up.
    LimitFamilies,
    LimitHandles {
        requests_limit: LateGauge = RATE_LIMIT_REQUESTS_LIMIT;
        requests_remaining: LateGauge = RATE_LIMIT_REQUESTS_REMAINING;
        requests_reset: LateGauge = RATE_LIMIT_REQUESTS_RESET;
        tokens_limit: LateGauge = RATE_LIMIT_TOKENS_LIMIT;
        tokens_remaining: LateGauge = RATE_LIMIT_TOKENS_REMAINING;
        tokens_reset: LateGauge = RATE_LIMIT_TOKENS_RESET;
        retry_after: LateGauge = RETRY_AFTER;
    }
}

impl LimitFamilies {
    pub(super) fn bind_limits(&self, labels: &[&str], series: &mut SeriesSet) -> Limits {
        Limits(self.bind(labels, series))
    }
}

/// The last limits that were reported to one route.
#[derive(Debug)]
pub(super) struct Limits(LimitHandles);

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
