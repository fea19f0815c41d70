//! The counts of the sessions of a route. This equation always holds:
//!
//! ```text
//! started = completed + ended early + in progress
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::SessionEnd;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions whose first turn llmload sent.
    pub started: u64,
    /// Sessions whose last turn succeeded.
    pub completed: u64,
    pub in_progress: u64,
    ended_early: [u64; SessionEnd::ALL.len()],
}

impl SessionCounts {
    pub fn ended_early(&self) -> impl Iterator<Item = (SessionEnd, u64)> + '_ {
        SessionEnd::ALL.into_iter().zip(self.ended_early)
    }

    /// Returns the equation if it does not hold.
    pub fn broken_equation(&self) -> Option<String> {
        let ended: u64 = self.ended_early.iter().sum();
        let sum = self.completed + ended + self.in_progress;
        (self.started != sum).then(|| {
            let started = self.started;
            format!("sessions started = completed + ended early + in progress: {started} ≠ {sum}")
        })
    }
}

/// The counts of a route. Sessions change them, and scrapes read them.
#[derive(Debug, Default)]
pub struct SessionLedger {
    counts: Mutex<SessionCounts>,
}

impl SessionLedger {
    pub fn counts(&self) -> SessionCounts {
        self.lock().clone()
    }

    /// Counts a session that has started.
    pub fn start(self: &Arc<Self>) -> SessionGuard {
        let mut counts = self.lock();
        counts.started += 1;
        counts.in_progress += 1;
        SessionGuard { ledger: Some(Arc::clone(self)) }
    }

    fn lock(&self) -> MutexGuard<'_, SessionCounts> {
        // No update panics half-way, so the counts behind a poisoned lock balance.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the end of one session.
#[derive(Debug)]
#[must_use = "dropping the guard counts the session as ended by a shutdown"]
pub struct SessionGuard {
    ledger: Option<Arc<SessionLedger>>,
}

impl SessionGuard {
    pub fn complete(mut self) {
        self.close(|counts| counts.completed += 1);
    }

    pub fn end_early(mut self, reason: SessionEnd) {
        self.close(|counts| counts.ended_early[reason as usize] += 1);
    }

    fn close(&mut self, update: impl FnOnce(&mut SessionCounts)) {
        if let Some(ledger) = self.ledger.take() {
            let mut counts = ledger.lock();
            counts.in_progress -= 1;
            update(&mut counts);
        }
    }
}

/// Counts a session whose task ended without a result.
impl Drop for SessionGuard {
    fn drop(&mut self) {
        let reason =
            if std::thread::panicking() { SessionEnd::Failed } else { SessionEnd::Shutdown };
        self.close(|counts| counts.ended_early[reason as usize] += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_is_counted_once_when_it_ends() {
        for (index, reason) in SessionEnd::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let ledger = Arc::new(SessionLedger::default());
        ledger.start().complete();
        ledger.start().end_early(SessionEnd::Dropped);
        drop(ledger.start());
        let kept = ledger.start();
        let counts = ledger.counts();
        assert_eq!(counts.broken_equation(), None);
        assert_eq!((counts.started, counts.completed, counts.in_progress), (4, 1, 1));
        let ended: Vec<_> = counts.ended_early().filter(|(_, count)| *count > 0).collect();
        assert_eq!(ended, [(SessionEnd::Dropped, 1), (SessionEnd::Shutdown, 1)]);
        drop(kept);
        assert_eq!(ledger.counts().in_progress, 0);
    }
}
