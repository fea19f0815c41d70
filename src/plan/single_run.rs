//! The plan of a process that ends: `llmload run` and `llmload capacity`.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{PhaseObjectives, Plan, Start};
use crate::schedule::{Load, Phase, Repeat, Schedule, SearchRange, SearchSpec};
use crate::slo::Slo;

/// The reason why `llmload run` cannot run a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SingleRunError {
    /// The plan has no scenario with the requested name.
    #[error("scenario `{requested}` does not exist; use one of {}", names.join(", "))]
    UnknownScenario { requested: String, names: Vec<String> },
    /// A scenario has a rate or a concurrency instead of a schedule.
    #[error("scenario `{0}` never ends; set the length of the run, such as --for 1m")]
    Endless(String),
    /// A search needs one scenario.
    #[error("the file has several scenarios; choose one with --scenario: {}", .0.join(", "))]
    SeveralScenarios(Vec<String>),
    #[error("scenario `{0}` has several targets, but a search measures one; remove the others")]
    SeveralTargets(String),
    #[error("scenario `{0}` has no `slo`; write the objectives with --slo 'ttft p99<1s'")]
    NoObjectives(String),
}

impl Plan {
    /// Returns the plan for `llmload run`, with the scenario `only` or all scenarios.
    ///
    /// A run starts every scenario at once. It ignores the wall clock, cron and active windows, and
    /// the plan has a warning for each. A schedule that repeats forever runs once, or until the end
    /// of a run with a length (`has_length`). The scenario `only` ignores `after`.
    ///
    /// # Errors
    /// The scenario `only` does not exist, or a scenario never ends.
    pub fn for_single_run(
        mut self,
        only: Option<&str>,
        has_length: bool,
    ) -> Result<Plan, SingleRunError> {
        if let Some(requested) = only {
            let names = self.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
            self.scenarios.retain(|scenario| scenario.name == requested);
            for scenario in &mut self.scenarios {
                scenario.after = None;
            }
            if self.scenarios.is_empty() {
                return Err(SingleRunError::UnknownScenario {
                    requested: requested.to_owned(),
                    names,
                });
            }
        }
        if let Some(endless) =
            self.scenarios.iter().find(|scenario| scenario.endless && !has_length)
        {
            return Err(SingleRunError::Endless(endless.name.clone()));
        }
        for scenario in &mut self.scenarios {
            let follows_clock = matches!(scenario.start, Start::WallClock(_) | Start::Cron(_));
            if follows_clock || scenario.active.is_some() {
                let name = &scenario.name;
                self.warnings.push(format!(
                    "scenario {name}: a run starts at once and ignores `start` and `active`"
                ));
            }
            if follows_clock {
                scenario.start = Start::WhenReady;
            }
            scenario.active = None;
            if scenario.repeat == Repeat::Forever && !has_length {
                scenario.repeat = Repeat::Times(NonZeroU32::MIN);
            }
        }
        Ok(self)
    }

    /// Returns the plan for `llmload capacity`: a search replaces the schedule of the scenario
    /// `only`, or of the only scenario. If `has_objectives` is false, the search has the objectives
    /// of the scenario.
    ///
    /// # Errors
    /// If no scenario, or more than one, fits, and if the scenario does not allow a search.
    pub fn for_search(
        self,
        only: Option<&str>,
        mut spec: SearchSpec,
        has_objectives: bool,
    ) -> Result<Plan, SingleRunError> {
        let mut plan = self.for_single_run(only, true)?;
        let names = plan.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        let [scenario] = plan.scenarios.as_mut_slice() else {
            return Err(SingleRunError::SeveralScenarios(names));
        };
        if !scenario.other_targets.is_empty() {
            return Err(SingleRunError::SeveralTargets(scenario.name.clone()));
        }
        if !has_objectives {
            let objectives = scenario.slo.as_ref();
            let none = || SingleRunError::NoObjectives(scenario.name.clone());
            spec.slo = Slo::clone(objectives.ok_or_else(none)?);
        }
        if let SearchRange::Concurrency { to, .. } = spec.range {
            scenario.max_concurrency = scenario.max_concurrency.max(to);
        }
        scenario.slo = Some(Arc::new(spec.slo.clone()));
        scenario.phases = Arc::new([PhaseObjectives::default()]);
        let load = Load::Search(Arc::new(spec));
        let phase = Phase { name: load.to_string(), load, length: Duration::ZERO };
        scenario.schedule = Arc::new(Schedule::new(vec![phase]));
        (scenario.repeat, scenario.endless) = (Repeat::Times(NonZeroU32::MIN), false);
        Ok(plan)
    }

    /// Makes each scenario wait for the end of the previous scenario.
    #[must_use]
    pub fn in_sequence(mut self) -> Plan {
        let mut previous = None;
        for scenario in &mut self.scenarios {
            scenario.after = previous.replace(scenario.name.clone());
        }
        self
    }
}
