//! Validates the schedule of a scenario. This module expands loops and levels into a list of
//! phases, and names each phase. The module `shapes` reads the load of a phase, and `phase_end` its
//! length.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Validator;
use super::phase_end::{PromptCount, RequestCount};
use super::search::Objectives;
use super::shapes::{Level, MAX_PHASES, PHASE_KINDS, PreviousRate, ShapeContext};
use super::slo::ResponseForm;
use crate::config::document::{Phase, Scenario};
use crate::config::field::{Field, FieldList, Located};
use crate::config::tree::{NodeId, excerpt};
use crate::plan::{MAX_REPORTED_PHASES, PhaseObjectives};
use crate::schedule::{self, Load, Schedule};
use crate::slo::Slo;

/// The cycle length of a scenario with `rate` or `concurrency` instead of `schedule`. Its load
/// never changes, so users do not notice the cycles.
const SHORTHAND_LENGTH: Duration = Duration::from_hours(1);

/// A phase of the expanded schedule. Missing names are generated at the end, when all other names
/// are known.
#[derive(Clone)]
struct PhaseSpec {
    /// A number that all repetitions of a phase share, so that they get the same name.
    id: usize,
    name: Option<String>,
    load: Load,
    length: Duration,
    slo: Option<Arc<Slo>>,
    explore: bool,
    /// True if the entry of the schedule has several levels.
    is_level: bool,
}

enum PhaseName {
    Given(String),
    /// llmload generates the name from the load.
    Generated,
    /// The name has a mistake.
    Invalid,
}

/// The data that one entry of the schedule passes on to the next.
struct Expansion {
    context: ShapeContext,
    /// The configured names of earlier entries.
    names: HashSet<String>,
    prompts: PromptCount,
    form: ResponseForm,
    next_id: usize,
}

/// The parts of a scenario on which its phases depend.
pub(super) struct PhaseContext {
    pub(super) max_concurrency: Option<NonZeroU32>,
    pub(super) prompts: PromptCount,
    pub(super) form: ResponseForm,
    pub(super) objectives: Objectives,
}

