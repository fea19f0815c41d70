//! The rate limits of one target: requests per minute, tokens per minute, and the wait that the
//! endpoint requests with `retry-after`. All scenarios of the target share them.
//!
//! A request counts with its longest possible response, as OpenAI and Azure count it when they
//! admit a request. So the limits need no correction when the request ends.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::{Demand, RequestOutcome};
use crate::measurement::Failure;
use crate::plan::RateLimits;

/// The longest wait that llmload accepts from an endpoint.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The limits can change at a reload. Then the old and the new limiter share the parts that did not
/// change.
#[derive(Debug)]
pub struct RateLimiter {
    limits: RateLimits,
    requests: Option<Arc<Mutex<Bucket>>>,
    tokens: Option<Arc<Mutex<Bucket>>>,
    /// The endpoint wants no request before this instant.
    retry_at: Arc<Mutex<Option<Instant>>>,
}

impl RateLimiter {
    /// The buckets are full at `start`. The bucket of requests holds the requests of a second, and
    /// the bucket of tokens holds the tokens of a minute.
    pub fn new(limits: RateLimits, start: Instant) -> RateLimiter {
        let second = |per_minute: NonZeroU32| {
            NonZeroU32::new(per_minute.get() / 60).unwrap_or(NonZeroU32::MIN)
        };
        let bucket = |limit, burst| Arc::new(Mutex::new(Bucket::new(limit, burst, start)));
        RateLimiter {
            limits,
            requests: limits.requests.map(|limit| bucket(limit, second(limit))),
            tokens: limits.tokens.map(|limit| bucket(limit, limit)),
            retry_at: Arc::default(),
        }
    }

    /// Takes the place of `before`: each limit that is equal keeps its bucket, and the wait of the
    /// endpoint still applies. The bucket of a different limit is full at `start`.
    pub fn replacing(before: &RateLimiter, limits: RateLimits, start: Instant) -> RateLimiter {
        let mut new = RateLimiter::new(limits, start);
        if limits.requests == before.limits.requests {
            new.requests.clone_from(&before.requests);
        }
        if limits.tokens == before.limits.tokens {
            new.tokens.clone_from(&before.tokens);
        }
        if limits.retry_after {
            new.retry_at = Arc::clone(&before.retry_at);
        }
        new
    }

    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.limits.tokens.is_some()
    }

    /// Counts a request if no limit refuses it. A refused request counts nowhere.
    pub(super) fn try_admit(&self, demand: Demand, now: Instant) -> bool {
        if lock(&self.retry_at).is_some_and(|retry_at| now < retry_at) {
            return false;
        }
        let mut requests = self.requests.as_deref().map(lock);
        let saved = requests.as_ref().map(|bucket| bucket.save());
        if !requests.as_mut().is_none_or(|bucket| bucket.try_take(1, now)) {
            return false;
        }
        let mut tokens = self.tokens.as_deref().map(lock);
        if tokens.as_mut().is_none_or(|bucket| bucket.try_take(demand.known_tokens(), now)) {
            return true;
        }
        if let (Some(mut bucket), Some(saved)) = (requests, saved) {
            bucket.restore(saved);
        }
        false
    }

    /// Records the wait that the endpoint requested, if it refused the request because of its load.
    pub(super) fn record(&self, outcome: &RequestOutcome, now: Instant) {
        // An endpoint can also answer with a `quota` that is only used up for some minutes.
        let (Some(Failure::RateLimited | Failure::Overloaded | Failure::Quota), Some(wait)) =
            (outcome.failure, outcome.retry_after)
        else {
            return;
        };
        if !self.limits.retry_after {
            return;
        }
        let retry_at = now + wait.min(MAX_RETRY_AFTER);
        let mut longest = lock(&self.retry_at);
        // Requests that were sent together get similar responses. The longest wait applies.
        *longest = longest.max(Some(retry_at));
    }

    /// Returns the remaining wait that the endpoint requested.
    pub fn retry_after(&self, now: Instant) -> Option<Duration> {
        let wait = (*lock(&self.retry_at))?.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
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
            was_sent: true,
            refusal: None,
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
        limits.record(&outcome(Some(Failure::Quota), 30), at(606));
        assert_eq!(limits.retry_after(at(607)), Some(Duration::from_secs(29)), "429 of `quota`");
        let ignoring = RateLimiter::new(RateLimits::default(), start);
        ignoring.record(&outcome(Some(Failure::RateLimited), 5), start);
        assert!(ignoring.try_admit(Demand::NONE, start), "`retry_after` is off");
    }

    #[test]
    fn a_changed_limit_keeps_the_other_bucket_and_the_wait() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let before = limiter(60, 1_000, start);
        assert!(before.try_admit(demand(0, 900), start));
        let changed = |requests, tokens, retry_after| {
            let (requests, tokens) = (NonZeroU32::new(requests), NonZeroU32::new(tokens));
            let limits = RateLimits { requests, tokens, retry_after };
            RateLimiter::replacing(&before, limits, start)
        };
        let more_requests = changed(600, 1_000, true);
        assert!(!more_requests.try_admit(demand(0, 101), start), "the tokens are still used up");
        assert!(more_requests.try_admit(demand(0, 100), start), "the requests are full again");
        let more_tokens = changed(60, 9_000, true);
        assert!(!more_tokens.try_admit(Demand::NONE, start), "the request of this second was sent");
        assert!(more_tokens.try_admit(demand(0, 9_000), at(1)));
        // A request of the old limiter can end after the reload.
        let outcome = RequestOutcome {
            failure: Some(Failure::RateLimited),
            usage: Usage::default(),
            retry_after: Some(Duration::from_secs(5)),
            was_sent: true,
            refusal: Some(429),
        };
        before.record(&outcome, at(1));
        assert_eq!(more_tokens.retry_after(at(2)), Some(Duration::from_secs(4)));
        assert_eq!(changed(60, 9_000, false).retry_after(at(2)), None, "`retry_after` is off");
    }
}
