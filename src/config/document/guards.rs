//! The guards of a target and of a scenario, as a file writes them: rate limits and the breaker.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;
use crate::config::scalar::{Amount, Count, Ratio, Span};

/// The rate limits of a target, which all its scenarios share. llmload drops an arrival that
/// exceeds a limit, with the reason `rate_limit`. Write at least one of the keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RateLimits {
    /// The highest number of requests per minute, 1 to 6000000. Requests that arrive together can
    /// use the limit of one second at once, or one request if the limit is lower than 60. Default:
    /// no limit. Example: `600`.
    pub requests_per_minute: Field<Amount>,
    /// The highest number of tokens per minute, 1 to 4000000000. A request counts with an estimate
    /// of its prompt tokens and with its output limit, even if its response is shorter. Requests
    /// that arrive together can use the limit of one minute at once. Default: no limit. Example:
    /// `200k`.
    pub tokens_per_minute: Field<Amount>,
    /// True if llmload obeys the header `retry-after` of a response with status 429, 498, 503 or
    /// 529. Until the time in the header, and for at most ten minutes, llmload drops all arrivals
    /// of the target. Default: false.
    #[schemars(extend("default" = false))]
    pub retry_after: Field<bool>,
}

/// A breaker, which stops the load while most requests fail. It judges each target of the scenario
/// separately. While it is open, llmload drops all arrivals with the reason `breaker`, and sends
/// one probe request after each pause. A successful probe closes the breaker. A failed probe
/// doubles the pause. The breaker never drops arrivals of a search, or of a phase with several
/// levels.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Breaker {
    /// The percentage of failed requests at which the breaker opens, above 0% and at most 100%.
    /// Failures of llmload itself do not count. The breaker also opens at the first failure of the
    /// class `auth` or `quota`. Default: 50%.
    #[schemars(extend("default" = 0.5))]
    pub failures: Field<Ratio>,
    /// The length of the time for which the breaker counts requests, 1s to 24h. Default: 60s.
    #[schemars(extend("default" = "60s"))]
    pub over: Field<Span>,
    /// The lowest number of requests that the breaker judges, 1 to 1000000. Default: 20.
    #[schemars(extend("default" = 20))]
    pub at_least: Field<Count>,
    /// The time from the opening of the breaker to the first probe request, 100ms to 24h. Default:
    /// 60s.
    #[schemars(extend("default" = "60s"))]
    pub pause: Field<Span>,
    /// The longest time between two probe requests: at least `pause`, and at most 24h. Default:
    /// 15m, or `pause` if it is longer.
    #[schemars(extend("default" = "15m"))]
    pub max_pause: Field<Span>,
}
