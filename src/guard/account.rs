//! An account: the spending of one budget in its current window.
//!
//! A request reserves the most that it can use before llmload sends it. When the request ends, the
//! account replaces the reservation by the real usage. The sum of the spending and of all
//! reservations never exceeds the limit through a reservation. Only a usage above its reservation
//! can exceed it.
//!
//! An account whose spending is saved on the disk has a lease: the amount up to which the disk
//! already counts the spending. The account accepts a reservation only within its lease, so a
//! process that is killed has never spent more than the disk shows. The thread that writes to the
//! disk extends the lease before it is used up. So no arrival waits for the disk.
//!
//! Windows never go back. After the wall clock went back, the later window stays until its end.
//! Only if a process is killed within milliseconds after the start of a window, and the clock goes
//! back before the restart, the first lease of this window can be spent twice.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::calendar::{Period, Zone};
use crate::plan::{Budget, BudgetUnit, Limits, Spending};

/// A lease is at least this part of the limit.
const LEASE_PART: u64 = 100;
/// A lease lasts for at least this time at the current rate.
const LEASE_TIME: Duration = Duration::from_secs(2);
/// A lease is enough for this number of the largest requests, if they are at most the
/// `LEASE_REQUESTS_PART` of the limit. In any case, it is enough for one.
const LEASE_REQUESTS: u64 = 4;
const LEASE_REQUESTS_PART: u64 = 10;

/// A period of a budget. The end belongs to the next window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: SystemTime,
    pub to: SystemTime,
}

impl Window {
    fn around(period: Period, zone: &Zone, now: SystemTime) -> Window {
        let (from, to) = period.around(zone, now);
        Window { from, to }
    }
}

/// The amount up to which the disk counts the spending of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub window: Window,
    pub until: Spending,
}

/// The content of the disk for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The currency of the cost. `None` if the account counts no cost.
    pub currency: Option<String>,
    pub current: Mark,
    /// A lease for the next window, so its first arrivals do not wait for the disk.
    pub next: Option<Mark>,
}

/// A new content of the disk, and the window in which it was created.
#[derive(Clone, Debug)]
pub struct Proposal {
    number: u64,
    pub saved: Saved,
}

/// Why an account refuses a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UsedUp,
    /// The reservation exceeds the lease.
    NotSaved,
}

#[derive(Clone, Debug)]
pub struct Account {
    period: Period,
    zone: Zone,
    limits: Limits,
    /// The currency of the cost. `None` if the account counts no cost.
    currency: Option<String>,
    window: Window,
    /// The number of the window in this process. A reservation belongs to one window.
    number: u64,
    /// The sum of the spending and of all open reservations.
    used: Spending,
    /// `None` if the account exists only in memory.
    lease: Option<Lease>,
    /// The largest reservation, unit by unit.
    largest: Spending,
    /// The last amount in this window that a limit refused.
    refused: Option<Spending>,
    is_closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    until: Spending,
    next: Option<Mark>,
    /// True if the disk has this window as the current one.
    is_current: bool,
    /// True if the thread that writes to the disk already knows that the lease is short.
    is_requested: bool,
    /// The start and the spending of the time over which the rate of spending is measured.
    since: (Instant, Spending),
}

impl Account {
    /// An account in memory only.
    pub fn new(budget: &Budget, typical: Spending, wall: SystemTime) -> Account {
        let Budget { period, zone, limits, currency } = budget.clone();
        let window = Window::around(period, &zone, wall);
        Account {
            period,
            zone,
            limits,
            currency,
            window,
            number: 0,
            used: Spending::NOTHING,
            lease: None,
            largest: typical,
            refused: None,
            is_closed: false,
        }
    }

    /// Adds the spending that the disk has. A process that was killed has possibly spent its
    /// complete lease, so the lease counts as spent. From now on, the account needs a lease. Does
    /// nothing if it already needs one, so the spending of the disk counts once.
    pub fn restore(&mut self, saved: Option<Saved>, wall: SystemTime, now: Instant) {
        if self.lease.is_some() {
            return;
        }
        self.advance(wall, now);
        if let Some(Saved { currency, current, next }) = saved {
            let mut marks = [Some(current), next].into_iter().flatten();
            if let Some(mark) = marks.find(|mark| wall < mark.window.to) {
                (self.window, self.used) = (mark.window, self.used.plus(mark.until));
                self.currency = currency.or(self.currency.take());
            }
        }
        self.lease = Some(Lease {
            until: self.used,
            next: None,
            is_current: false,
            is_requested: false,
            since: (now, self.used),
        });
    }

