//! The part of a route (one scenario on one target) that survives a reload: its counts, its
//! requests in flight, and the state of its guards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use super::cancellation::Cancellation;
use super::session::{SessionState, Sessions};
use crate::guard::{Breaker, RateLimiter};
use crate::ledger::Ledger;
use crate::plan;
use crate::prompts::Prompts;

#[derive(Debug, Default)]
pub struct RouteState {
    /// The counts of all arrivals.
    pub ledger: Arc<Ledger>,
    /// The tasks of the requests in flight. A task ends slightly later than its request, because
    /// the task still reads the rest of the response body.
    pub tasks: TaskTracker,
    /// Aborts the requests in flight.
    pub cancellation: Cancellation,
    pub session_state: Arc<SessionState>,
    guards: Mutex<Guards>,
    sessions: Mutex<Option<Arc<Sessions>>>,
}

#[derive(Debug, Default)]
struct Guards {
    breaker: Option<Arc<Breaker>>,
    rate_limiter: Option<Arc<RateLimiter>>,
}

impl RouteState {
    /// `None` if the scenario has no breaker.
    pub fn breaker(&self) -> Option<Arc<Breaker>> {
        self.guards().breaker.clone()
    }

    /// Returns a breaker with these settings. If the settings are unchanged, the breaker keeps its
    /// state.
    pub fn set_breaker(&self, settings: Option<plan::Breaker>) -> Option<Arc<Breaker>> {
        let mut guards = self.guards();
        if guards.breaker.as_ref().map(|breaker| breaker.settings()) != settings {
            if let Some(replaced) = &guards.breaker {
                replaced.set_replaced();
            }
            guards.breaker = settings.map(Breaker::new);
        }
        guards.breaker.clone()
    }

    /// `None` if the target has no rate limits.
    pub fn rate_limiter(&self) -> Option<Arc<RateLimiter>> {
        self.guards().rate_limiter.clone()
    }

    pub fn set_rate_limiter(&self, rate_limiter: Option<Arc<RateLimiter>>) {
        self.guards().rate_limiter = rate_limiter;
    }

    /// Returns the sessions that follow these conversations. If the conversations are unchanged,
    /// the sessions in progress continue. `None` if the scenario has no sessions.
    pub fn set_sessions(&self, prompts: &Prompts, seed: u64) -> Option<Arc<Sessions>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |old: &Arc<Sessions>| old.has_same_conversations(prompts, seed);
        if !prompts.has_sessions() {
            *sessions = None;
        } else if !sessions.as_ref().is_some_and(is_same) {
            let new = Sessions::new(prompts.clone(), seed, &self.session_state);
            *sessions = Some(Arc::new(new));
        }
        sessions.clone()
    }

    /// Returns true if the prompts have turns.
    pub fn has_sessions(&self) -> bool {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn guards(&self) -> MutexGuard<'_, Guards> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::event::Arrival;
    use crate::guard::{Demand, Guard, Pause, RequestOutcome};
    use crate::measurement::{Failure, Usage};
    use crate::slo::Share;

    #[test]
    fn a_breaker_that_a_reload_replaced_reports_no_change() {
        let settings = |pause| plan::Breaker {
            failures: Share::percent(50),
            over: Duration::from_mins(1),
            at_least: NonZeroU32::MIN,
            pause,
            max_pause: Duration::from_hours(1),
        };
        let state = RouteState::default();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        let now = Instant::now();
        let admit = |breaker| {
            let (draining, one) = (CancellationToken::new(), NonZeroU32::MIN);
            let guard = Guard::new(draining, Pause::default(), hour, one);
            let guard = guard.with_breaker(breaker, &Arc::from([]));
            let arrival = Arrival { k: 0, due: now, phase: None, lengths: None, turn: 0 };
            guard.admit(&arrival, Demand::NONE, (now, SystemTime::UNIX_EPOCH), 0).unwrap()
        };
        let failure = Some(Failure::Quota);
        let refused = RequestOutcome {
            failure,
            usage: Usage::default(),
            retry_after: None,
            was_sent: true,
            refusal: None,
        };
        let old = admit(state.set_breaker(Some(settings(minute))));
        let same = admit(state.set_breaker(Some(settings(minute))));
        let new = admit(state.set_breaker(Some(settings(hour))));
        assert_eq!(old.finish(&refused, now), None);
        assert!(new.finish(&refused, now).is_some());
        drop(same);
        let last = admit(state.set_breaker(Some(settings(minute))));
        state.set_breaker(None);
        assert_eq!(last.finish(&refused, now), None, "the scenario has no breaker any more");
    }
}
