//! The accounts of all budgets of a process, and the reservations of requests.
//!
//! The accounts of a removed scenario stay until their windows have ended. If a reload adds the
//! scenario again, it continues with the same spending.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::account::{Account, Proposal, Refusal, Saved, Window};
use crate::calendar::{Period, Zone, rfc3339};
use crate::plan::{Budget, BudgetUnit, Limits, Scenario, Spending};

/// A write to the disk that runs for longer than this time counts as failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// The identity of an account. The limits and the time zone of its budget can change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountKey {
    pub scenario: String,
    pub period: Period,
}

/// The content of the disk for one account, with its identity.
pub type SavedAccount = (AccountKey, Saved);

/// The budgets of a scenario, with the typical use of one arrival.
#[derive(Clone, Debug)]
pub struct ScenarioBudgets<'a> {
    pub scenario: &'a str,
    pub budgets: &'a [Budget],
    /// The size of the first lease depends on it.
    pub typical: Spending,
}

impl<'a> ScenarioBudgets<'a> {
    pub fn new(scenario: &'a Scenario) -> ScenarioBudgets<'a> {
        let Scenario { name, budgets, .. } = scenario;
        ScenarioBudgets { scenario: name, budgets, typical: scenario.typical_spending() }
    }
}

/// The accounts of a process, for all its scenarios.
#[derive(Debug, Default)]
pub struct Accounts {
    entries: Mutex<Vec<Entry>>,
    signal: Arc<Signal>,
    /// True if the disk has the accounts.
    is_saved: AtomicBool,
    /// True if the last write to the disk failed.
    has_failed: AtomicBool,
    /// The start of the write that runs.
    write_begun: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Entry {
    key: AccountKey,
    account: Arc<Mutex<Account>>,
    /// False if the scenario no longer has this budget.
    is_live: bool,
}

impl Entry {
    /// Returns false if nothing can use this account again.
    fn is_needed(&self, wall: SystemTime) -> bool {
        self.is_live || wall < lock(&self.account).window().to
    }
}

/// Wakes the thread that writes to the disk.
#[derive(Debug, Default)]
struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    needs_lease: bool,
    is_closed: bool,
}

/// The state of a budget, for people and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountView {
    pub key: AccountKey,
    pub window: Window,
    /// The zone in which the windows begin.
    pub zone: Zone,
    /// The sum of the spending and of all open reservations.
    pub used: Spending,
    pub limits: Limits,
    /// The currency of the cost. `None` if the account counts no cost.
    pub currency: Option<String>,
    /// The units that have no place for a further request.
    pub used_up: Vec<BudgetUnit>,
}

/// The prices of a scenario have a new currency, but its budget has already counted a cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the budget per {} of scenario {} counts its cost in {old} until {}, so its prices cannot \
     change to {new}; change them after this time, or rename the scenario, which starts its budgets \
     at 0",
    key.period, key.scenario, rfc3339(*until)
)]
pub struct CurrencyConflict {
    pub key: AccountKey,
    pub old: String,
    pub new: String,
    /// The end of the current window.
    pub until: SystemTime,
}

/// Why the thread that writes to the disk wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeUp {
    /// An account needs a lease, or the time is over.
    Check,
    /// [`Accounts::close`] was called.
    Closed,
}

impl Accounts {
    pub fn new() -> Arc<Accounts> {
        Arc::default()
    }

    /// A copy that shares nothing with these accounts.
    #[must_use]
    pub fn copy(&self) -> Accounts {
        let copy = |entry: &Entry| {
            let account = lock(&entry.account).clone();
            let Entry { key, is_live, .. } = entry;
            Entry { key: key.clone(), account: Arc::new(Mutex::new(account)), is_live: *is_live }
        };
        let entries: Vec<Entry> = lock(&self.entries).iter().map(copy).collect();
        let is_saved = AtomicBool::new(self.is_saved());
        Accounts { entries: Mutex::new(entries), is_saved, ..Accounts::default() }
    }

    /// Adds the accounts of the disk. From now on, all accounts need a lease.
    pub fn restore(&self, saved: Vec<SavedAccount>, wall: SystemTime, now: Instant) {
        self.is_saved.store(true, Ordering::Relaxed);
        let mut entries = lock(&self.entries);
        for entry in entries.iter() {
            let saved = saved.iter().find(|(key, _)| *key == entry.key);
            lock(&entry.account).restore(saved.map(|(_, saved)| saved.clone()), wall, now);
        }
        for (key, saved) in saved {
            if entries.iter().any(|entry| entry.key == key) {
                continue;
            }
            // The scenario can be absent from the configuration, so only the disk is known.
            let budget = Budget {
                period: key.period,
                zone: Zone::UTC,
                limits: Limits::default(),
                currency: saved.currency.clone(),
            };
            let mut account = Account::new(&budget, Spending::NOTHING, wall);
            account.restore(Some(saved), wall, now);
            entries.push(Entry { key, account: Arc::new(Mutex::new(account)), is_live: false });
        }
    }

