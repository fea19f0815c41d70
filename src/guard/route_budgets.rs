//! The budgets of a scenario, as one of its routes uses them: the demand of a request becomes a
//! reservation, and its outcome becomes the real spending.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Budgets, Demand, RequestOutcome, Reservation};
use crate::measurement::Failure;
use crate::plan::{Budget, Prices, Spending};

#[derive(Debug)]
pub struct RouteBudgets {
    budgets: Budgets,
    /// The prices of the target.
    prices: Option<Prices>,
    counts_tokens: bool,
}

impl RouteBudgets {
    pub fn new(budgets: Budgets, all: &[Budget], prices: Option<Prices>) -> RouteBudgets {
        let counts_tokens = all.iter().any(|budget| budget.limits.depend_on_tokens());
        RouteBudgets { budgets, prices, counts_tokens }
    }

    /// Returns true if a budget limits tokens or cost.
    pub fn counts_tokens(&self) -> bool {
        self.counts_tokens
    }

    /// Reserves the most that a request can use. `None` if a budget refuses it.
    pub(super) fn reserve(
        self: &Arc<Self>,
        demand: Demand,
        wall: SystemTime,
        now: Instant,
    ) -> Option<BudgetedRequest> {
        let output = match demand.output_tokens {
            Some(output) => output,
            // Nobody knows the most that this request can use.
            None if self.counts_tokens => return None,
            None => 0,
        };
        let amount = self.spending(demand.input_tokens, output);
        let reservation = self.budgets.reserve(amount, wall, now).ok()?;
        Some(BudgetedRequest { reservation, route: Arc::clone(self), demand })
    }

    fn spending(&self, input: u64, output: u64) -> Spending {
        Spending::of_request(input, output, self.prices.as_ref())
    }
}

/// The reservation of a request. If it is dropped, the budgets keep the complete reservation.
#[derive(Debug)]
pub(super) struct BudgetedRequest {
    reservation: Reservation,
    route: Arc<RouteBudgets>,
    demand: Demand,
}

impl BudgetedRequest {
    /// Takes the reservation back, because llmload does not send the request.
    pub(super) fn cancel(self) {
        self.reservation.settle(Spending::NOTHING);
    }

    /// Replaces the reservation by the spending of a request that has ended.
    pub(super) fn settle(self, outcome: &RequestOutcome) {
        let Demand { input_tokens, output_tokens } = self.demand;
        let spending = match outcome.failure {
            None => self.route.spending(
                outcome.usage.input.unwrap_or(input_tokens),
                outcome.usage.output.or(output_tokens).unwrap_or(0),
            ),
            // The request did not reach the server.
            Some(failure) if failure.is_connecting() => Spending::NOTHING,
            // A status 4xx: the server refused the request before it generated a token.
            Some(Failure::Auth | Failure::Quota | Failure::RateLimited | Failure::Http4xx) => {
                self.route.spending(0, 0)
            }
            // The server has possibly generated tokens. Only it knows their number.
            Some(_) => self.reservation.amount(),
        };
        self.reservation.settle(spending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Period, Zone};
    use crate::guard::{Accounts, ScenarioBudgets};
    use crate::measurement::Usage;
    use crate::plan::{BudgetUnit, Limits};

    /// Returns the spending after one request with this outcome. Its reservation is one request,
    /// 100 input tokens and 50 output tokens.
    fn spent(failure: Option<Failure>, usage: Usage) -> Spending {
        let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
        let limits = Limits::from_units(|_| Some(1_000_000));
        let budgets = [Budget { period: Period::Day, zone: Zone::UTC, limits, currency: None }];
        let scenario = "s";
        let typical = Spending::NOTHING;
        let accounts = Accounts::new();
        accounts.configure([ScenarioBudgets { scenario, budgets: &budgets, typical }], wall, now);
        let prices =
            Prices { input_per_million: 1.0, output_per_million: 4.0, currency: "EUR".to_owned() };
        let of_scenario = accounts.of_scenario("s").unwrap();
        let route = Arc::new(RouteBudgets::new(of_scenario, &budgets, Some(prices)));
        let demand = Demand { input_tokens: 100, output_tokens: Some(50) };
        let request = route.reserve(demand, wall, now).unwrap();
        assert_eq!(accounts.views(wall, now)[0].used, Spending::new(1, 150, 300_000));
        request.settle(&RequestOutcome { failure, usage, retry_after: None });
        accounts.views(wall, now)[0].used
    }

    #[test]
    fn a_request_that_succeeded_costs_its_usage_and_an_unknown_count_its_reservation() {
        let usage = |input, output| Usage { input, output, ..Usage::default() };
        assert_eq!(spent(None, usage(Some(90), Some(7))), Spending::new(1, 97, 118_000));
        assert_eq!(spent(None, usage(Some(90), None)), Spending::new(1, 140, 290_000));
        assert_eq!(spent(None, usage(None, None)), Spending::new(1, 150, 300_000));
        assert_eq!(spent(None, usage(Some(200), Some(60))), Spending::new(1, 260, 440_000));
    }

    #[test]
    fn a_failed_request_costs_its_reservation_unless_it_certainly_cost_less() {
        let costs: Vec<_> = [
            Failure::ConnectRefused,
            Failure::Dns,
            Failure::RateLimited,
            Failure::Auth,
            Failure::Overloaded,
            Failure::TimeoutTotal,
            Failure::Truncated,
        ]
        .map(|failure| spent(Some(failure), Usage::default()))
        .into();
        let (refused, all) = (Spending::new(1, 0, 0), Spending::new(1, 150, 300_000));
        let nothing = Spending::NOTHING;
        assert_eq!(costs, [nothing, nothing, refused, refused, all, all, all]);
    }

    #[test]
    fn a_request_without_an_output_limit_has_no_place_in_a_budget_of_tokens() {
        let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
        let endless = Demand { input_tokens: 1, output_tokens: None };
        for (unit, is_admitted) in [(BudgetUnit::Tokens, false), (BudgetUnit::Requests, true)] {
            let limits = Limits::from_units(|other| (other == unit).then_some(1000));
            let budgets = [Budget { period: Period::Day, zone: Zone::UTC, limits, currency: None }];
            let (scenario, typical) = ("s", Spending::NOTHING);
            let accounts = Accounts::new();
            let configured = ScenarioBudgets { scenario, budgets: &budgets, typical };
            accounts.configure([configured], wall, now);
            let of_scenario = accounts.of_scenario("s").unwrap();
            let route = Arc::new(RouteBudgets::new(of_scenario, &budgets, None));
            assert_eq!(route.reserve(endless, wall, now).is_some(), is_admitted, "{unit:?}");
        }
    }
}
