//! Tests of all accounts of a process.

use super::*;
use crate::plan::BudgetUnit;

fn budget(period: Period, requests: u64) -> Budget {
    let limits = Limits::from_units(|unit| (unit == BudgetUnit::Requests).then_some(requests));
    Budget { period, zone: Zone::UTC, limits, currency: None }
}

fn scenario<'a>(scenario: &'a str, budgets: &'a [Budget]) -> ScenarioBudgets<'a> {
    ScenarioBudgets { scenario, budgets, typical: Spending::NOTHING }
}

fn used(accounts: &Accounts, wall: SystemTime) -> Vec<(Period, u64)> {
    let views = accounts.views(wall, Instant::now());
    let used = |view: &AccountView| (view.key.period, view.used.get(BudgetUnit::Requests));
    views.iter().map(used).collect()
}

#[test]
fn a_request_is_reserved_in_all_budgets_or_in_none() {
    let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
    let accounts = Accounts::new();
    let budgets = [budget(Period::Hour, 5), budget(Period::Day, 2)];
    accounts.configure([scenario("s", &budgets)], wall, now);
    let budgets = accounts.of_scenario("s").unwrap();
    let one = Spending::new(1, 0, 0);
    let first = budgets.reserve(one, wall, now).unwrap();
    drop(budgets.reserve(one, wall, now).unwrap());
    assert_eq!(budgets.reserve(one, wall, now).unwrap_err(), Refusal::UsedUp);
    assert_eq!(used(&accounts, wall), [(Period::Hour, 2), (Period::Day, 2)]);
    first.settle(Spending::NOTHING);
    assert_eq!(used(&accounts, wall), [(Period::Hour, 1), (Period::Day, 1)]);
    assert!(accounts.of_scenario("other").is_none());
}

#[test]
fn a_removed_budget_keeps_its_spending_until_its_window_ends() {
    let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
    let accounts = Accounts::new();
    let budgets = [budget(Period::Hour, 5)];
    accounts.configure([scenario("s", &budgets)], wall, now);
    drop(accounts.of_scenario("s").unwrap().reserve(Spending::new(3, 0, 0), wall, now));
    accounts.configure([], wall, now);
    assert!(accounts.views(wall, now).is_empty() && accounts.of_scenario("s").is_none());
    let _proposals = accounts.proposals(wall, now);
    accounts.configure([scenario("s", &budgets)], wall, now);
    assert_eq!(used(&accounts, wall), [(Period::Hour, 3)]);
    accounts.configure([], wall, now);
    // A process without `state_dir` has no proposals.
    let other = [budget(Period::Month, 5)];
    accounts.configure([scenario("other", &other)], wall + Duration::from_hours(1), now);
    assert_eq!(lock(&accounts.entries).len(), 1);
    accounts.configure([], wall, now);
    let later = wall + Duration::from_hours(800);
    let _proposals = accounts.proposals(later, now);
    assert!(lock(&accounts.entries).is_empty());
}

#[test]
fn an_account_wakes_the_thread_once_until_it_has_a_lease() {
    let (wall, now) = (SystemTime::UNIX_EPOCH, Instant::now());
    let accounts = Accounts::new();
    accounts.restore(Vec::new(), wall, now);
    let budgets = [budget(Period::Day, 1000)];
    accounts.configure([scenario("s", &budgets)], wall, now);
    assert_eq!(accounts.wait(Duration::MAX), WakeUp::Check);
    let budgets = accounts.of_scenario("s").unwrap();
    let one = Spending::new(1, 0, 0);
    assert_eq!(budgets.reserve(one, wall, now).unwrap_err(), Refusal::NotSaved);
    assert_eq!(accounts.wait(Duration::MAX), WakeUp::Check);
    assert_eq!(budgets.reserve(one, wall, now).unwrap_err(), Refusal::NotSaved);
    assert!(!lock(&accounts.signal.state).needs_lease, "the thread knows it already");
    let proposals = accounts.proposals(wall, now);
    accounts.accept(&proposals, now);
    drop(budgets.reserve(one, wall, now).unwrap());
    accounts.close();
    assert_eq!(accounts.wait(Duration::MAX), WakeUp::Closed);
    assert_eq!(budgets.reserve(one, wall, now).unwrap_err(), Refusal::UsedUp);
}
