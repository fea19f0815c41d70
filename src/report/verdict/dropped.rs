//! The reason that too many arrivals of a route were dropped, and the limit of llmload that dropped
//! them.

use super::{Reason, ReasonCode, RouteReport, TOLERATED_SHARE};
use crate::capacity::{Ending, Limit};
use crate::check::numbers::integer;
use crate::event::DropReason;

/// Returns the code of a reason that names a limit.
pub(super) fn code(limit: Limit) -> ReasonCode {
    match limit {
        Limit::Rate => ReasonCode::RateLimits,
        Limit::Budget => ReasonCode::Budget,
    }
}

/// A limit in the configuration of llmload that kept the load of a route below its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) struct Limited {
    pub limit: Limit,
    /// The number of arrivals that it dropped.
    pub dropped: u64,
}

/// Returns the limit that dropped too many arrivals of a route, or that ended a search. If both
/// limits did, returns the one that dropped more.
pub(in crate::report) fn limited(route: &RouteReport) -> Option<Limited> {
    let limits = [(Limit::Rate, DropReason::RateLimit), (Limit::Budget, DropReason::Budget)];
    let found = limits.into_iter().filter_map(|(limit, reason)| {
        let dropped = dropped_for(route, reason);
        let searches = route.phases.iter().filter_map(|phase| phase.search.as_ref());
        let mut ended = searches.filter(|search| search.has_ended(Ending::Limited));
        let is_limited = TOLERATED_SHARE.is_exceeded(dropped, route.ledger.arrivals)
            || ended.any(|search| search.limit() == Some(limit));
        is_limited.then_some(Limited { limit, dropped })
    });
    found.max_by_key(|limited| limited.dropped)
}

fn dropped_for(route: &RouteReport, reason: DropReason) -> u64 {
    route.ledger.dropped.get(reason.as_str()).copied().unwrap_or_default()
}

/// Returns a reason if too many arrivals were dropped. The arrivals that the breaker dropped are a
/// failure of the target, because the breaker opens only after failures of the target.
pub(super) fn too_many(route: &RouteReport) -> Option<Reason> {
    let (dropped, arrivals) =
        (route.deciding(|all| all.dropped), route.deciding(|all| all.arrivals));
    if !TOLERATED_SHARE.is_exceeded(dropped, arrivals) {
        return None;
    }
    let by = |reason| dropped_for(route, reason).min(dropped);
    let by_breaker = by(DropReason::Breaker);
    let by_limits = by(DropReason::RateLimit) + by(DropReason::Budget);
    let sent = integer(arrivals - dropped.min(arrivals));
    let others = dropped.saturating_sub(by_breaker + by_limits);
    let (code, text) = if let Some(limited) =
        limited(route).filter(|_| !TOLERATED_SHARE.is_exceeded(others, arrivals))
    {
        let cause = match limited.limit {
            Limit::Rate => "at `rate_limits` of the target",
            Limit::Budget => "because a budget of the scenario was used up",
        };
        let text = format!(
            "llmload dropped {} of {} arrivals {cause}, more than 1 %, so only {sent} requests \
             were sent",
            integer(limited.dropped.min(dropped)),
            integer(arrivals)
        );
        (code(limited.limit), text)
    } else if TOLERATED_SHARE.is_exceeded(dropped - by_breaker, arrivals) {
        let text = format!(
            "{} of {} arrivals were dropped, more than 1 %: the offered rate was not reached, only \
             {sent} requests were sent",
            integer(dropped),
            integer(arrivals)
        );
        (ReasonCode::Dropped, text)
    } else {
        let text = format!(
            "the breaker dropped {} of {} arrivals, because too many requests failed; only {sent} \
             requests were sent",
            integer(by_breaker),
            integer(arrivals)
        );
        (ReasonCode::Failures, text)
    };
    Some(Reason::of_route(code, route, text))
}
