//! The next step after a run or a search that a limit in the configuration of llmload kept below
//! its schedule. Such a run says nothing about the limit of the server.

use super::{Code, Draft};
use crate::capacity::Limit;
use crate::check::numbers::integer;
use crate::measurement::Failure;
use crate::report::RouteReport;
use crate::report::verdict::dropped::{Limited, limited};

/// Returns the next step. `None` if no limit of llmload dropped too many arrivals.
pub(super) fn next_step(route: &RouteReport) -> Option<Draft> {
    let Limited { limit, dropped } = limited(route)?;
    let arrivals = if dropped == 1 { "arrival" } else { "arrivals" };
    let dropped_text = format!("{} {arrivals}", integer(dropped));
    let text = match (limit, refused(route)) {
        (Limit::Rate, 0) => format!(
            "next, raise `rate_limits` of the target or lower the load, and then repeat the test, \
             because `rate_limits` dropped {dropped_text}"
        ),
        // With `retry_after`, llmload also drops arrivals because the endpoint requested it.
        (Limit::Rate, refused) => format!(
            "next, lower the load, because the endpoint refused {} requests itself, and \
             `rate_limits` dropped {dropped_text}",
            integer(refused)
        ),
        (Limit::Budget, _) => format!(
            "next, raise `budgets` of the scenario or wait for the next period, and then repeat the \
             test, because a budget dropped {dropped_text}"
        ),
    };
    #[allow(clippy::cast_precision_loss)]
    let values = [("dropped", dropped as f64)];
    Some(Draft::new(Code::NextStep, text).with(values))
}

/// The number of requests that the endpoint refused because of its own limits.
fn refused(route: &RouteReport) -> u64 {
    let classes = [Failure::RateLimited, Failure::Quota, Failure::Overloaded];
    classes.iter().filter_map(|failure| route.ledger.failed.get(failure.as_str())).sum()
}