    /// Applies the budgets of a configuration. The spending of each account stays. Forgets removed
    /// budgets whose window has ended.
    pub fn configure<'a>(
        &self,
        scenarios: impl IntoIterator<Item = ScenarioBudgets<'a>>,
        wall: SystemTime,
        now: Instant,
    ) {
        let mut entries = lock(&self.entries);
        for entry in entries.iter_mut() {
            entry.is_live = false;
        }
        for ScenarioBudgets { scenario, budgets, typical } in scenarios {
            for budget in budgets {
                let key = AccountKey { scenario: scenario.to_owned(), period: budget.period };
                if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
                    lock(&entry.account).set_budget(budget, typical);
                    entry.is_live = true;
                    continue;
                }
                let mut account = Account::new(budget, typical, wall);
                if self.is_saved() {
                    account.restore(None, wall, now);
                }
                entries.push(Entry { key, account: Arc::new(Mutex::new(account)), is_live: true });
            }
        }
        entries.retain(|entry| entry.is_needed(wall));
        drop(entries);
        self.signal.wake();
    }

    /// Finds a budget whose account counts the cost of its current window in another currency.
    /// `saved` are the accounts of the disk, if they are not restored yet.
    pub fn currency_conflict(
        &self,
        scenarios: &[ScenarioBudgets<'_>],
        saved: &[SavedAccount],
        wall: SystemTime,
    ) -> Option<CurrencyConflict> {
        let entries = lock(&self.entries);
        let in_memory = |entry: &Entry| {
            let account = lock(&entry.account);
            let spent = (account.used(), account.window());
            Some((entry.key.clone(), account.currency()?.to_owned(), spent))
        };
        let on_disk = |(key, saved): &SavedAccount| {
            let spent = (saved.current.until, saved.current.window);
            Some((key.clone(), saved.currency.clone()?, spent))
        };
        let counted = entries.iter().filter_map(in_memory);
        let counted = counted.chain(saved.iter().filter_map(on_disk));
        let budgets = || {
            scenarios.iter().flat_map(|ScenarioBudgets { scenario, budgets, .. }| {
                budgets.iter().map(move |budget| (*scenario, budget))
            })
        };
        let conflict = |(key, old, (used, window)): (AccountKey, String, (Spending, Window))| {
            let budget = budgets()
                .find(|(name, budget)| *name == key.scenario && budget.period == key.period);
            let new = budget?.1.currency.clone()?;
            let counts = used.get(BudgetUnit::Cost) > 0 && wall < window.to;
            (counts && old != new).then_some(CurrencyConflict { key, old, new, until: window.to })
        };
        { counted }.find_map(conflict)
    }

    /// The budgets of a scenario; `None` if it has none.
    pub fn of_scenario(&self, scenario: &str) -> Option<Budgets> {
        let entries = lock(&self.entries);
        let live = entries.iter().filter(|entry| entry.is_live && entry.key.scenario == scenario);
        let accounts: Vec<_> = live.map(|entry| Arc::clone(&entry.account)).collect();
        let signal = Arc::clone(&self.signal);
        (!accounts.is_empty()).then(|| Budgets { accounts: accounts.into(), signal })
    }

    /// The state of each budget of the current configuration.
    pub fn views(&self, wall: SystemTime, now: Instant) -> Vec<AccountView> {
        let entries = lock(&self.entries);
        let view = |entry: &Entry| {
            let mut account = lock(&entry.account);
            account.advance(wall, now);
            AccountView {
                key: entry.key.clone(),
                window: account.window(),
                zone: account.zone().clone(),
                used: account.used(),
                limits: account.limits(),
                currency: account.currency().map(str::to_owned),
                used_up: account.used_up(),
            }
        };
        entries.iter().filter(|entry| entry.is_live).map(view).collect()
    }

    /// Returns true if the disk has the accounts, so a restart keeps the spending.
    pub fn is_saved(&self) -> bool {
        self.is_saved.load(Ordering::Relaxed)
    }

    /// Returns true if the last write to the disk failed, or if the disk does not respond. The
    /// scenarios with budgets then stop when their leases are used up.
    pub fn has_failed(&self, now: Instant) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.is_stuck(now)
    }

    /// Returns true if a write to the disk runs for so long that it counts as failed.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let begun = *lock(&self.write_begun);
        begun.is_some_and(|begun| now.saturating_duration_since(begun) > WRITE_TIMEOUT)
    }

    pub fn begin_write(&self, now: Instant) {
        *lock(&self.write_begun) = Some(now);
    }

    pub fn end_write(&self, has_failed: bool) {
        self.has_failed.store(has_failed, Ordering::Relaxed);
        *lock(&self.write_begun) = None;
    }

    /// Returns true if the current configuration has budgets.
    pub fn has_budgets(&self) -> bool {
        lock(&self.entries).iter().any(|entry| entry.is_live)
    }

    /// Returns true if an account needs a lease.
    pub fn need_lease(&self, wall: SystemTime, now: Instant) -> bool {
        let mut needs_lease = false;
        for entry in lock(&self.entries).iter() {
            let mut account = lock(&entry.account);
            account.advance(wall, now);
            // Each account gets an answer, so no request of a lease stays open.
            needs_lease |= account.answer_request(now) && entry.is_live;
        }
        needs_lease
    }

    /// Returns the next content of the disk. Forgets removed budgets whose window has ended.
    pub fn proposals(&self, wall: SystemTime, now: Instant) -> Vec<(AccountKey, Proposal)> {
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.is_needed(wall));
        let proposal = |entry: &Entry| {
            let mut account = lock(&entry.account);
            account.advance(wall, now);
            Some((entry.key.clone(), account.proposal(now)?))
        };
        entries.iter().filter_map(proposal).collect()
    }

    /// Extends the leases, after the disk has the content of `proposals`.
    pub fn accept(&self, proposals: &[(AccountKey, Proposal)], now: Instant) {
        let entries = lock(&self.entries);
        for (key, proposal) in proposals {
            if let Some(entry) = entries.iter().find(|entry| entry.key == *key) {
                lock(&entry.account).accept(proposal, now);
            }
        }
    }

    /// Waits until an account needs a lease, until the process ends, or for this time.
    pub fn wait(&self, time: Duration) -> WakeUp {
        self.signal.wait(time, |state| state.needs_lease || state.is_closed)
    }

    /// Waits for this time, or until the process ends.
    pub fn wait_for_close(&self, time: Duration) -> WakeUp {
        self.signal.wait(time, |state| state.is_closed)
    }

    /// Refuses all further reservations. The next proposals have the exact spending.
    pub fn close(&self) {
        for entry in lock(&self.entries).iter() {
            lock(&entry.account).close();
        }
        lock(&self.signal.state).is_closed = true;
        self.signal.changed.notify_all();
    }
}

