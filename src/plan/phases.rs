//! The objectives and the role of each phase of a scenario, and the number of their arrivals.

use std::sync::Arc;

use super::Scenario;
use crate::schedule::Repeat;
use crate::slo::Slo;

/// The most phases that the report of a run lists separately. Further phases share an entry.
pub const MAX_REPORTED_PHASES: usize = 99;

/// The objectives by which a run judges one phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseObjectives {
    /// The objectives of the phase, or else those of the scenario.
    pub slo: Option<Arc<Slo>>,
    /// True if the phase decides nothing.
    pub explore: bool,
    /// True if the phase is one of several levels of `steps` or `concurrency`, or a search. Its
    /// result would be useless if a breaker dropped its arrivals.
    pub is_level: bool,
}

impl Scenario {
    /// The number of passes through the schedule after which a run has run as planned. A schedule
    /// that repeats forever has one pass.
    pub fn passes(&self) -> u64 {
        match self.repeat {
            Repeat::Times(times) => u64::from(times.get()),
            Repeat::Forever => 1,
        }
    }

    /// Returns the most arrivals that all passes can have in the phase with this index. `None` if
    /// the schedule sets no limit: for a closed loop with a length, and for random arrivals.
    pub fn most_arrivals(&self, phase: usize) -> Option<u64> {
        // The number of turns depends on the responses.
        if self.sessions.is_some() {
            return None;
        }
        let span = self.schedule.phase_span(phase).filter(|_| !self.endless)?;
        let load = &span.phase.load;
        if load.search().is_some() {
            return None;
        }
        let of_one_pass = match (load.count(), load.slots()) {
            (Some(count), _) => count.get(),
            (None, Some(_)) => return None,
            (None, None) if !self.arrivals.is_even() => return None,
            // With a part of an arrival before the phase, the phase can have one arrival more.
            (None, None) => u64::try_from(span.total.arrivals()).ok()?.checked_add(1)?,
        };
        of_one_pass.checked_mul(self.passes())
    }
}
