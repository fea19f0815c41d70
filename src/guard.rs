//! Decides whether llmload sends or drops an arrival.
//!
//! The guard never waits. If several reasons to drop an arrival apply, it returns the first one in
//! a fixed order. A request that the guard admits holds a [`Permit`] until its end. The permit
//! passes the outcome of the request to the limits that need it.
//!
//! | module | idea |
//! |---|---|
//! | `permit` | the demand of a request, and the permission to send it |
//! | `breaker` | stops the load of a route while most requests fail |
//! | `rate_limiter` | the rate limits of one target, which all its scenarios share |
//! | `bucket` | a limit per minute |
//! | `account` | the spending of one budget |
//! | `route_budgets` | the spending of the requests of one route |
//! | `accounts` | the accounts of all budgets, and the reservations of requests |

mod account;
mod accounts;
mod breaker;
mod bucket;
mod permit;
mod rate_limiter;
mod route_budgets;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Arrival, DropReason};
use crate::ledger::SessionLedger;
use crate::plan::{PhaseObjectives, connection_limit};
pub use account::{Mark, Proposal, Refusal, Saved, Window};
pub use accounts::{
    AccountKey, AccountView, Accounts, Budgets, CurrencyConflict, Reservation, SavedAccount,
    ScenarioBudgets, WakeUp,
};
pub use breaker::Breaker;
pub use permit::{Demand, Permit, RequestOutcome};
pub use rate_limiter::RateLimiter;
pub use route_budgets::RouteBudgets;

/// The guard of a route, which is one scenario on one target.
#[derive(Clone, Debug)]
pub struct Guard {
    draining: CancellationToken,
    paused: Pause,
    max_lag: Duration,
    max_concurrency: NonZeroU32,
    /// `None` if the scenario has no sessions.
    sessions: Option<SessionLimit>,
    /// The breaker, and the phases of the schedule. `None` if the scenario has no breaker.
    breaker: Option<(Arc<Breaker>, Arc<[PhaseObjectives]>)>,
    /// `None` if the target has no rate limits.
    rate_limiter: Option<Arc<RateLimiter>>,
    /// `None` if the scenario has no budgets.
    budgets: Option<Arc<RouteBudgets>>,
}

impl Guard {
    /// Refuses every arrival while `paused` is on, and after `draining` is cancelled.
    pub fn new(
        draining: CancellationToken,
        paused: Pause,
        max_lag: Duration,
        max_concurrency: NonZeroU32,
    ) -> Guard {
        Guard {
            draining,
            paused,
            max_lag,
            max_concurrency,
            sessions: None,
            breaker: None,
            rate_limiter: None,
            budgets: None,
        }
    }

    /// Sets the highest number of sessions in progress.
    #[must_use]
    pub fn with_sessions(self, sessions: Option<SessionLimit>) -> Guard {
        Guard { sessions, ..self }
    }

    /// Sets the budgets of the scenario.
    #[must_use]
    pub fn with_budgets(self, budgets: Option<Arc<RouteBudgets>>) -> Guard {
        Guard { budgets, ..self }
    }

    /// Sets the rate limits of the target.
    #[must_use]
    pub fn with_rate_limiter(self, rate_limiter: Option<Arc<RateLimiter>>) -> Guard {
        Guard { rate_limiter, ..self }
    }

    /// Sets the breaker. It applies to all `phases` except those that measure a level.
    #[must_use]
    pub fn with_breaker(
        self,
        breaker: Option<Arc<Breaker>>,
        phases: &Arc<[PhaseObjectives]>,
    ) -> Guard {
        Guard { breaker: breaker.map(|breaker| (breaker, Arc::clone(phases))), ..self }
    }

    /// Returns true if a request that has ended can keep its connection, to read the remaining
    /// body. `connections` is the number of open connections of the route.
    pub fn can_drain(&self, connections: usize) -> bool {
        connections as u64 <= connection_limit(self.max_concurrency)
    }

    /// Returns true if a limit counts tokens. Otherwise, the caller can pass [`Demand::NONE`].
    pub fn needs_demand(&self) -> bool {
        self.rate_limiter.as_ref().is_some_and(|limiter| limiter.counts_tokens())
            || self.budgets.as_ref().is_some_and(|budgets| budgets.counts_tokens())
    }

