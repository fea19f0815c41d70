//! The budgets in the JSON document of `/api/v1/status`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use crate::guard::{AccountView, Accounts};
use crate::plan::BudgetUnit;

/// One limit of a budget.
#[derive(Debug, Serialize)]
pub(super) struct BudgetStatus {
    scenario: String,
    /// `hour`, `day` or `month`.
    per: &'static str,
    /// `requests`, `tokens` or `cost`.
    unit: &'static str,
    /// The spending and the reservations of the requests in flight.
    used: f64,
    limit: f64,
    /// The currency of a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    /// True if the budget has no place for the next request.
    used_up: bool,
    /// The Unix time at which the budget starts again at 0.
    resets: f64,
    /// True if the spending cannot be saved, so llmload stops the load.
    unsaved: bool,
}

/// Returns each limit of each budget.
pub(super) fn all(accounts: &Accounts) -> Vec<BudgetStatus> {
    let unsaved = accounts.has_failed(Instant::now());
    let views = accounts.views(SystemTime::now(), Instant::now());
    views.iter().flat_map(|view| limits(view, unsaved)).collect()
}

fn limits(view: &AccountView, unsaved: bool) -> impl Iterator<Item = BudgetStatus> {
    let resets = view.window.to.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    view.limits.iter().map(move |(unit, limit)| BudgetStatus {
        scenario: view.key.scenario.clone(),
        per: view.key.period.as_str(),
        unit: unit.as_str(),
        used: unit.to_f64(view.used.get(unit)),
        limit: unit.to_f64(limit),
        currency: view.currency.clone().filter(|_| unit == BudgetUnit::Cost),
        used_up: view.used_up.contains(&unit),
        resets,
        unsaved,
    })
}
