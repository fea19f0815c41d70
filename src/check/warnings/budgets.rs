//! Warnings about the cost of a schedule without a budget, and about a budget that is too small for
//! a single request or for a run.

use std::time::Duration;

use crate::calendar::Period;
use crate::check::budgets::{amount, is_known};
use crate::check::demand::{Demand, DemandTotals};
use crate::check::forecast::{Cost, DAY, Forecast, ScenarioForecast};
use crate::check::numbers::{count, money};
use crate::config::HumanDuration;
use crate::plan::{Budget, BudgetUnit, Location, Plan, Scenario};
use crate::schedule::Shard;

/// Returns a warning for each target with prices in a scenario without a budget.
pub fn without_budget(plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let pairs = plan.scenarios.iter().zip(&forecast.scenarios);
    let warnings = pairs.filter(|(scenario, _)| scenario.budgets.is_empty());
    let warnings = warnings.flat_map(|(scenario, one)| {
        let texts = costs(scenario, one).map(|(target, cost)| {
            let spend = match cost {
                Some(cost) if forecast.span < DAY => {
                    let span = HumanDuration(forecast.span);
                    format!("it can cost up to {} {} in {span}", money(cost.amount), cost.currency)
                }
                Some(cost) => {
                    format!("it can cost up to {} {} per day", money(cost.amount), cost.currency)
                }
                None => "nothing limits its cost".to_owned(),
            };
            format!(
                "scenario {}: target {target} has prices, but the scenario has no budget, so {spend}; \
                 add a budget, such as `budgets: [{{per: day, cost: 20}}]`",
                scenario.name
            )
        });
        texts.collect::<Vec<_>>()
    });
    warnings.collect()
}

/// Returns each target with prices, with its cost. `None` if the cost is unknown, because the load
/// is a closed loop.
fn costs<'a>(
    scenario: &'a Scenario,
    one: &'a ScenarioForecast,
) -> impl Iterator<Item = (&'a str, Option<&'a Cost>)> {
    let others = one.other_targets.iter().map(|other| &other.cost_at_most);
    let costs = std::iter::once(&one.cost_at_most).chain(others);
    let is_closed = one.closed_loop_slots > 0 || scenario.schedule.has_search();
    scenario.targets().zip(costs).filter_map(move |(target, cost)| {
        // The simulator is free.
        let is_paid = matches!(target.location, Location::Url(_));
        let cost = cost.as_ref().filter(|_| is_paid)?;
        (cost.amount > 0.0 || is_closed)
            .then(|| (target.name.as_str(), (!is_closed).then_some(cost)))
    })
}

/// Warns about a budget that is smaller than one request of mean length. A budget is shared, but
/// each target takes its request separately.
pub(super) fn too_small(scenario: &Scenario) -> Option<String> {
    let limits = scenario
        .budgets
        .iter()
        .flat_map(|budget| budget.limits.iter().map(move |(unit, limit)| (budget, unit, limit)));
    let mut exceeded = limits.flat_map(|(budget, unit, limit)| {
        let requests = scenario.spending_of_requests();
        let needs = requests.map(move |(target, request)| (target, request.get(unit)));
        let above = needs.filter(move |(_, needed)| *needed > limit);
        above.map(move |(target, needed)| (budget, unit, limit, target, needed))
    });
    let (budget, unit, limit, target, needed) = exceeded.next()?;
    let text = |amount: u64| text(budget, unit, unit.to_f64(amount));
    Some(format!(
        "a request to target {} can use {}, but the budget per {} is {}, so llmload sends nothing to \
         it; raise the budget, or lower `request.max_tokens`",
        target.name,
        text(needed),
        budget.period,
        text(limit)
    ))
}

/// Warns about a budget that is smaller than a `run`, if the run fits into one period.
pub(super) fn smaller_than_a_run(
    scenario: &Scenario,
    forecast: &ScenarioForecast,
    shard: Shard,
) -> Option<String> {
    if scenario.budgets.is_empty() || scenario.endless || !is_known(scenario) {
        return None;
    }
    let (demand, passes) = (Demand::new(scenario, shard), scenario.passes());
    let length = forecast.cycle.checked_mul(u32::try_from(passes).ok()?)?;
    let pass = demand.one_pass();
    let totals: DemandTotals = demand.totals(&pass, pass.begin, pass.end);
    let of_run = |unit| -> f64 {
        let targets = scenario.targets().map(|target| amount(unit, &totals, target));
        #[allow(clippy::cast_precision_loss)]
        let passes = passes as f64;
        targets.sum::<f64>() * passes
    };
    let limits = scenario.budgets.iter().filter(|budget| length <= shortest(budget.period));
    let mut limits =
        limits.flat_map(|budget| budget.limits.iter().map(move |limit| (budget, limit)));
    let (budget, (unit, limit)) =
        limits.find(|(_, (unit, limit))| of_run(*unit).round() > unit.to_f64(*limit))?;
    let up_to = if unit == BudgetUnit::Requests { "" } else { "up to " };
    Some(format!(
        "a run uses {up_to}{}, but the budget per {} is {}, so llmload drops the other arrivals; raise \
         the budget, or shorten the schedule",
        text(budget, unit, of_run(unit)),
        budget.period,
        text(budget, unit, unit.to_f64(limit))
    ))
}

/// The length of the shortest period of this kind.
fn shortest(period: Period) -> Duration {
    Duration::from_hours(match period {
        Period::Hour => 1,
        Period::Day => 23,
        Period::Month => 28 * 24 - 1,
    })
}

