//! The budgets of a scenario, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;
use crate::config::scalar::{Amount, Number};

/// A budget: the most that all requests of a scenario can use in one period. Write at least one of
/// `requests`, `tokens` and `cost`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["per"]))]
pub struct Budget {
    /// The period of the budget: `hour`, `day` or `month`. At its end, the budget starts again at
    /// 0. A scenario has at most one budget for each kind of period. Required. Example: `day`.
    pub per: Field<Per>,
    /// The highest number of requests in one period, 1 to 1000000000000. Default: no limit.
    /// Example: `20000`.
    pub requests: Field<Amount>,
    /// The highest number of input and output tokens in one period, 1 to 1000000000000. Default: no
    /// limit. Example: `50M`.
    pub tokens: Field<Amount>,
    /// The highest cost in one period, above 0 and up to 1000000000, in the currency of the
    /// `prices` of the targets. All targets of the scenario need `prices` in the same currency.
    /// Default: no limit. Example: `20`.
    pub cost: Field<Number>,
    /// The time zone in which hours, days and months begin, as an IANA name. Default: `UTC`.
    /// Example: `Europe/Berlin`.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// The period of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Per {
    /// An hour of the clock.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// A month of the calendar.
    Month,
}
