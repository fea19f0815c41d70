//! The books of one stream of load: every arrival in exactly one place.
//!
//! `arrivals = started + dropped`, `started = finished + aborted + in flight`,
//! `finished = succeeded + failures`. Both sides of each equation are kept, under one lock, so that
//! a scrape can never see one without the other and a mistake in either shows.
//!
//! A request that was started holds a [`Started`]; whichever way that value goes, it is entered
//! once: finished, aborted, or (dropped by a panic) failed as `internal`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{AbortReason, DropReason};
use crate::measurement::Failure;

/// A copy of the books at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Scheduled instants that came.
    pub arrivals: u64,
    /// Requests handed over to be sent.
    pub started: u64,
    /// Requests that ended by themselves.
    pub finished: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    dropped: [u64; DropReason::ALL.len()],
    failures: [u64; Failure::ALL.len()],
    aborted: [u64; AbortReason::ALL.len()],
}

impl LedgerCounts {
    /// Arrivals that were not sent, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.dropped)
    }

    /// Requests that failed, by class.
    pub fn failures(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().zip(self.failures)
    }

    /// Requests that llmload cut off, by reason.
    pub fn aborted(&self) -> impl Iterator<Item = (AbortReason, u64)> + '_ {
        AbortReason::ALL.into_iter().zip(self.aborted)
    }

    /// The first equation that does not hold, in words.
    pub fn imbalance(&self) -> Option<String> {
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

/// The books, open.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<LedgerCounts>,
}

impl Ledger {
    /// Empty books.
    pub fn new() -> Arc<Ledger> {
        Arc::default()
    }

    /// Enters an arrival: as started if `admit`, told how many requests are in flight, lets it
    /// through, else as dropped. The question and the entry are one step, so a cap is exact.
    ///
    /// # Errors
    /// The reason for which it was dropped.
    pub fn arrive(
        self: &Arc<Self>,
        admit: impl FnOnce(u64) -> Result<(), DropReason>,
    ) -> Result<Started, DropReason> {
        let mut counts = self.lock();
        counts.arrivals += 1;
        match admit(counts.in_flight) {
            Ok(()) => {
                counts.started += 1;
                counts.in_flight += 1;
                Ok(Started { ledger: Some(Arc::clone(self)) })
            }
            Err(reason) => {
                counts.dropped[reason as usize] += 1;
                Err(reason)
            }
        }
    }

    /// A copy of the books.
    pub fn read(&self) -> LedgerCounts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LedgerCounts> {
        // No entry can panic half-way, so a poisoned lock still guards balanced books.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight; its value is the one right to enter its end.
#[derive(Debug)]
#[must_use = "dropping it enters the request as aborted"]
pub struct Started {
    ledger: Option<Arc<Ledger>>,
}

impl Started {
    /// The request ended by itself.
    pub fn finish(mut self, outcome: Result<(), Failure>) {
        self.close(|counts| {
            counts.finished += 1;
            match outcome {
                Ok(()) => counts.succeeded += 1,
                Err(failure) => counts.failures[failure as usize] += 1,
            }
        });
    }

    /// llmload cut the request off.
    pub fn abort(mut self, reason: AbortReason) {
        self.close(|counts| counts.aborted[reason as usize] += 1);
    }

    fn close(&mut self, enter: impl FnOnce(&mut LedgerCounts)) {
        if let Some(ledger) = self.ledger.take() {
            let mut counts = ledger.lock();
            counts.in_flight -= 1;
            enter(&mut counts);
        }
    }
}

/// Nobody finished it: its task ended with the runtime, or panicked.
impl Drop for Started {
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
    fn enum_positions_are_the_positions_of_the_books() {
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
    fn each_way_to_end_is_entered_once() {
        let ledger = Ledger::new();
        let start = || ledger.arrive(|_| Ok(())).unwrap();
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
                .arrive(|in_flight| if in_flight < 1 {
                    Ok(())
                } else {
                    Err(DropReason::MaxConcurrency)
                })
                .unwrap_err(),
            DropReason::MaxConcurrency
        );
        let counts = ledger.read();
        assert_eq!(counts.imbalance(), None);
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
        assert_eq!(ledger.read().in_flight, 0);
    }
}
