//! Tests of one account: limits, leases, windows and restarts.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn budget(period: Period, zone: &str, requests: Option<u64>, tokens: Option<u64>) -> Budget {
    Budget {
        period,
        zone: Zone::by_name(zone).unwrap(),
        limits: Limits::from_units(|unit| match unit {
            BudgetUnit::Requests => requests,
            BudgetUnit::Tokens => tokens,
            BudgetUnit::Cost => None,
        }),
        currency: None,
    }
}

fn hourly(requests: u64) -> Budget {
    budget(Period::Hour, "UTC", Some(requests), None)
}

/// The size of a request, if nobody knows it.
const UNKNOWN: Spending = Spending::NOTHING;

/// An account that the disk has.
fn saved_account(budget: &Budget, saved: Option<Saved>, wall: SystemTime) -> Account {
    let mut account = Account::new(budget, UNKNOWN, wall);
    account.restore(saved, wall, Instant::now());
    account
}

fn requests(count: u64) -> Spending {
    Spending::new(count, 0, 0)
}

#[test]
fn a_reservation_counts_until_its_real_amount_replaces_it() {
    let now = Instant::now();
    let mut account = Account::new(&budget(Period::Day, "UTC", None, Some(1000)), UNKNOWN, wall(0));
    let tokens = |tokens| Spending::new(1, tokens, 0);
    let first = account.reserve(tokens(600), wall(1), now).unwrap();
    assert_eq!(account.reserve(tokens(401), wall(1), now), Err(Refusal::UsedUp));
    account.settle(first, tokens(600), tokens(100));
    let second = account.reserve(tokens(900), wall(1), now).unwrap();
    account.settle(second, tokens(900), tokens(950));
    assert_eq!(account.used(), Spending::new(2, 1050, 0), "a usage can exceed its reservation");
    assert_eq!(account.reserve(tokens(0), wall(1), now), Err(Refusal::UsedUp));
}

#[test]
fn a_new_window_begins_at_nothing_and_ignores_the_requests_of_the_old_window() {
    let now = Instant::now();
    let mut account = Account::new(&hourly(2), UNKNOWN, wall(0));
    let old = account.reserve(requests(2), wall(3599), now).unwrap();
    assert_eq!(account.reserve(requests(1), wall(3599), now), Err(Refusal::UsedUp));
    assert_eq!(account.reserve(requests(1), wall(3600), now), Ok(old + 1));
    account.settle(old, requests(2), Spending::NOTHING);
    assert_eq!(account.used(), requests(1));
    // The clock goes back by an hour: the later window stays.
    account.reserve(requests(1), wall(1), now).unwrap();
    assert_eq!(account.reserve(requests(1), wall(1), now), Err(Refusal::UsedUp));
    assert_eq!(account.window(), Window { from: wall(3600), to: wall(7200) });
}

/// Saves a proposal of the account, as the thread does.
fn save(account: &mut Account, now: Instant) -> Saved {
    let proposal = account.proposal(now).unwrap();
    account.accept(&proposal, now);
    proposal.saved
}

#[test]
fn an_account_spends_only_its_lease_and_a_killed_process_loses_at_most_one_lease() {
    let now = Instant::now();
    let budget = hourly(10_000);
    let mut account = saved_account(&budget, None, wall(0));
    assert_eq!(account.reserve(requests(1), wall(0), now), Err(Refusal::NotSaved));
    assert!(account.needs_lease(now));
    let saved = save(&mut account, now);
    assert_eq!(saved.current.until, requests(100), "1 % of the limit");
    assert!(!account.needs_lease(now));
    for _ in 0..50 {
        account.reserve(requests(1), wall(0), now).unwrap();
    }
    assert!(!account.needs_lease(now));
    account.reserve(requests(1), wall(0), now).unwrap();
    assert!(account.needs_lease(now), "the rest of the lease is too small");
    for _ in 51..100 {
        account.reserve(requests(1), wall(0), now).unwrap();
    }
    assert_eq!(account.reserve(requests(1), wall(0), now), Err(Refusal::NotSaved));
    let restarted = saved_account(&budget, Some(saved), wall(9));
    assert_eq!(restarted.used(), requests(100));
    // 100 requests in one second are 200 in the time of a lease.
    assert_eq!(save(&mut account, now).current.until, requests(300));
    account.close();
    assert_eq!(account.reserve(requests(1), wall(0), now), Err(Refusal::UsedUp));
    let exact = save(&mut account, now);
    assert_eq!((exact.current.until, exact.next), (requests(100), None));
}

