//! Logs a used-up budget, once in each of its periods. Near its end, a budget can be used up and
//! then have place again many times, because a reservation is larger than the real usage.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};

use crate::check::numbers::{count, money};
use crate::guard::{AccountKey, AccountView, Accounts};
use crate::plan::BudgetUnit;

/// Logs each budget that is used up. Does not end.
pub async fn watch_budgets(accounts: Arc<Accounts>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reported = Reported::default();
    loop {
        second.tick().await;
        let now = SystemTime::now();
        for view in reported.news(accounts.views(now, Instant::now())) {
            let scenario = &view.key.scenario;
            tracing::warn!(scenario, "{}", message(&view, now));
        }
    }
}

/// The budgets that are used up, each with the end of its period.
#[derive(Debug, Default)]
struct Reported(Vec<(AccountKey, SystemTime)>);

impl Reported {
    /// Returns the budgets that are used up for the first time in their period.
    fn news(&mut self, views: Vec<AccountView>) -> Vec<AccountView> {
        let is_current = |(key, end): &(AccountKey, SystemTime)| {
            views.iter().any(|view| view.key == *key && view.window.to == *end)
        };
        self.0.retain(is_current);
        let mut news = views;
        news.retain(|view| {
            let is_known = self.0.iter().any(|(key, _)| *key == view.key);
            !view.used_up.is_empty() && !is_known
        });
        self.0.extend(news.iter().map(|view| (view.key.clone(), view.window.to)));
        news
    }
}

fn message(view: &AccountView, now: SystemTime) -> String {
    let limit = |unit: &BudgetUnit| {
        let limit = unit.to_f64(view.limits.get(*unit).unwrap_or_default());
        match (unit, &view.currency) {
            (BudgetUnit::Cost, Some(currency)) => format!("{} {currency}", money(limit)),
            (BudgetUnit::Cost, None) => money(limit),
            (BudgetUnit::Requests | BudgetUnit::Tokens, _) => {
                format!("{} {}", count(limit), unit.as_str())
            }
        }
    };
    let limits: Vec<String> = view.used_up.iter().map(limit).collect();
    format!(
        "the budget of {} per {} is used up until {} ({}); llmload drops the arrivals for which it has \
         no place",
        limits.join(" and "),
        view.key.period,
        view.zone.day_and_time(view.window.to, now),
        view.zone
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Period, Zone};
    use crate::guard::ScenarioBudgets;
    use crate::plan::{Budget, Limits, Spending};

    #[test]
    fn a_used_up_budget_is_reported_once_in_each_period() {
        let limits = Limits::from_units(|unit| match unit {
            BudgetUnit::Requests => None,
            BudgetUnit::Tokens => Some(1000),
            BudgetUnit::Cost => Some(2_500_000_000),
        });
        let (period, zone) = (Period::Hour, Zone::by_name("Europe/Berlin").unwrap());
        let budgets = [Budget { period, zone, limits, currency: Some("EUR".to_owned()) }];
        let accounts = Accounts::new();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let now = Instant::now();
        let typical = Spending::NOTHING;
        let configured = ScenarioBudgets { scenario: "s", budgets: &budgets, typical };
        accounts.configure([configured], at(0), now);
        let of_scenario = accounts.of_scenario("s").unwrap();
        let mut reported = Reported::default();
        let mut news = |seconds| -> Vec<String> {
            let views = reported.news(accounts.views(at(seconds), now));
            views.iter().map(|view| message(view, at(seconds))).collect()
        };
        let held = of_scenario.reserve(Spending::new(1, 900, 0), at(1), now).unwrap();
        assert_eq!(news(1), [""; 0]);
        assert!(of_scenario.reserve(Spending::new(1, 101, 0), at(2), now).is_err());
        let used_up = "the budget of 1,000 tokens per hour is used up until Thu 1 Jan 02:00 \
                       (Europe/Berlin); llmload drops the arrivals for which it has no place";
        assert_eq!(news(2), [used_up]);
        // The usage is smaller than the reservation.
        held.settle(Spending::new(1, 800, 0));
        assert_eq!(accounts.views(at(3), now)[0].used_up, []);
        assert_eq!(news(3), [""; 0]);
        assert!(of_scenario.reserve(Spending::new(1, 300, 0), at(4), now).is_err());
        assert_eq!(news(4), [""; 0], "only once");
        assert_eq!(news(3600), [""; 0]);
        let all = Spending::new(1, 1000, 2_500_000_000);
        drop(of_scenario.reserve(all, at(3601), now).unwrap());
        let [both] = &news(3602)[..] else { panic!() };
        assert!(both.starts_with("the budget of 1,000 tokens and 2.50 EUR per hour is"), "{both}");
    }
}
