//! The panels about the budgets of requests, tokens and cost.

use llmload::metrics::table::{self, Family};

use crate::panel::{Panel, Unit};
use crate::promql::{rate_where, ratio, series};

pub fn panels() -> [Panel; 4] {
    let sum = |family: &Family| format!("sum by (scenario, per, unit) ({})", series(family));
    let used = ratio(&sum(&table::BUDGET_USED), &sum(&table::BUDGET_LIMIT));
    let reset = series(&table::BUDGET_RESET_TIMESTAMP);
    [
        Panel::lines("Budget used", Unit::Percent)
            .about(
                "llmload_budget_used / llmload_budget_limit, summed over all instances. The \
                reservations of the requests in flight are included. At 100 % llmload drops \
                arrivals until the period ends.",
            )
            .query("{{scenario}} per {{per}}: {{unit}}", used)
            .empty_text("No budgets"),
        Panel::lines("Arrivals dropped because of a budget", Unit::PerSecond)
            .about(
                "llmload_arrivals_dropped_total{reason=\"budget\"} per second: a budget is used \
                up, or its spending cannot be saved.",
            )
            .query("dropped", rate_where(&table::ARRIVALS_DROPPED, "reason=\"budget\"")),
        Panel::lines("Time until the budgets reset", Unit::Seconds)
            .about("llmload_budget_reset_timestamp_seconds minus the current time.")
            .query("{{scenario}} per {{per}}", format!("min by (scenario, per) ({reset}) - time()"))
            .empty_text("No budgets"),
        Panel::states("Budgets saved")
            .about(
                "llmload_budgets_saved: `no` means that state_dir accepts no data, so llmload \
                stops the load of the scenarios with budgets.",
            )
            .query("{{instance}}", format!("min by (instance) ({})", series(&table::BUDGETS_SAVED)))
            .map_value("1", "yes", "green")
            .map_value("0", "no", "red")
            .empty_text("No budgets, or no state_dir"),
    ]
}