#[test]
fn the_first_arrival_of_a_window_does_not_wait_for_the_disk() {
    let now = Instant::now();
    let budget = hourly(1000);
    let mut account = saved_account(&budget, None, wall(0));
    let saved = save(&mut account, now);
    account.reserve(requests(1), wall(3600), now).unwrap();
    assert!(account.needs_lease(now));
    let restarted = saved_account(&budget, Some(saved.clone()), wall(3700));
    assert_eq!(restarted.used(), requests(1), "the lease of the next window counts as spent");
    let skipped = saved_account(&budget, Some(saved), wall(9000));
    assert_eq!(skipped.used(), Spending::NOTHING);
}

#[test]
fn a_write_that_ends_after_the_start_of_a_window_still_gives_its_first_lease() {
    let now = Instant::now();
    let mut account = saved_account(&hourly(1000), None, wall(0));
    let proposal = account.proposal(now).unwrap();
    assert_eq!(account.reserve(requests(1), wall(3600), now), Err(Refusal::NotSaved));
    account.accept(&proposal, now);
    account.reserve(requests(1), wall(3600), now).unwrap();
    assert_eq!(account.reserve(requests(1), wall(3600), now), Err(Refusal::NotSaved));
}

/// A rate limit refuses the request after the budget has accepted it.
#[test]
fn a_lease_is_requested_again_if_the_reservation_that_requested_it_was_taken_back() {
    let mut account = saved_account(&hourly(1000), None, wall(0));
    save(&mut account, Instant::now());
    // The rate of spending is low, so the size of the lease depends only on the limit.
    let now = Instant::now() + Duration::from_hours(1);
    let mut last = 0;
    while !account.needs_lease(now) {
        last = account.reserve(requests(1), wall(1), now).unwrap();
    }
    assert!(account.requests_lease(now) && !account.requests_lease(now));
    account.settle(last, requests(1), Spending::NOTHING);
    assert!(!account.answer_request(now), "the lease is large enough again");
    account.reserve(requests(1), wall(1), now).unwrap();
    assert!(account.requests_lease(now));
}

#[test]
fn a_small_budget_has_a_lease_for_one_of_its_largest_requests() {
    let now = Instant::now();
    let typical = Spending::new(1, 500, 0);
    let small = budget(Period::Month, "Europe/Berlin", None, Some(3000));
    let mut account = Account::new(&small, typical, wall(0));
    account.restore(None, wall(0), now);
    let until = |account: &mut Account| save(account, now).current.until.get(BudgetUnit::Tokens);
    assert_eq!(until(&mut account), 500);
    let large = Spending::new(1, 900, 0);
    assert_eq!(account.reserve(large, wall(0), now), Err(Refusal::NotSaved));
    assert!(account.needs_lease(now), "the lease is too small for this request");
    assert_eq!(until(&mut account), 900);
    account.reserve(large, wall(0), now).unwrap();
    assert_eq!(until(&mut account), 2700, "the spending of two seconds at this rate");
}

#[test]
fn a_new_limit_keeps_the_spending() {
    let now = Instant::now();
    let mut account = Account::new(&hourly(5), UNKNOWN, wall(0));
    account.reserve(requests(4), wall(0), now).unwrap();
    account.set_budget(&hourly(3), UNKNOWN);
    assert_eq!(account.reserve(requests(1), wall(0), now), Err(Refusal::UsedUp));
    account.set_budget(&hourly(6), UNKNOWN);
    account.reserve(requests(2), wall(0), now).unwrap();
    assert_eq!(account.reserve(requests(1), wall(0), now), Err(Refusal::UsedUp));
}