impl Signal {
    fn wake(&self) {
        lock(&self.state).needs_lease = true;
        self.changed.notify_all();
    }

    fn wait(&self, time: Duration, is_over: impl Fn(&SignalState) -> bool) -> WakeUp {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, time, |state| !is_over(state));
        let (mut state, _is_timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.needs_lease = false;
        if state.is_closed { WakeUp::Closed } else { WakeUp::Check }
    }
}

/// The budgets of one scenario. All its routes share them.
#[derive(Clone, Debug)]
pub struct Budgets {
    accounts: Arc<[Arc<Mutex<Account>>]>,
    signal: Arc<Signal>,
}

impl Budgets {
    /// Reserves an amount in each budget, or in none.
    ///
    /// # Errors
    /// The reason of the first budget that refuses the amount.
    pub fn reserve(
        &self,
        amount: Spending,
        wall: SystemTime,
        now: Instant,
    ) -> Result<Reservation, Refusal> {
        let mut reservation = Reservation { held: Vec::new(), amount };
        let (mut needs_lease, mut refusal) = (false, None);
        for account in self.accounts.iter() {
            let mut locked = lock(account);
            let reserved = locked.reserve(amount, wall, now);
            needs_lease |= locked.requests_lease(now);
            drop(locked);
            match reserved {
                Ok(number) => reservation.held.push((Arc::clone(account), number)),
                Err(refused) => {
                    refusal = Some(refused);
                    break;
                }
            }
        }
        if needs_lease {
            self.signal.wake();
        }
        match refusal {
            None => Ok(reservation),
            Some(refusal) => {
                reservation.settle(Spending::NOTHING);
                Err(refusal)
            }
        }
    }
}

/// The reservation of one request. If it is dropped, the budgets keep its complete amount.
#[derive(Debug)]
#[must_use = "dropping the reservation keeps its complete amount"]
pub struct Reservation {
    /// The accounts, each with the number of the window of the reservation.
    held: Vec<(Arc<Mutex<Account>>, u64)>,
    amount: Spending,
}

impl Reservation {
    /// The reserved amount.
    pub fn amount(&self) -> Spending {
        self.amount
    }

    /// Replaces the reservation by the real amount.
    pub fn settle(self, amount: Spending) {
        for (account, number) in self.held {
            lock(&account).settle(number, self.amount, amount);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No update panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
