//! The decision to end a run early: an objective can no longer be met, whatever the rest of the run
//! would show. It depends only on counts.

use super::PhaseTally;
use crate::schedule_state::Place;
use crate::slo::Objective;

/// An objective that a phase can no longer meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hopeless {
    /// The name of the phase.
    pub phase: String,
    pub objective: Objective,
}

/// Returns the first objective with `abort` that can no longer be met. `place` is the current part
/// of the run. `has_one_pass` is true if the schedule runs once.
pub(super) fn find(phases: &[PhaseTally], place: Place, has_one_pass: bool) -> Option<Hopeless> {
    // After the last phase, there is nothing left to save.
    let current = match place {
        Place::Phase(current) => current,
        Place::Before | Place::Tail => return None,
    };
    phases.iter().find_map(|phase| {
        let slo = phase.slo.as_ref().filter(|slo| slo.abort && !phase.explore)?;
        let is_over = has_one_pass && phase.positions.iter().all(|position| *position < current);
        let all = if is_over { Some(phase.arrived.arrivals()) } else { phase.most_arrivals }?;
        let counts = slo.objectives.iter().zip(&phase.arrived.objectives);
        let missed = counts.into_iter().find(|(objective, counts)| {
            let all = all.max(counts.judged);
            counts.judged - counts.met > all - objective.share.needed(all)
        });
        missed.map(|(objective, _)| Hopeless { phase: phase.name.clone(), objective: *objective })
    })
}