impl Validator<'_> {
    /// Reads the schedule. The scenario has exactly one of `schedule`, `rate` and `concurrency`.
    pub(super) fn schedule(
        &self,
        scenario: &Scenario,
        node: NodeId,
        context: PhaseContext,
    ) -> Option<(Schedule, Vec<PhaseObjectives>)> {
        let keys = [
            ("schedule", scenario.schedule.node()),
            ("rate", scenario.rate.node()),
            ("concurrency", scenario.concurrency.node()),
        ];
        let mut present = keys.iter().filter_map(|(key, node)| node.map(|node| (key, node)));
        let first = present.next();
        if let Some((key, second)) = present.next() {
            let other = first.map_or("schedule", |(key, _)| key);
            self.problem(
                second,
                format!("`{key}` and `{other}` exclude each other"),
                "remove one of them",
            );
            return None;
        }
        if first.is_none() {
            self.missing(
                node,
                "the load is missing",
                "write `rate: 5/s`, `concurrency: 10` or a `schedule`",
            );
        }
        let shorthand = |load| {
            let (length, slo, explore) = (SHORTHAND_LENGTH, None, false);
            vec![PhaseSpec { id: 0, name: None, load, length, slo, explore, is_level: false }]
        };
        let phases = if let Some(list) = scenario.schedule.present() {
            self.phases(list, context)?
        } else if let Some(rate) = scenario.rate.present() {
            shorthand(self.constant(rate.node, rate.value.0)?)
        } else {
            let level = scenario.concurrency.present()?;
            shorthand(self.concurrency_level(level.node, level.value.0, context.max_concurrency)?)
        };
        let objectives = phases
            .iter()
            .map(|PhaseSpec { slo, explore, is_level, .. }| PhaseObjectives {
                slo: slo.clone(),
                explore: *explore,
                is_level: *is_level,
            })
            .collect();
        Some((Schedule::new(with_names(phases)), objectives))
    }

    fn phases(
        &self,
        list: &Located<FieldList<Phase>>,
        PhaseContext { max_concurrency, prompts, form, objectives }: PhaseContext,
    ) -> Option<Vec<PhaseSpec>> {
        let mut expansion = Expansion {
            context: ShapeContext {
                previous_rate: PreviousRate::First,
                max_concurrency,
                objectives,
            },
            names: HashSet::new(),
            prompts,
            form,
            next_id: 0,
        };
        let phases = self.expand(list, &mut expansion)?;
        let total =
            phases.iter().try_fold(Duration::ZERO, |sum, phase| sum.checked_add(phase.length));
        if total.is_none_or(|total| total > schedule::Phase::LONGEST) {
            self.problem(
                list.node,
                "all phases together last longer than 366 days",
                "shorten the phases",
            );
            return None;
        }
        if phases.iter().all(|phase| phase.load == Load::Pause) {
            self.problem(list.node, "the schedule sends nothing", "add a phase with load");
            return None;
        }
        let different: HashSet<usize> = phases.iter().map(|phase| phase.id).collect();
        let has_objectives = phases.iter().any(|phase| phase.slo.is_some() || phase.explore);
        if has_objectives && different.len() > MAX_REPORTED_PHASES {
            self.problem(
                list.node,
                format!(
                    "a schedule of {} phases has `slo` or `explore` on a phase",
                    different.len()
                ),
                format!("use at most {MAX_REPORTED_PHASES} phases, or write `slo` on the scenario"),
            );
            return None;
        }
        Some(phases)
    }

    fn expand(
        &self,
        list: &Located<FieldList<Phase>>,
        expansion: &mut Expansion,
    ) -> Option<Vec<PhaseSpec>> {
        if list.value.0.is_empty() {
            self.problem(list.node, "the schedule is empty", "write at least one phase");
            return None;
        }
        let mut all = Some(Vec::new());
        for entry in &list.value.0 {
            let phases = entry.present().and_then(|phase| self.entry(phase, expansion));
            expansion.context.previous_rate = match &phases {
                Some(phases) => phases.last().map_or(expansion.context.previous_rate, |last| {
                    PreviousRate::after(&last.load)
                }),
                None => PreviousRate::Unknown,
            };
            // An entry with a mistake makes the result `None`, but the loop still checks all later
            // entries.
            all = all.zip(phases).map(|(mut all, phases)| {
                all.extend(phases);
                all
            });
            if all.as_ref().is_some_and(|all| all.len() > MAX_PHASES) {
                self.problem(
                    list.node,
                    "the schedule has more than 10,000 phases after the expansion of loops and \
                     levels",
                    "repeat the full schedule instead of its phases",
                );
                return None;
            }
        }
        all
    }

    fn entry(&self, phase: &Located<Phase>, expansion: &mut Expansion) -> Option<Vec<PhaseSpec>> {
        let name = self.phase_name(&phase.value, &mut expansion.names);
        if phase.value.phases.is_absent() && phase.value.repeat.is_absent() {
            self.levels_as_phases(phase, name, expansion)
        } else {
            self.expand_loop(phase, expansion)
        }
    }

    fn levels_as_phases(
        &self,
        phase: &Located<Phase>,
        name: PhaseName,
        expansion: &mut Expansion,
    ) -> Option<Vec<PhaseSpec>> {
        let objectives = self.phase_objectives(phase, expansion.form);
        let of_phase = match &objectives {
            None => Objectives::Invalid,
            Some((Some(slo), _)) => Objectives::Present(Slo::clone(slo)),
            Some((None, _)) => expansion.context.objectives.clone(),
        };
        let of_scenario = std::mem::replace(&mut expansion.context.objectives, of_phase);
        let levels = self.levels(phase, expansion);
        expansion.context.objectives = of_scenario;
        let length = self.phase_length(phase, levels.as_deref());
        let count = match self.request_count(&phase.value, expansion.prompts) {
            RequestCount::Invalid => return None,
            RequestCount::Unlimited => None,
            RequestCount::Count(count) => Some(count),
        };
        let name = match name {
            PhaseName::Invalid => return None,
            PhaseName::Generated => None,
            PhaseName::Given(name) => Some(name),
        };
        let (slo, explore) = objectives?;
        let (levels, length) = (levels?, length?);
        let has_several = levels.len() > 1;
        let phases = levels.into_iter().map(|Level { label, load }| {
            let name = name
                .as_ref()
                .map(|name| if has_several { format!("{name} {label}") } else { name.clone() });
            let load = match (load, count) {
                (Load::Concurrency(slots), Some(count)) => Load::Requests { slots, count },
                (load, _) => load,
            };
            expansion.next_id += 1;
            let (id, slo) = (expansion.next_id, slo.clone());
            PhaseSpec { id, name, load, length, slo, explore, is_level: has_several }
        });
        Some(phases.collect())
    }

    /// Reads the objectives of a phase. A pause has none, because it sends nothing.
    fn phase_objectives(
        &self,
        phase: &Located<Phase>,
        form: ResponseForm,
    ) -> Option<(Option<Arc<Slo>>, bool)> {
        let phase = &phase.value;
        if phase.pause.node().is_some() {
            let keys = [("slo", phase.slo.node()), ("explore", phase.explore.node())];
            for (key, node) in keys {
                if let Some(node) = node {
                    let message = format!("a pause sends nothing, so `{key}` has no effect");
                    self.problem(node, message, "remove it");
                }
            }
        }
        let explore = phase.explore.present().is_some_and(|explore| explore.value);
        Some((self.slo(&phase.slo, form)?.map(Arc::new), explore))
    }

    fn expand_loop(
        &self,
        Located { node, value: phase }: &Located<Phase>,
        expansion: &mut Expansion,
    ) -> Option<Vec<PhaseSpec>> {
        let others = [
            ("name", phase.name.node()),
            ("requests", phase.requests.node()),
            ("for", phase.r#for.node()),
            ("slo", phase.slo.node()),
            ("explore", phase.explore.node()),
        ];
        let kinds = PHASE_KINDS.iter().map(|kind| (kind.key, (kind.node)(phase)));
        let mut is_valid = true;
        for (key, node) in kinds.chain(others) {
            if let Some(node) = node {
                self.problem(
                    node,
                    format!("`{key}` is not allowed next to `repeat`"),
                    "move it into one of the `phases`",
                );
                is_valid = false;
            }
        }
        if phase.phases.is_absent() {
            self.missing(
                *node,
                "`phases` is missing",
                "write the phases to repeat, such as `phases: [{constant: 5/s, for: 1m}]`",
            );
        }
        if phase.repeat.is_absent() {
            self.missing(*node, "`repeat` is missing", "write a count, such as `repeat: 3`");
        }
        let once = phase.phases.present().and_then(|phases| self.expand(phases, expansion));
        let times = phase.repeat.present()?;
        let once = once.filter(|_| is_valid)?;
        let limit = MAX_PHASES / once.len();
        let count = usize::try_from(times.value.0).ok().filter(|count| (1..=limit).contains(count));
        if count.is_none() {
            self.problem(
                times.node,
                format!("{} is out of range", times.value.0),
                format!("write a count from 1 to {limit}, or repeat the full schedule"),
            );
        }
        Some(std::iter::repeat_n(once, count?).flatten().collect())
    }

    fn phase_name(&self, phase: &Phase, names: &mut HashSet<String>) -> PhaseName {
        let (node, name) = match &phase.name {
            Field::Absent => return PhaseName::Generated,
            Field::Invalid(_) => return PhaseName::Invalid,
            Field::Present(Located { node, value }) => (*node, value),
        };
        let is_valid = !name.trim().is_empty()
            && name.chars().count() <= 63
            && !name.chars().any(char::is_control);
        if !is_valid {
            let message = "the name of the phase is not valid";
            self.problem(node, message, "use 1 to 63 printable characters");
            return PhaseName::Invalid;
        }
        if !names.insert(name.clone()) {
            let message = format!("two phases have the name `{}`", excerpt(name));
            self.problem(node, message, "give each phase a different name");
            return PhaseName::Invalid;
        }
        PhaseName::Given(name.clone())
    }

    /// Reads the load of an entry, which must have exactly one of the [`PHASE_KINDS`].
    fn levels(&self, phase: &Located<Phase>, expansion: &Expansion) -> Option<Vec<Level>> {
        let present: Vec<_> =
            PHASE_KINDS.iter().filter(|kind| (kind.node)(&phase.value).is_some()).collect();
        match present.as_slice() {
            [] => {
                let examples: Vec<_> =
                    PHASE_KINDS.iter().map(|kind| format!("`{}`", kind.example)).collect();
                self.missing(
                    phase.node,
                    "the phase has no load",
                    format!("write one of {}, or `repeat` with `phases`", examples.join(", ")),
                );
                None
            }
            [kind] => (kind.read)(self, phase, &expansion.context),
            [first, second, ..] => {
                self.problem(
                    phase.node,
                    format!("a phase cannot have both `{}` and `{}`", first.key, second.key),
                    "write a separate phase for each",
                );
                None
            }
        }
    }
}

/// Names each phase without a name after its load. A number at the end keeps the names different.
fn with_names(phases: Vec<PhaseSpec>) -> Vec<schedule::Phase> {
    let mut taken: HashSet<String> = phases.iter().filter_map(|phase| phase.name.clone()).collect();
    let mut generated: HashMap<usize, String> = HashMap::new();
    let with_name = |PhaseSpec { id, name, load, length, .. }| {
        let name = name.unwrap_or_else(|| {
            let generate = || unused_name(&load, &mut taken);
            generated.entry(id).or_insert_with(generate).clone()
        });
        schedule::Phase { name, load, length }
    };
    phases.into_iter().map(with_name).collect()
}

/// Returns a name for a load, and adds it to the `taken` names.
fn unused_name(load: &Load, taken: &mut HashSet<String>) -> String {
    let plain = load.to_string();
    let numbered = (2..).map(|number: u32| format!("{plain} #{number}"));
    let name =
        std::iter::once(plain.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
    name.unwrap_or(plain)
}
