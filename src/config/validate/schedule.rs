//! A scenario's phases: each of exactly one kind, named, of a length that the arithmetic bears.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use super::Checker;
use crate::config::document::{Phase, Scenario};
use crate::config::field::{At, Field, List};
use crate::config::scalar::Span;
use crate::config::tree::{NodeId, shown};
use crate::schedule::{self, Load, Rate, Schedule};

/// How long the one phase of a shorthand lasts. It only says how often arithmetic starts anew.
const SHORTHAND_LENGTH: Duration = Duration::from_hours(1);

/// A phase whose name may still be missing.
struct Draft {
    name: Option<String>,
    load: Load,
    length: Duration,
}

/// The rate in force where a phase begins.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing comes before, or something that has no rate.
    No(&'static str),
    /// Something that could not be read.
    Unknown,
    Rate(Rate),
}

impl Checker<'_> {
    /// The schedule of a scenario, from whichever of its three keys is there.
    pub(super) fn schedule(
        &self,
        scenario: &Scenario,
        node: NodeId,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<Schedule> {
        let ways = [
            ("schedule", scenario.schedule.node()),
            ("rate", scenario.rate.node()),
            ("concurrency", scenario.concurrency.node()),
        ];
        let mut there = ways.iter().filter_map(|(key, node)| node.map(|node| (key, node)));
        let first = there.next();
        if let Some((key, second)) = there.next() {
            let other = first.map_or("schedule", |(key, _)| key);
            self.problem(second, format!("`{key}` beside `{other}`; a scenario has only one of them"));
            return None;
        }
        if first.is_none() {
            self.missing(node, "the load is missing; write `rate: 5/s`, `concurrency: 10` or a `schedule`");
        }
        let short = |load| Draft { name: None, load, length: SHORTHAND_LENGTH };
        let drafts = if let Some(list) = scenario.schedule.given() {
            self.phases(list, max_concurrency)?
        } else if let Some(rate) = scenario.rate.given() {
            vec![short(self.constant(rate.node, rate.value.0)?)]
        } else {
            let concurrency = scenario.concurrency.given()?;
            vec![short(self.concurrency(concurrency.node, concurrency.value.0, max_concurrency)?)]
        };
        Some(Schedule::new(named(drafts)))
    }

    fn phases(&self, list: &At<List<Phase>>, max_concurrency: Option<NonZeroU32>) -> Option<Vec<Draft>> {
        let entries = &list.value.0;
        if entries.is_empty() {
            self.problem(list.node, "the schedule is empty; write at least one phase");
            return None;
        }
        let mut before = Before::No("before the first phase");
        let mut names = HashSet::new();
        let drafts: Vec<Option<Draft>> = entries
            .iter()
            .map(|entry| {
                let Some(phase) = entry.given() else {
                    before = Before::Unknown;
                    return None;
                };
                let name = self.phase_name(&phase.value, &mut names);
                let load = self.load(phase, before, max_concurrency);
                before = match load {
                    None => Before::Unknown,
                    Some(Load::Constant(rate) | Load::Ramp { to: rate, .. }) => Before::Rate(rate),
                    Some(Load::Pause) => Before::Rate(Rate::ZERO),
                    Some(Load::Concurrency(_)) => Before::No("after a phase of concurrency"),
                };
                let length = self.length(phase);
                Some(Draft { name: name?, load: load?, length: length? })
            })
            .collect();
        let drafts: Vec<Draft> = drafts.into_iter().collect::<Option<_>>()?;
        let total = drafts.iter().try_fold(Duration::ZERO, |sum, draft| sum.checked_add(draft.length));
        if total.is_none_or(|total| total > schedule::Phase::LONGEST) {
            self.problem(list.node, "all phases together last longer than 366 days; shorten them");
            return None;
        }
        if drafts.iter().all(|draft| draft.load == Load::Pause) {
            self.problem(list.node, "nothing is ever sent; add a phase with load");
            return None;
        }
        Some(drafts)
    }

    /// The inner `None` is a name to be made up; the outer one a name that is wrong.
    #[allow(clippy::option_option)]
    fn phase_name(&self, phase: &Phase, names: &mut HashSet<String>) -> Option<Option<String>> {
        match &phase.name {
            Field::Absent => Some(None),
            Field::Bad(_) => None,
            Field::Given(At { node, value }) => {
                let good = !value.trim().is_empty()
                    && value.chars().count() <= 63
                    && !value.chars().any(char::is_control);
                if !good {
                    self.problem(*node, "not a name for a phase; use 1 to 63 printable characters");
                    return None;
                }
                if !names.insert(value.clone()) {
                    let name = shown(value);
                    self.problem(*node, format!("two phases are named `{name}`; give each its own name"));
                    return None;
                }
                Some(Some(value.clone()))
            }
        }
    }

    fn load(
        &self,
        At { node, value: phase }: &At<Phase>,
        before: Before,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<Load> {
        let kinds = [
            ("constant", phase.constant.node()),
            ("ramp", phase.ramp.node()),
            ("pause", phase.pause.node()),
            ("concurrency", phase.concurrency.node()),
        ];
        let there: Vec<_> = kinds.iter().filter(|(_, node)| node.is_some()).map(|(kind, _)| *kind).collect();
        match there.as_slice() {
            [] => {
                self.missing(
                    *node,
                    "the phase does not say what load; write one of `constant: 5/s`, \
                     `ramp: {to: 50/s}`, `pause: 1m`, `concurrency: 10`",
                );
                return None;
            }
            [_] => {}
            [first, second, ..] => {
                self.problem(*node, format!("`{first}` and `{second}` in one phase; write a phase for each"));
                return None;
            }
        }
        if let Some(rate) = phase.constant.given() {
            return self.constant(rate.node, rate.value.0);
        }
        if let Some(level) = phase.concurrency.given() {
            return self.concurrency(level.node, level.value.0, max_concurrency);
        }
        if phase.pause.given().is_some() {
            return Some(Load::Pause);
        }
        let ramp = phase.ramp.given()?;
        if ramp.value.to.is_absent() {
            self.missing(ramp.node, "`to` is missing; write the rate at the end, such as `to: 50/s`");
        }
        let from = match (&ramp.value.from, before) {
            (Field::Given(from), _) => from.value.0,
            (Field::Absent, Before::Rate(rate)) => rate,
            (Field::Absent, Before::No(place)) => {
                self.problem(
                    ramp.node,
                    format!("there is no rate {place} to start from; write `from`, such as `from: 0/s`"),
                );
                return None;
            }
            (Field::Absent, Before::Unknown) | (Field::Bad(_), _) => return None,
        };
        let to = ramp.value.to.given()?.value.0;
        if from.is_zero() && to.is_zero() {
            self.problem(ramp.node, "a ramp from 0 to 0 sends nothing; write `pause: 1m`");
            return None;
        }
        Some(Load::Ramp { from, to })
    }

    fn constant(&self, node: NodeId, rate: Rate) -> Option<Load> {
        if rate.is_zero() {
            self.problem(node, "a rate of 0 sends nothing; write `pause: 1m` in a schedule");
            return None;
        }
        Some(Load::Constant(rate))
    }

    fn concurrency(&self, node: NodeId, level: u64, cap: Option<NonZeroU32>) -> Option<Load> {
        let Some(level) = u32::try_from(level).ok().and_then(NonZeroU32::new) else {
            self.problem(node, format!("a concurrency of {level} is out of range; write at least 1"));
            return None;
        };
        if let Some(cap) = cap.filter(|cap| level > *cap) {
            self.problem(
                node,
                format!("a concurrency of {level} exceeds max_concurrency ({cap}); raise `max_concurrency`"),
            );
            return None;
        }
        Some(Load::Concurrency(level))
    }

    fn length(&self, At { node, value: phase }: &At<Phase>) -> Option<Duration> {
        let field: &Field<Span> = match (&phase.pause, &phase.r#for) {
            (Field::Absent, length) => length,
            (pause, Field::Absent) => pause,
            (_, length) => {
                self.problem(
                    length.node().unwrap_or(*node),
                    "`for` beside `pause`; the pause says its length itself, such as `pause: 1m`",
                );
                return None;
            }
        };
        if field.is_absent() {
            self.missing(*node, "`for` is missing; write how long the phase lasts, such as `for: 10m`");
            return None;
        }
        let length = field.given()?;
        let message = if length.value.0 < schedule::Phase::SHORTEST {
            "shorter than 1ms, a phase does nothing; write how long it lasts, such as `10m`"
        } else if length.value.0 > schedule::Phase::LONGEST {
            "longer than 366 days; shorten it, the schedule repeats anyway"
        } else {
            return Some(length.value.0);
        };
        self.problem(length.node, message);
        None
    }
}

/// Makes up the names that are missing: what the phase does, numbered where that stands already.
fn named(drafts: Vec<Draft>) -> Vec<schedule::Phase> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut taken: HashSet<String> = drafts.iter().filter_map(|draft| draft.name.clone()).collect();
    drafts
        .into_iter()
        .map(|Draft { name, load, length }| {
            let name = name.unwrap_or_else(|| {
                let plain = describe(load);
                let number = numbers.entry(plain.clone()).or_insert(1);
                let mut name = plain.clone();
                while !taken.insert(name.clone()) {
                    *number += 1;
                    name = format!("{plain} #{number}");
                }
                name
            });
            schedule::Phase { name, load, length }
        })
        .collect()
}

fn describe(load: Load) -> String {
    match load {
        Load::Constant(rate) => format!("constant {rate}"),
        Load::Ramp { from, to } => format!("ramp {from} to {to}"),
        Load::Pause => "pause".into(),
        Load::Concurrency(level) => format!("concurrency {level}"),
    }
}
