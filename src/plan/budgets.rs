//! The budgets of a scenario, and the amounts that requests use.

use crate::calendar::{Period, Zone};
use crate::plan::{Prices, Scenario, Target};
use crate::schedule::Lengths;

/// The most that all requests of a scenario can use in one period. A scenario has at most one
/// budget for each kind of period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub period: Period,
    /// The zone in which the periods begin.
    pub zone: Zone,
    /// At least one unit has a limit.
    pub limits: Limits,
    /// The common currency of all targets of the scenario. `None` if a target has no prices, or if
    /// they have several currencies. Then no limit of the cost is possible.
    pub currency: Option<String>,
}

/// A unit in which a budget limits a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetUnit {
    Requests,
    /// Input and output tokens.
    Tokens,
    Cost,
}

impl BudgetUnit {
    pub const ALL: [BudgetUnit; 3] = [BudgetUnit::Requests, BudgetUnit::Tokens, BudgetUnit::Cost];

    /// The key in the configuration, and the value of a label.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetUnit::Requests => "requests",
            BudgetUnit::Tokens => "tokens",
            BudgetUnit::Cost => "cost",
        }
    }

    /// Converts an amount to whole requests, whole tokens, or units of money.
    #[allow(clippy::cast_precision_loss)]
    pub fn to_f64(self, amount: u64) -> f64 {
        match self {
            BudgetUnit::Requests | BudgetUnit::Tokens => amount as f64,
            BudgetUnit::Cost => amount as f64 / BILLIONTHS,
        }
    }
}

/// Costs are integers, so sums are exact: one is a billionth of a unit of money.
const BILLIONTHS: f64 = 1e9;

/// Converts units of money to billionths. Rounds up, so no cost becomes 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn billionths(money: f64) -> u64 {
    (money * BILLIONTHS).ceil() as u64
}

/// An amount in each unit. The cost is in billionths of a unit of money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending([u64; BudgetUnit::ALL.len()]);

impl Spending {
    pub const NOTHING: Spending = Spending([0; BudgetUnit::ALL.len()]);

    pub fn new(requests: u64, tokens: u64, cost: u64) -> Spending {
        Spending([requests, tokens, cost])
    }

    /// The amounts of one request. Without prices, it costs nothing.
    #[allow(clippy::cast_precision_loss)]
    pub fn of_request(input_tokens: u64, output_tokens: u64, prices: Option<&Prices>) -> Spending {
        let cost = |prices: &Prices| prices.cost(input_tokens as f64, output_tokens as f64);
        let cost = prices.map_or(0, |prices| billionths(cost(prices)));
        Spending([1, input_tokens.saturating_add(output_tokens), cost])
    }

    pub fn get(&self, unit: BudgetUnit) -> u64 {
        self.0[unit as usize]
    }

    /// Computes each unit separately.
    #[must_use]
    pub fn from_units(amount: impl Fn(BudgetUnit) -> u64) -> Spending {
        Spending(BudgetUnit::ALL.map(amount))
    }

    #[must_use]
    pub fn plus(self, other: Spending) -> Spending {
        Spending::from_units(|unit| self.get(unit).saturating_add(other.get(unit)))
    }

    /// Subtracts, but not below 0.
    #[must_use]
    pub fn minus(self, other: Spending) -> Spending {
        Spending::from_units(|unit| self.get(unit).saturating_sub(other.get(unit)))
    }

    #[must_use]
    pub fn times(self, factor: u64) -> Spending {
        Spending::from_units(|unit| self.get(unit).saturating_mul(factor))
    }

    /// Returns the larger amount of each unit.
    #[must_use]
    pub fn max(self, other: Spending) -> Spending {
        Spending::from_units(|unit| self.get(unit).max(other.get(unit)))
    }
}

/// The limits of a budget. `None` means that this unit has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; BudgetUnit::ALL.len()]);

impl Limits {
    #[must_use]
    pub fn from_units(limit: impl Fn(BudgetUnit) -> Option<u64>) -> Limits {
        Limits(BudgetUnit::ALL.map(limit))
    }

    pub fn get(&self, unit: BudgetUnit) -> Option<u64> {
        self.0[unit as usize]
    }

    /// The units with a limit, and their limits.
    pub fn iter(&self) -> impl Iterator<Item = (BudgetUnit, u64)> + use<> {
        let limits = self.0;
        BudgetUnit::ALL.into_iter().filter_map(move |unit| Some((unit, limits[unit as usize]?)))
    }

    /// Returns true if no unit exceeds its limit.
    pub fn allow(&self, amount: Spending) -> bool {
        self.iter().all(|(unit, limit)| amount.get(unit) <= limit)
    }

    /// Returns true if an amount of tokens or a cost has a limit.
    pub fn depend_on_tokens(&self) -> bool {
        self.get(BudgetUnit::Tokens).is_some() || self.get(BudgetUnit::Cost).is_some()
    }
}

impl Scenario {
    /// The spending of an arrival of mean length, at all targets together.
    pub fn typical_spending(&self) -> Spending {
        let requests = self.spending_of_requests().map(|(_, request)| request);
        requests.fold(Spending::NOTHING, Spending::plus)
    }

    /// The spending of a request of mean length at each target.
    pub fn spending_of_requests(&self) -> impl Iterator<Item = (&Target, Spending)> {
        let limit = f64::from(self.request.max_tokens.get());
        let (input, output) = self.prompts.mean_tokens(Lengths::default(), limit);
        let (input, output) = (tokens(input), tokens(output));
        self.targets().map(move |target| {
            let output = if target.dialect.api.generates_text() { output } else { 0 };
            (&**target, Spending::of_request(input, output, target.prices.as_ref()))
        })
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn tokens(mean: f64) -> u64 {
    mean.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_unit_is_its_value() {
        for (position, unit) in BudgetUnit::ALL.into_iter().enumerate() {
            assert_eq!(unit as usize, position);
        }
    }

    #[test]
    fn a_request_uses_one_request_its_tokens_and_their_cost() {
        let prices =
            Prices { input_per_million: 0.15, output_per_million: 0.6, currency: "USD".to_owned() };
        let request = Spending::of_request(1000, 500, Some(&prices));
        assert_eq!(request, Spending::new(1, 1500, 450_000));
        assert_eq!(Spending::of_request(1, 0, Some(&prices)), Spending::new(1, 1, 150));
        assert_eq!(Spending::of_request(7, 3, None), Spending::new(1, 10, 0));
    }
}