fn text(budget: &Budget, unit: BudgetUnit, amount: f64) -> String {
    match (unit, &budget.currency) {
        (BudgetUnit::Cost, Some(currency)) => format!("{} {currency}", money(amount)),
        (BudgetUnit::Cost, None) => money(amount),
        (BudgetUnit::Requests | BudgetUnit::Tokens, _) => {
            format!("{} {}", count(amount.round()), unit.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn plan(yaml: &str) -> (Plan, Forecast) {
        let plan = crate::config::parse(yaml, "f.yml", None, &|_| None).unwrap();
        let forecast = Forecast::new(&plan, SystemTime::UNIX_EPOCH, 0);
        (plan, forecast)
    }

    #[test]
    fn prices_without_a_budget_cause_a_warning_with_the_cost_of_a_day() {
        let prices = "prices: {input_per_million: 0, output_per_million: 10}";
        let without = |target: &str, more: &str| {
            let yaml = format!("target: {{{target}, {prices}}}\n{more}");
            let (plan, forecast) = plan(&yaml);
            without_budget(&plan, &forecast)
        };
        let url = "base_url: 'http://localhost/v1'";
        let request = "request: {max_tokens: 100}";
        assert_eq!(
            without(url, &format!("rate: 1/s\n{request}")),
            [
                "scenario default: target default has prices, but the scenario has no budget, so it can \
              cost up to 86.40 USD per day; add a budget, such as `budgets: [{per: day, cost: 20}]`"
            ]
        );
        assert!(without(url, "concurrency: 3")[0].contains("so nothing limits its cost;"));
        let short = format!("schedule: [{{constant: 1/s, for: 10s}}]\nrepeat: 1\n{request}");
        assert!(without(url, &short)[0].contains("up to 0.01 USD in 10s;"));
        assert_eq!(without("simulator: {}", "rate: 1/s"), [""; 0]);
        assert_eq!(without(url, "rate: 1/s\nbudgets: [{per: day, cost: 20}]"), [""; 0]);
    }

    #[test]
    fn a_budget_below_one_request_causes_a_warning() {
        let warning = |budget: &str| {
            let yaml = format!(
                "target: http://localhost/v1\nrate: 1/s\nprompts: [abcd]\n\
                 request: {{max_tokens: 100}}\nbudgets: [{{per: day, {budget}}}]"
            );
            too_small(&plan(&yaml).0.scenarios[0])
        };
        assert_eq!(warning("tokens: 101, requests: 1"), None);
        assert_eq!(
            warning("tokens: 100").unwrap(),
            "a request to target default can use 101 tokens, but the budget per day is 100 tokens, \
             so llmload sends nothing to it; raise the budget, or lower `request.max_tokens`"
        );
    }

    #[test]
    fn a_budget_below_one_run_causes_a_warning() {
        let warning = |schedule: &str, budget: &str| {
            let yaml = format!(
                "target: http://localhost/v1\n{schedule}\nprompts: [abcd]\n\
                 request: {{max_tokens: 99}}\nbudgets: [{{per: hour, {budget}}}]"
            );
            let (plan, forecast) = plan(&yaml);
            smaller_than_a_run(&plan.scenarios[0], &forecast.scenarios[0], Shard::ALL)
        };
        let pass = "schedule: [{constant: 5/s, for: 4m}]";
        assert_eq!(warning(pass, "requests: 1200, tokens: 120k"), None);
        assert_eq!(
            warning(pass, "requests: 1199").unwrap(),
            "a run uses 1,200 requests, but the budget per hour is 1,199 requests, so llmload drops \
             the other arrivals; raise the budget, or shorten the schedule"
        );
        let tokens = warning(pass, "tokens: 119k").unwrap();
        assert!(tokens.starts_with("a run uses up to 120,000 tokens, but"), "{tokens}");
        assert!(warning(&format!("{pass}\nrepeat: 2"), "requests: 1200").is_some());
        assert_eq!(warning(&format!("{pass}\nrepeat: 20"), "requests: 1200"), None, "longer");
        assert_eq!(warning("rate: 5/s", "requests: 10"), None, "endless");
        assert_eq!(warning("schedule: [{concurrency: 5, for: 1m}]", "requests: 10"), None);
    }

    #[test]
    fn a_budget_below_the_requests_of_two_targets_is_not_too_small_for_one() {
        let warning = |budget: &str| {
            let prices = |output| {
                format!(
                    "base_url: 'http://localhost/v1', prices: {{input_per_million: 0, \
                     output_per_million: {output}, currency: EUR}}"
                )
            };
            let yaml = format!(
                "targets: {{a: {{{}}}, b: {{{}}}}}\nscenarios: {{s: {{targets: [a, b], rate: 1/s, \
                 prompts: p, request: {{max_tokens: 100}}, budgets: [{{per: day, {budget}}}]}}}}\n\
                 prompts: {{p: [abcd]}}",
                prices(1_000),
                prices(9_000)
            );
            too_small(&plan(&yaml).0.scenarios[0])
        };
        assert_eq!(warning("requests: 1, tokens: 101, cost: 0.9"), None);
        assert_eq!(
            warning("cost: 0.5").unwrap(),
            "a request to target b can use 0.90 EUR, but the budget per day is 0.50 EUR, so llmload \
             sends nothing to it; raise the budget, or lower `request.max_tokens`"
        );
    }
}
