//! The searches for the capacity of a scenario: the steps so far, and the results.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::capacity::{Capacity, Level, Outcome, Search, StepPlan};

/// The driver changes this state. The metrics, the progress and the report read it.
#[derive(Debug, Default)]
pub struct Searches(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    states: Vec<SearchState>,
    latest: Option<(Capacity, SystemTime)>,
}

/// The latest search of one phase.
#[derive(Clone, Debug)]
pub struct SearchState {
    /// The index of the phase in the schedule.
    pub phase: usize,
    pub search: Search,
    /// The step that runs now, and its start.
    pub current: Option<(StepPlan, Instant)>,
    /// `None` while the search runs.
    pub outcome: Option<Outcome>,
}

impl Searches {
    /// Replaces the state of the search of this phase.
    pub fn set(&self, state: SearchState) {
        let states = &mut self.lock().states;
        match states.iter_mut().find(|other| other.phase == state.phase) {
            Some(other) => *other = state,
            None => states.push(state),
        }
    }

    /// Records the capacity that a search has found.
    pub fn set_capacity(&self, capacity: Capacity, at: SystemTime) {
        self.lock().latest = Some((capacity, at));
    }

    /// Forgets the states, because another schedule replaces the schedule. The latest capacity
    /// remains.
    pub fn clear(&self) {
        self.lock().states.clear();
    }

    /// Returns the latest search of each phase that has begun.
    pub fn states(&self) -> Vec<SearchState> {
        self.lock().states.clone()
    }

    /// Returns the level of the step that runs now in this phase.
    pub(super) fn current_level(&self, phase: usize) -> Option<Level> {
        let inner = self.lock();
        let state = inner.states.iter().find(|state| state.phase == phase)?;
        state.current.map(|(step, _)| step.level)
    }

    /// Returns the latest capacity, and the time at which its search ended.
    pub fn capacity(&self) -> Option<(Capacity, SystemTime)> {
        self.lock().latest
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