    /// Replaces the limits. The spending of the current window stays.
    pub fn set_budget(&mut self, budget: &Budget, typical: Spending) {
        self.zone = budget.zone.clone();
        self.limits = budget.limits;
        if budget.currency.is_some() {
            self.currency.clone_from(&budget.currency);
        }
        self.largest = self.largest.max(typical);
    }

    pub fn window(&self) -> Window {
        self.window
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The sum of the spending and of all open reservations.
    pub fn used(&self) -> Spending {
        self.used
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The units whose limit is reached, or leaves no place for the last refused amount.
    pub fn used_up(&self) -> Vec<BudgetUnit> {
        let refused = self.refused.unwrap_or(Spending::NOTHING);
        let wanted = self.used.plus(refused);
        let has_no_place = |(unit, limit): &(BudgetUnit, u64)| {
            wanted.get(*unit) > *limit || self.used.get(*unit) >= *limit
        };
        self.limits.iter().filter(has_no_place).map(|(unit, _)| unit).collect()
    }

    /// The currency of the cost. `None` if the account counts no cost.
    pub fn currency(&self) -> Option<&str> {
        self.currency.as_deref()
    }

    /// Begins the window of `wall`, if the current window has ended.
    pub fn advance(&mut self, wall: SystemTime, now: Instant) {
        if wall < self.window.to {
            return;
        }
        self.window = self.window_after(wall);
        self.number += 1;
        self.used = Spending::NOTHING;
        self.refused = None;
        if let Some(lease) = &mut self.lease {
            let next = lease.next.take().filter(|next| next.window == self.window);
            lease.until = next.map_or(Spending::NOTHING, |next| next.until);
            (lease.is_current, lease.is_requested) = (false, false);
            lease.since = (now, Spending::NOTHING);
        }
    }

    /// The window of `wall`, which is not before the end of the current window.
    fn window_after(&self, wall: SystemTime) -> Window {
        let Window { from, to } = Window::around(self.period, &self.zone, wall);
        // After a change of the zone, the new period can have begun in the current window.
        Window { from: from.max(self.window.to), to }
    }

    /// Reserves an amount. Returns the number of the window, for [`Account::settle`].
    ///
    /// # Errors
    /// The amount exceeds the limit, or the spending cannot be saved.
    pub fn reserve(
        &mut self,
        amount: Spending,
        wall: SystemTime,
        now: Instant,
    ) -> Result<u64, Refusal> {
        self.advance(wall, now);
        let used = self.used.plus(amount);
        if self.is_closed || !self.limits.allow(used) {
            self.refused = Some(amount);
            return Err(Refusal::UsedUp);
        }
        self.largest = self.largest.max(amount);
        if !self.lease.is_none_or(|lease| self.is_within(used, lease.until)) {
            return Err(Refusal::NotSaved);
        }
        self.used = used;
        Ok(self.number)
    }

    /// Replaces a reservation by the real amount. Does nothing if the window of the reservation has
    /// ended.
    pub fn settle(&mut self, number: u64, reserved: Spending, amount: Spending) {
        if number == self.number {
            self.used = self.used.minus(reserved).plus(amount);
        }
    }

    /// Returns true if the disk does not have the current window yet, if less than half of a lease
    /// is left, or if the rest is not enough for the largest request.
    pub fn needs_lease(&self, now: Instant) -> bool {
        let Some(lease) = self.lease.filter(|_| !self.is_closed) else { return false };
        let is_short = |(unit, limit): (BudgetUnit, u64)| {
            let (until, used) = (lease.until.get(unit), self.used.get(unit));
            let left = until.saturating_sub(used);
            let is_small = left < self.largest.get(unit)
                || left.saturating_mul(2) < self.lease_size(unit, limit, now);
            used > until || (until < limit && is_small)
        };
        !lease.is_current || self.limits.iter().any(is_short)
    }

    /// Returns true if the account needs a lease, but only once until the next [`Account::accept`]
    /// or [`Account::answer_request`].
    pub fn requests_lease(&mut self, now: Instant) -> bool {
        let needs = self.needs_lease(now);
        let Some(lease) = &mut self.lease else { return false };
        needs && !std::mem::replace(&mut lease.is_requested, needs)
    }

    /// Returns true if the account still needs a lease. If it does not, because a reservation was
    /// taken back in the meantime, the account can request the next lease.
    pub fn answer_request(&mut self, now: Instant) -> bool {
        let needs = self.needs_lease(now);
        if let Some(lease) = self.lease.as_mut().filter(|_| !needs) {
            lease.is_requested = false;
        }
        needs
    }

    /// Returns the next content of the disk; `None` if the account exists only in memory.
    pub fn proposal(&self, now: Instant) -> Option<Proposal> {
        let lease = self.lease?;
        if self.is_closed {
            let current = Mark { window: self.window, until: self.used };
            let saved = Saved { currency: self.currency.clone(), current, next: None };
            return Some(Proposal { number: self.number, saved });
        }
        let extends = self.needs_lease(now);
        let until = Spending::from_units(|unit| {
            let (used, until) = (self.used.get(unit), lease.until.get(unit));
            match self.limits.get(unit) {
                // Nothing limits this unit, so its exact amount is enough.
                None => used,
                Some(limit) if extends => {
                    let extended = used.saturating_add(self.lease_size(unit, limit, now));
                    until.max(extended.min(limit)).max(used)
                }
                Some(_) => until.max(used),
            }
        });
        let current = Mark { window: self.window, until };
        let next = self.limits.iter().next().map(|_| self.next_mark());
        let saved = Saved { currency: self.currency.clone(), current, next };
        Some(Proposal { number: self.number, saved })
    }

    /// The lease of the next window. It is enough for one request, because a process that is killed
    /// loses it.
    fn next_mark(&self) -> Mark {
        let until = Spending::from_units(|unit| {
            let limit = self.limits.get(unit);
            limit.map_or(0, |limit| self.largest.get(unit).max(1).min(limit))
        });
        Mark { window: self.window_after(self.window.to), until }
    }

    /// Extends the lease, after the disk has the content of `proposal`.
    pub fn accept(&mut self, proposal: &Proposal, now: Instant) {
        let (number, used, window) = (self.number, self.used, self.window);
        let Some(lease) = self.lease.as_mut().filter(|_| !self.is_closed) else { return };
        let Saved { current, next, .. } = proposal.saved;
        lease.is_requested = false;
        if proposal.number == number {
            if current.until != lease.until {
                lease.until = lease.until.max(current.until);
                lease.since = (now, used);
            }
            (lease.next, lease.is_current) = (next, true);
        } else if let Some(next) = next.filter(|next| next.window == window) {
            // The next window began while the thread wrote.
            lease.until = lease.until.max(next.until);
        }
    }

    /// Refuses all further reservations, so the spending can be saved exactly.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    fn is_within(&self, amount: Spending, until: Spending) -> bool {
        self.limits.iter().all(|(unit, _)| amount.get(unit) <= until.get(unit))
    }

    fn lease_size(&self, unit: BudgetUnit, limit: u64, now: Instant) -> u64 {
        let smallest = self.smallest_lease(unit, limit);
        let Some(lease) = self.lease else { return smallest };
        let (since, before) = lease.since;
        // The rate of a shorter time would be too high after a burst.
        let elapsed = now.saturating_duration_since(since).max(Duration::from_secs(1));
        let spent = u128::from(self.used.get(unit).saturating_sub(before.get(unit)));
        let at_this_rate = spent * LEASE_TIME.as_millis() / elapsed.as_millis();
        smallest.max(u64::try_from(at_this_rate).unwrap_or(u64::MAX))
    }

    fn smallest_lease(&self, unit: BudgetUnit, limit: u64) -> u64 {
        let largest = self.largest.get(unit);
        let requests = largest.saturating_mul(LEASE_REQUESTS).min(limit / LEASE_REQUESTS_PART);
        (limit / LEASE_PART).max(requests).max(largest).max(1)
    }
}

#[cfg(test)]
mod tests;