    /// Decides about an arrival while `in_flight` requests are in flight. `wall` is the time of the
    /// wall clock.
    ///
    /// # Errors
    /// Returns the first reason to drop the arrival.
    pub fn admit(
        &self,
        arrival: &Arrival,
        demand: Demand,
        (now, wall): (Instant, SystemTime),
        in_flight: u64,
    ) -> Result<Permit, DropReason> {
        if self.draining.is_cancelled() {
            return Err(DropReason::Draining);
        }
        if self.paused.is_on() {
            return Err(DropReason::Paused);
        }
        if now.saturating_duration_since(arrival.due) > self.max_lag {
            return Err(DropReason::Late);
        }
        // If a later reason refuses the probe of an open breaker, the pass is dropped, and the next
        // arrival can be the probe.
        let pass = match self.breaker_of(arrival) {
            Some(breaker) => Some(breaker.admit(now).ok_or(DropReason::Breaker)?),
            None => None,
        };
        let sessions = self.sessions.as_ref().filter(|_| arrival.turn == 0);
        if sessions.is_some_and(SessionLimit::is_reached) {
            return Err(DropReason::MaxSessions);
        }
        if in_flight >= u64::from(self.max_concurrency.get()) {
            return Err(DropReason::MaxConcurrency);
        }
        Ok(self.admit_unmeasured(demand, (now, wall))?.with_breaker(pass))
    }

    /// Returns the breaker, if it applies to the phase of the arrival.
    fn breaker_of(&self, arrival: &Arrival) -> Option<&Arc<Breaker>> {
        let (breaker, phases) = self.breaker.as_ref()?;
        let phase = arrival.phase.and_then(|index| phases.get(index));
        (!phase.is_some_and(|phase| phase.is_level)).then_some(breaker)
    }

