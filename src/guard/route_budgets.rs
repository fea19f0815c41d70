//! The budgets of a scenario, as one of its routes uses them: the demand of a request becomes a
//! reservation, and its outcome becomes the real spending.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::{Budgets, Demand, RequestOutcome, Reservation};
use crate::measurement::Failure;
use crate::plan::{Budget, Prices, Spending};

/// The statuses of a request that no model has worked on.
const REFUSALS: [u16; 6] = [401, 402, 403, 404, 422, 429];

#[derive(Debug)]
pub struct RouteBudgets {
    budgets: Budgets,
    /// The prices of the target.
    prices: Option<Prices>,
    counts_tokens: bool,
}

impl RouteBudgets {
    /// Without a common currency, no budget counts the cost.
    pub fn new(budgets: Budgets, all: &[Budget], prices: Option<Prices>) -> RouteBudgets {
        let prices = prices.filter(|_| all.iter().any(|budget| budget.currency.is_some()));
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
            Some(_) if !outcome.was_sent => Spending::NOTHING,
            None => self.route.spending(
                outcome.usage.input.unwrap_or(input_tokens),
                outcome.usage.output.or(output_tokens).unwrap_or(0),
            ),
            // There was no connection. Only a TLS failure can occur after llmload sent the request.
            Some(failure) if failure.is_connecting() && failure != Failure::Tls => {
                Spending::NOTHING
            }
            // The server refused the request before it generated a token. A gateway can end a
            // request with another status 4xx after the model has generated tokens.
            Some(_) if outcome.refusal.is_some_and(|status| REFUSALS.contains(&status)) => {
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

    #[derive(Clone, Copy)]
    struct Sent {
        was_sent: bool,
        refusal: Option<u16>,
    }

    const SENT: Sent = Sent { was_sent: true, refusal: None };

    /// Returns the spending after one request with this outcome. Its reservation is one request,
    /// 100 input tokens and 50 output tokens.
    fn spent(failure: Option<Failure>, usage: Usage, sent: Sent) -> Spending {
        let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
        let limits = Limits::from_units(|_| Some(1_000_000));
        let currency = Some("EUR".to_owned());
        let budgets = [Budget { period: Period::Day, zone: Zone::UTC, limits, currency }];
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
        let (retry_after, Sent { was_sent, refusal }) = (None, sent);
        request.settle(&RequestOutcome { failure, usage, retry_after, was_sent, refusal });
        accounts.views(wall, now)[0].used
    }

    #[test]
    fn a_request_that_succeeded_costs_its_usage_and_an_unknown_count_its_reservation() {
        let usage = |input, output| Usage { input, output, ..Usage::default() };
        for (input, output, expected) in [
            (Some(90), Some(7), Spending::new(1, 97, 118_000)),
            (Some(90), None, Spending::new(1, 140, 290_000)),
            (None, None, Spending::new(1, 150, 300_000)),
            (Some(200), Some(60), Spending::new(1, 260, 440_000)),
        ] {
            assert_eq!(spent(None, usage(input, output), SENT), expected);
        }
    }

    #[test]
    fn a_failed_request_costs_its_reservation_unless_it_certainly_cost_less() {
        let nothing = Spending::NOTHING;
        let (one, all) = (Spending::new(1, 0, 0), Spending::new(1, 150, 300_000));
        let refused = |status| Sent { refusal: Some(status), ..SENT };
        let unsent = Sent { was_sent: false, ..SENT };
        for (failure, sent, expected) in [
            (Failure::ConnectRefused, SENT, nothing),
            (Failure::Dns, SENT, nothing),
            (Failure::Tls, unsent, nothing),
            (Failure::ClientResource, unsent, nothing),
            (Failure::Internal, unsent, nothing),
            (Failure::Tls, SENT, all),
            (Failure::ClientResource, SENT, all),
            (Failure::Internal, SENT, all),
            (Failure::Auth, refused(401), one),
            (Failure::Quota, refused(402), one),
            (Failure::Auth, refused(403), one),
            (Failure::Http4xx, refused(404), one),
            (Failure::Http4xx, refused(422), one),
            (Failure::RateLimited, refused(429), one),
            (Failure::Http4xx, refused(400), all),
            (Failure::Http4xx, refused(408), all),
            (Failure::Http4xx, refused(499), all),
            (Failure::Http5xx, refused(500), all),
            // An error in a stream.
            (Failure::RateLimited, SENT, all),
            (Failure::Overloaded, SENT, all),
            (Failure::TimeoutTotal, SENT, all),
            (Failure::Truncated, SENT, all),
        ] {
            let spending = spent(Some(failure), Usage::default(), sent);
            assert_eq!(spending, expected, "{failure} {:?}", sent.refusal);
        }
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