#[derive(Clone, Debug)]
enum Step {
    /// Requests this amount of tokens.
    Reserve(u64),
    /// Ends an open request, which used this percentage of its reservation.
    Settle(usize, u64),
    /// Changes the wall clock.
    Forward(u64),
    Back(u64),
    Propose,
    /// The disk has the last proposal.
    Accept,
    /// Kills the process, and starts a new one.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u64..400).prop_map(Step::Reserve),
        6 => (any::<usize>(), 0_u64..=100).prop_map(|(request, used)| Step::Settle(request, used)),
        2 => prop_oneof![0_u64..600, 0_u64..200_000].prop_map(Step::Forward),
        1 => (0_u64..100_000).prop_map(Step::Back),
        3 => Just(Step::Propose),
        3 => Just(Step::Accept),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    /// The model adds up the real spending of each window, across all processes. A request that was
    /// open when its process was killed counts with its complete reservation.
    #[test]
    fn no_window_ever_exceeds_its_limit(
        steps in prop::collection::vec(step(), 1..200),
        limit in 1_u64..3000,
        period in 0..Period::ALL.len(),
        zone in prop::sample::select(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"][..]),
        // Days around a change of the clock in 2027.
        begin in prop::sample::select(&[1_806_200_000_u64, 1_806_750_000, 1_820_600_000][..]),
        is_saved in any::<bool>(),
    ) {
        let budget = budget(Period::ALL[period], zone, None, Some(limit));
        let (now, mut time, mut latest) = (Instant::now(), begin, begin);
        let new = |disk: Option<Saved>, time| {
            if is_saved {
                saved_account(&budget, disk, wall(time))
            } else {
                Account::new(&budget, UNKNOWN, wall(time))
            }
        };
        let (mut account, mut disk, mut pending) = (new(None, time), None, None);
        let mut open: Vec<(u64, SystemTime, u64)> = Vec::new();
        let mut spent: HashMap<SystemTime, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Reserve(tokens) => {
                    let amount = Spending::new(1, tokens, 0);
                    if let Ok(number) = account.reserve(amount, wall(time), now) {
                        let from = account.window().from;
                        *spent.entry(from).or_default() += tokens;
                        open.push((number, from, tokens));
                    }
                }
                Step::Settle(request, percentage) if !open.is_empty() => {
                    let (number, from, tokens) = open.swap_remove(request % open.len());
                    let used = tokens * percentage / 100;
                    *spent.entry(from).or_default() -= tokens - used;
                    let amounts = [tokens, used].map(|tokens| Spending::new(1, tokens, 0));
                    account.settle(number, amounts[0], amounts[1]);
                }
                Step::Forward(seconds) => time += seconds,
                Step::Back(seconds) => time -= seconds.min(time - begin),
                Step::Propose => pending = account.proposal(now),
                Step::Accept => {
                    if let Some(proposal) = pending.take() {
                        disk = Some(proposal.saved.clone());
                        account.accept(&proposal, now);
                    }
                }
                Step::Kill if is_saved => {
                    // The clock does not go back together with a kill: see the module.
                    time = latest;
                    account = new(disk, time);
                    // The new process writes before it sends.
                    let proposal = account.proposal(now).unwrap();
                    disk = Some(proposal.saved.clone());
                    account.accept(&proposal, now);
                    (pending, open) = (None, Vec::new());
                }
                Step::Settle(..) | Step::Kill => {}
            }
            latest = latest.max(time);
            for (from, spent) in &spent {
                prop_assert!(*spent <= limit, "{spent} of {limit} in the window of {from:?}");
            }
            let window = account.window();
            let real = spent.get(&window.from).copied().unwrap_or_default();
            prop_assert!(account.used().get(BudgetUnit::Tokens) >= real);
        }
    }
}
