//! The ledger of a route (one scenario on one target). It counts every arrival, so that these
//! equations always hold:
//!
//! ```text
//! arrivals = started + dropped
//! started  = finished + aborted + in flight
//! finished = succeeded + failures
//! ```
//!
//! The ledger counts both sides of an equation separately, so a wrong count breaks the equation.
//! Both sides change under one lock, so a scrape never sees one without the other.
//!
//! Each request in flight holds an [`InFlightGuard`], which counts the end of the request exactly
//! once. If a panic drops the guard, the request is a failure of class `internal`.

mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{AbortReason, DropReason};
use crate::measurement::Failure;
pub use sessions::{SessionCounts, SessionGuard, SessionLedger};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Sent or dropped.
    pub arrivals: u64,
    pub started: u64,
    /// Requests that succeeded or failed.
    pub finished: u64,
    pub succeeded: u64,
    pub in_flight: u64,
    dropped: [u64; DropReason::ALL.len()],
    failures: [u64; Failure::ALL.len()],
    aborted: [u64; AbortReason::ALL.len()],
}

impl LedgerCounts {
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.dropped)
    }

    pub fn failures(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().zip(self.failures)
    }

    pub fn aborted(&self) -> impl Iterator<Item = (AbortReason, u64)> + '_ {
        AbortReason::ALL.into_iter().zip(self.aborted)
    }

    /// Returns the first equation that does not hold, or `None` if the ledger balances.
    pub fn first_broken_equation(&self) -> Option<String> {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let equations = [
            ("arrivals = started + dropped", self.arrivals, self.started + sum(&self.dropped)),
            (
                "started = finished + aborted + in flight",
                self.started,
                self.finished + sum(&self.aborted) + self.in_flight,
            ),
            (
                "finished = succeeded + failures",
                self.finished,
                self.succeeded + sum(&self.failures),
            ),
        ];
        let wrong = equations.into_iter().find(|(_, left, right)| left != right)?;
        Some(format!("{}: {} ≠ {}", wrong.0, wrong.1, wrong.2))
    }
}

/// The counts of a route. Requests change them, and scrapes read them.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<LedgerCounts>,
}

impl Ledger {
    pub fn new() -> Arc<Ledger> {
        Arc::default()
    }

    /// Counts an arrival. `admit` gets the number of requests in flight. If it returns a permit,
    /// the arrival counts as started, otherwise as dropped. Both happen under one lock, so `admit`
    /// can enforce an exact limit. `admit` can take the lock of a limit, but must not wait.
    ///
    /// # Errors
    /// The reason that `admit` returns.
    pub fn record_arrival<P>(
        self: &Arc<Self>,
        admit: impl FnOnce(u64) -> Result<P, DropReason>,
    ) -> Result<(InFlightGuard, P), DropReason> {
        let mut counts = self.lock();
        counts.arrivals += 1;
        match admit(counts.in_flight) {
            Ok(permit) => {
                counts.started += 1;
                counts.in_flight += 1;
                Ok((InFlightGuard { ledger: Some(Arc::clone(self)) }, permit))
            }
            Err(reason) => {
                counts.dropped[reason as usize] += 1;
                Err(reason)
            }
        }
    }

    pub fn counts(&self) -> LedgerCounts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LedgerCounts> {
        // No update panics half-way, so the counts behind a poisoned lock balance.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the end of one request in flight.
#[derive(Debug)]
#[must_use = "dropping the guard counts the request as aborted"]
pub struct InFlightGuard {
    ledger: Option<Arc<Ledger>>,
}

impl InFlightGuard {
    pub fn finish(mut self, outcome: Result<(), Failure>) {
        self.close(|counts| {
            counts.finished += 1;
            match outcome {
                Ok(()) => counts.succeeded += 1,
                Err(failure) => counts.failures[failure as usize] += 1,
            }
        });
    }

    pub fn abort(mut self, reason: AbortReason) {
        self.close(|counts| counts.aborted[reason as usize] += 1);
    }

    /// Counts the end of the request, if nothing has counted it yet.
    fn close(&mut self, update: impl FnOnce(&mut LedgerCounts)) {
        if let Some(ledger) = self.ledger.take() {
            let mut counts = ledger.lock();
            counts.in_flight -= 1;
            update(&mut counts);
        }
    }
}

/// Counts a request whose task ended without a result: the task panicked, or the runtime shut down.
impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        self.close(|counts| {
            if panicking {
                counts.finished += 1;
                counts.failures[Failure::Internal as usize] += 1;
            } else {
                counts.aborted[AbortReason::Shutdown as usize] += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enum_values_are_the_positions_of_their_counts() {
        for (i, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
        for (i, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, i);
        }
        for (i, reason) in AbortReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
        }
    }

    #[test]
    fn each_request_is_counted_once_when_it_ends() {
        let ledger = Ledger::new();
        let start = || ledger.record_arrival(|_| Ok(())).unwrap().0;
        start().finish(Ok(()));
        start().finish(Err(Failure::Truncated));
        start().abort(AbortReason::Reload);
        drop(start());
        let started = start();
        let panicked = std::thread::spawn(move || {
            let _held = started;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        let kept = start();
        assert_eq!(
            ledger
                .record_arrival(|in_flight| if in_flight < 1 {
                    Ok(())
                } else {
                    Err(DropReason::MaxConcurrency)
                })
                .unwrap_err(),
            DropReason::MaxConcurrency
        );
        let counts = ledger.counts();
        assert_eq!(counts.first_broken_equation(), None);
        assert_eq!(
            (counts.arrivals, counts.started, counts.finished, counts.succeeded, counts.in_flight),
            (7, 6, 3, 1, 1)
        );
        assert_eq!(
            counts.failures().find(|f| f.0 == Failure::Internal),
            Some((Failure::Internal, 1))
        );
        assert_eq!(
            counts.aborted().collect::<Vec<_>>(),
            [(AbortReason::Shutdown, 1), (AbortReason::Reload, 1)]
        );
        drop(kept);
        assert_eq!(ledger.counts().in_flight, 0);
    }
}
