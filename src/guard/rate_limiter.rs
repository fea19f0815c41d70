//! The rate limits of one target: requests per minute, tokens per minute, and the wait that the
//! endpoint requests with `retry-after`. All scenarios of the target share them.
//!
//! A request counts with its longest possible response, as OpenAI and Azure count it when they
//! admit a request. So the limits need no correction when the request ends.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Demand, RequestOutcome};
use crate::measurement::Failure;
use crate::plan::RateLimits;

/// The longest wait that llmload accepts from an endpoint.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub struct RateLimiter {
    limits: RateLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// The endpoint wants no request before this instant.
    retry_at: Option<Instant>,
}

impl RateLimiter {
    /// The buckets are full at `start`. The bucket of requests holds the requests of a second, and
    /// the bucket of tokens holds the tokens of a minute.
    pub fn new(limits: RateLimits, start: Instant) -> RateLimiter {
        let second = |per_minute: NonZeroU32| {
            NonZeroU32::new(per_minute.get() / 60).unwrap_or(NonZeroU32::MIN)
        };
        let state = State {
            requests: limits.requests.map(|limit| Bucket::new(limit, second(limit), start)),
            tokens: limits.tokens.map(|limit| Bucket::new(limit, limit, start)),
            retry_at: None,
        };
        RateLimiter { limits, state: Mutex::new(state) }
    }

    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.limits.tokens.is_some()
    }

    /// Counts a request if no limit refuses it. A refused request counts nowhere.
    pub(super) fn try_admit(&self, demand: Demand, now: Instant) -> bool {
        let State { requests, tokens, retry_at } = &mut *self.lock();
        if retry_at.is_some_and(|retry_at| now < retry_at) {
            return false;
        }
        let saved = requests.as_ref().map(Bucket::save);
        if !requests.as_mut().is_none_or(|bucket| bucket.try_take(1, now)) {
            return false;
        }
        if tokens.as_mut().is_none_or(|bucket| bucket.try_take(demand.known_tokens(), now)) {
            return true;
        }
        if let (Some(bucket), Some(saved)) = (requests, saved) {
            bucket.restore(saved);
        }
        false
    }

    /// Records the wait that the endpoint requested, if it refused the request because of its load.
    pub(super) fn record(&self, outcome: &RequestOutcome, now: Instant) {
        let Some(Failure::RateLimited | Failure::Overloaded) = outcome.failure else { return };
        let Some(wait) = outcome.retry_after.filter(|_| self.limits.retry_after) else { return };
        let retry_at = now + wait.min(MAX_RETRY_AFTER);
        let mut state = self.lock();
        // Requests that were sent together get similar responses. The longest wait applies.
        state.retry_at = state.retry_at.max(Some(retry_at));
    }

    /// Returns the remaining wait that the endpoint requested.
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        let wait = self.lock().retry_at?.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Usage;

    fn limiter(requests: u32, tokens: u32, start: Instant) -> RateLimiter {
        let (requests, tokens) = (NonZeroU32::new(requests), NonZeroU32::new(tokens));
        RateLimiter::new(RateLimits { requests, tokens, retry_after: true }, start)
    }

    fn demand(input_tokens: u64, output: u64) -> Demand {
        Demand { input_tokens, output_tokens: Some(output) }
    }

    #[test]
    fn a_burst_has_the_requests_of_a_second_and_the_tokens_of_a_minute() {
        let start = Instant::now();
        let requests = limiter(300, 0, start);
        let admitted = (0..20).filter(|_| requests.try_admit(Demand::NONE, start)).count();
        assert_eq!(admitted, 5);
        let slow = limiter(6, 0, start);
        assert!(slow.try_admit(Demand::NONE, start) && !slow.try_admit(Demand::NONE, start));
        assert!(slow.try_admit(Demand::NONE, start + Duration::from_secs(10)));
        let tokens = limiter(0, 1_000, start);
        let admitted = (0..20).filter(|_| tokens.try_admit(demand(40, 60), start)).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn a_request_that_the_tokens_refuse_does_not_count_as_a_request() {
        let start = Instant::now();
        let both = limiter(60, 100, start);
        assert!(!both.try_admit(demand(1_000, 0), start), "more tokens than a minute has");
        assert!(both.try_admit(demand(50, 50), start));
        assert!(!both.try_admit(demand(0, 0), start), "the second has only one request");
    }

    #[test]
    fn a_request_without_an_output_limit_counts_with_its_input() {
        let start = Instant::now();
        let tokens = limiter(0, 100, start);
        let endless = Demand { input_tokens: 60, output_tokens: None };
        assert!(tokens.try_admit(endless, start) && !tokens.try_admit(endless, start));
    }

    #[test]
    fn a_wait_of_the_endpoint_refuses_all_requests_until_it_ends() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let outcome = |failure, seconds| RequestOutcome {
            failure,
            usage: Usage::default(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let limits = limiter(0, 0, start);
        limits.record(&outcome(None, 9), start);
        limits.record(&outcome(Some(Failure::Http5xx), 9), start);
        assert!(limits.try_admit(Demand::NONE, start), "only 429 and overload have a wait");
        limits.record(&outcome(Some(Failure::RateLimited), 5), start);
        limits.record(&outcome(Some(Failure::Overloaded), 3), start);
        assert_eq!(limits.retry_after(at(1)), Some(Duration::from_secs(4)), "the longest wait");
        assert!(!limits.try_admit(Demand::NONE, at(4)));
        assert!(limits.try_admit(Demand::NONE, at(5)));
        assert_eq!(limits.retry_after(at(5)), None);
        limits.record(&outcome(Some(Failure::RateLimited), 86_400), at(6));
        assert_eq!(limits.retry_after(at(6)), Some(MAX_RETRY_AFTER));
        let ignoring = RateLimiter::new(RateLimits::default(), start);
        ignoring.record(&outcome(Some(Failure::RateLimited), 5), start);
        assert!(ignoring.try_admit(Demand::NONE, start), "`retry_after` is off");
    }
}
