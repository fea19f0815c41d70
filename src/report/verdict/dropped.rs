//! The reason that too many arrivals of a route were dropped.

use super::{Reason, ReasonCode, RouteReport, TOLERATED_SHARE};
use crate::check::numbers::integer;
use crate::event::DropReason;

/// Returns a reason if too many arrivals were dropped. The arrivals that the breaker dropped are a
/// failure of the target, because the breaker opens only after failures of the target.
pub(super) fn too_many(route: &RouteReport) -> Option<Reason> {
    let (dropped, arrivals) =
        (route.deciding(|all| all.dropped), route.deciding(|all| all.arrivals));
    if !TOLERATED_SHARE.is_exceeded(dropped, arrivals) {
        return None;
    }
    let by_breaker = route.ledger.dropped.get(DropReason::Breaker.as_str()).copied();
    let by_breaker = by_breaker.unwrap_or_default().min(dropped);
    let sent = integer(arrivals - dropped.min(arrivals));
    let (code, text) = if TOLERATED_SHARE.is_exceeded(dropped - by_breaker, arrivals) {
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