    /// Decides about a warm-up request. Only the limits that protect the target and the account
    /// apply to it.
    ///
    /// # Errors
    /// Returns the first reason not to send the request now.
    pub fn admit_unmeasured(
        &self,
        demand: Demand,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Permit, DropReason> {
        let budgeted = match &self.budgets {
            Some(budgets) => Some(budgets.reserve(demand, wall, now).ok_or(DropReason::Budget)?),
            None => None,
        };
        if let Some(limiter) = &self.rate_limiter
            && !limiter.try_admit(demand, now)
        {
            if let Some(budgeted) = budgeted {
                budgeted.cancel();
            }
            return Err(DropReason::RateLimit);
        }
        Ok(Permit::new(self.rate_limiter.clone(), budgeted))
    }
}

/// The highest number of sessions in progress, and their counts.
#[derive(Clone, Debug)]
pub struct SessionLimit {
    pub ledger: Arc<SessionLedger>,
    pub most: NonZeroU32,
}

impl SessionLimit {
    fn is_reached(&self) -> bool {
        self.ledger.counts().in_progress >= u64::from(self.most.get())
    }
}

/// The pause of the load. All clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pause(Arc<AtomicBool>);

impl Pause {
    /// Returns true if this changed something.
    pub fn set(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::Relaxed) != on
    }

    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Period, Zone};
    use crate::measurement::{Failure, Usage};
    use crate::plan::{self, Budget, BudgetUnit, Limits, RateLimits, Spending};
    use crate::slo::Share;

    #[test]
    fn a_request_that_a_rate_limit_refuses_uses_no_budget() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let limits = Limits::from_units(|unit| (unit == BudgetUnit::Requests).then_some(2));
        let budgets = [Budget { period: Period::Day, zone: Zone::UTC, limits, currency: None }];
        let accounts = Accounts::new();
        let typical = Spending::NOTHING;
        accounts.configure(
            [ScenarioBudgets { scenario: "s", budgets: &budgets, typical }],
            wall,
            now,
        );
        let of_scenario = accounts.of_scenario("s").unwrap();
        let one_a_minute = RateLimits { requests: NonZeroU32::new(1), ..RateLimits::default() };
        let guard = Guard::new(
            CancellationToken::new(),
            Pause::default(),
            Duration::from_secs(1),
            NonZeroU32::MIN,
        )
        .with_budgets(Some(Arc::new(RouteBudgets::new(of_scenario, &budgets, None))))
        .with_rate_limiter(Some(Arc::new(RateLimiter::new(one_a_minute, now))));
        let admit = |now| guard.admit_unmeasured(Demand::NONE, (now, wall)).map(drop);
        assert_eq!(admit(now), Ok(()));
        assert_eq!(admit(now), Err(DropReason::RateLimit));
        assert_eq!(accounts.views(wall, now)[0].used.get(BudgetUnit::Requests), 1);
        let later = now + Duration::from_mins(2);
        assert_eq!(admit(later), Ok(()));
        assert_eq!(admit(later), Err(DropReason::Budget), "the budget is the first reason");
    }

    #[test]
    fn an_arrival_is_dropped_for_the_first_reason_that_applies() {
        let (draining, paused) = (CancellationToken::new(), Pause::default());
        let two = NonZeroU32::new(2).unwrap();
        let due = Instant::now();
        let one_a_minute = RateLimits { requests: NonZeroU32::new(1), ..RateLimits::default() };
        let limiter = Arc::new(RateLimiter::new(one_a_minute, due));
        let guard = Guard::new(draining.clone(), paused.clone(), Duration::from_millis(500), two)
            .with_rate_limiter(Some(limiter));
        let arrival = Arrival { k: 0, due, phase: None, lengths: None, turn: 0 };
        let admit = |now, in_flight| {
            let time = (now, SystemTime::UNIX_EPOCH);
            guard.admit(&arrival, Demand::NONE, time, in_flight).map(drop)
        };
        let late = due + Duration::from_millis(501);
        assert_eq!(admit(due + Duration::from_millis(500), 1), Ok(()));
        assert_eq!(admit(due, 1), Err(DropReason::RateLimit));
        assert_eq!(admit(due, 2), Err(DropReason::MaxConcurrency));
        assert_eq!(admit(late, 2), Err(DropReason::Late));
        assert!(paused.set(true) && !paused.set(true));
        assert_eq!(admit(late, 2), Err(DropReason::Paused));
        draining.cancel();
        assert_eq!(admit(late, 2), Err(DropReason::Draining));
    }

    #[test]
    fn a_breaker_drops_before_the_other_limits_and_a_refused_probe_is_repeated() {
        let start = Instant::now();
        let settings = plan::Breaker {
            failures: Share::percent(50),
            over: Duration::from_mins(1),
            at_least: NonZeroU32::MIN,
            pause: Duration::from_mins(1),
            max_pause: Duration::from_mins(1),
        };
        let (load, level) = (PhaseObjectives::default(), PhaseObjectives::default());
        let phases = [load, PhaseObjectives { is_level: true, ..level }].into();
        let guard = Guard::new(
            CancellationToken::new(),
            Pause::default(),
            Duration::from_hours(1),
            NonZeroU32::MIN,
        )
        .with_breaker(Some(Breaker::new(settings)), &phases);
        let admit = |phase, seconds, in_flight| {
            let now = start + Duration::from_secs(seconds);
            let arrival = Arrival { k: 0, due: start, phase, lengths: None, turn: 0 };
            guard.admit(&arrival, Demand::NONE, (now, SystemTime::UNIX_EPOCH), in_flight)
        };
        let failed = RequestOutcome {
            failure: Some(Failure::Quota),
            usage: Usage::default(),
            retry_after: None,
            was_sent: true,
            refusal: Some(402),
        };
        assert!(admit(Some(1), 0, 0).unwrap().finish(&failed, start).is_none(), "a level");
        assert!(admit(Some(0), 0, 0).unwrap().finish(&failed, start).is_some());
        assert_eq!(admit(Some(0), 59, 1).unwrap_err(), DropReason::Breaker);
        assert_eq!(admit(None, 59, 1).unwrap_err(), DropReason::Breaker, "a manual rate");
        assert_eq!(admit(Some(1), 59, 0).map(drop), Ok(()), "a level");
        assert_eq!(admit(Some(0), 60, 1).unwrap_err(), DropReason::MaxConcurrency);
        let probe = admit(Some(0), 61, 0).unwrap();
        assert_eq!(admit(Some(0), 62, 0).unwrap_err(), DropReason::Breaker);
        drop(probe);
        assert_eq!(admit(Some(0), 62, 0).map(drop), Ok(()), "an aborted probe is repeated");
    }
}
