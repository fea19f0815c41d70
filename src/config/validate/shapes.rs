//! Validates the loads of phases.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Validator;
use super::search::Objectives;
use crate::config::document::{Levels, Phase, Ramp, Sine, Steps};
use crate::config::field::{Field, Located};
use crate::config::tree::NodeId;
use crate::schedule::{self, Load, Rate};

/// The highest number of phases after the expansion of loops and levels.
pub(super) const MAX_PHASES: usize = 10_000;

/// The rate at the end of the previous phase, from which a ramp can start.
#[derive(Clone, Copy)]
pub(super) enum PreviousRate {
    Rate(Rate),
    /// No previous phase exists.
    First,
    /// The previous phase has no rate at its end. The text is the kind of the previous phase.
    Undefined(&'static str),
    /// The previous phase has a mistake.
    Unknown,
}

impl PreviousRate {
    pub(super) fn after(load: &Load) -> PreviousRate {
        load.final_rate().map_or(PreviousRate::Undefined(load.kind()), PreviousRate::Rate)
    }
}

/// The facts outside of a phase on which its load depends.
pub(super) struct ShapeContext {
    pub(super) previous_rate: PreviousRate,
    pub(super) max_concurrency: Option<NonZeroU32>,
    pub(super) objectives: Objectives,
}

pub(super) struct PhaseKind {
    pub(super) key: &'static str,
    /// An example for a message. For a long map, it is only the key.
    pub(super) example: &'static str,
    pub(super) node: fn(&Phase) -> Option<NodeId>,
    /// Reads the value of the key. Most kinds have one level.
    pub(super) read: fn(&Validator<'_>, &Located<Phase>, &ShapeContext) -> Option<Vec<Level>>,
}

/// All kinds of phase, in the order of the documentation.
pub(super) const PHASE_KINDS: &[PhaseKind] = &[
    PhaseKind {
        key: "constant",
        example: "constant: 5/s",
        node: |phase| phase.constant.node(),
        read: |validator, phase, _| {
            let rate = phase.value.constant.present()?;
            validator.constant(rate.node, rate.value.0).map(single)
        },
    },
    PhaseKind {
        key: "ramp",
        example: "ramp: {to: 50/s}",
        node: |phase| phase.ramp.node(),
        read: |validator, phase, context| {
            validator.ramp(phase.value.ramp.present()?, context.previous_rate).map(single)
        },
    },
    PhaseKind {
        key: "steps",
        example: "steps",
        node: |phase| phase.steps.node(),
        read: |validator, phase, _| validator.steps(phase.value.steps.present()?),
    },
    PhaseKind {
        key: "sine",
        example: "sine",
        node: |phase| phase.sine.node(),
        read: |validator, phase, _| validator.sine(phase.value.sine.present()?).map(single),
    },
    PhaseKind {
        key: "replay",
        example: "replay",
        node: |phase| phase.replay.node(),
        read: |validator, Located { value: phase, .. }, _| {
            validator.replay(phase.replay.present()?, &phase.r#for).map(single)
        },
    },
    PhaseKind {
        key: "pause",
        example: "pause: 1m",
        node: |phase| phase.pause.node(),
        read: |_, phase, _| phase.value.pause.present().map(|_| single(Load::Pause)),
    },
    PhaseKind {
        key: "concurrency",
        example: "concurrency: 10",
        node: |phase| phase.concurrency.node(),
        read: |validator, phase, context| {
            validator
                .concurrency_levels(phase.value.concurrency.present()?, context.max_concurrency)
        },
    },
    PhaseKind {
        key: "search",
        example: "search",
        node: |phase| phase.search.node(),
        read: |validator, phase, context| validator.search(phase, context).map(single),
    },
];

/// The load of one phase. An entry with `steps` has several phases, one for each level.
pub(super) struct Level {
    /// The part of the phase name that differs between the levels of an entry.
    pub(super) label: String,
    pub(super) load: Load,
}

fn single(load: Load) -> Vec<Level> {
    vec![Level { label: String::new(), load }]
}

impl Validator<'_> {
    pub(super) fn constant(&self, node: NodeId, rate: Rate) -> Option<Load> {
        if rate.is_zero() {
            self.problem(node, "a rate of 0 sends nothing", "write `pause: 1m` in a schedule");
            return None;
        }
        Some(Load::Constant(rate))
    }

    fn ramp(&self, ramp: &Located<Ramp>, previous: PreviousRate) -> Option<Load> {
        if ramp.value.to.is_absent() {
            self.missing(
                ramp.node,
                "`to` is missing",
                "write the rate at the end, such as `to: 50/s`",
            );
        }
        let from = match (&ramp.value.from, previous) {
            (Field::Present(from), _) => from.value.0,
            (Field::Absent, PreviousRate::Rate(rate)) => rate,
            (Field::Absent, PreviousRate::First | PreviousRate::Undefined(_)) => {
                let problem = match previous {
                    PreviousRate::Undefined(kind) => {
                        format!("the previous phase, `{kind}`, has no rate to start from")
                    }
                    _ => "the first phase has no previous rate to start from".to_owned(),
                };
                self.problem(ramp.node, problem, "write `from`, such as `from: 0/s`");
                return None;
            }
            (Field::Absent, PreviousRate::Unknown) | (Field::Invalid(_), _) => return None,
        };
        let to = ramp.value.to.present()?.value.0;
        if from.is_zero() && to.is_zero() {
            self.problem(ramp.node, "a ramp from 0 to 0 sends nothing", "write `pause: 1m`");
            return None;
        }
        Some(Load::Ramp { from, to })
    }

    fn steps(&self, Located { node, value: steps }: &Located<Steps>) -> Option<Vec<Level>> {
        for (key, field) in [("from", &steps.from), ("to", &steps.to), ("by", &steps.by)] {
            if field.is_absent() {
                self.missing(
                    *node,
                    format!("`{key}` is missing"),
                    "write `{from: 10/s, to: 50/s, by: 10/s}`",
                );
            }
        }
        let (from, to, by) = (steps.from.present()?, steps.to.present()?, steps.by.present()?);
        let (first, last) = (from.value.0.micro_per_hour(), to.value.0.micro_per_hour());
        let step = by.value.0.micro_per_hour();
        if step == 0 {
            let remedy = "write the difference between two successive rates, such as `10/s`";
            self.problem(by.node, "steps of 0 never reach `to`", remedy);
            return None;
        }
        if first == 0 || last == 0 {
            let node = if first == 0 { from.node } else { to.node };
            self.problem(node, "a rate of 0 sends nothing", "write a rate above 0");
            return None;
        }
        let count = first.abs_diff(last).div_ceil(step);
        if count >= MAX_PHASES as u64 {
            self.problem(*node, "`steps` has more than 10,000 rates", "make `by` larger");
            return None;
        }
        let level = |i: u64| {
            if first <= last {
                (first + i * step).min(last)
            } else {
                first.saturating_sub(i * step).max(last)
            }
        };
        let rates = (0..=count).filter_map(|i| Rate::from_micro_per_hour(level(i)));
        let levels =
            rates.map(|rate| Level { label: rate.to_string(), load: Load::Constant(rate) });
        Some(levels.collect())
    }

    fn sine(&self, Located { node, value: sine }: &Located<Sine>) -> Option<Load> {
        let absent = [
            ("mean", sine.mean.is_absent()),
            ("amplitude", sine.amplitude.is_absent()),
            ("period", sine.period.is_absent()),
        ];
        for (key, _) in absent.iter().filter(|(_, absent)| *absent) {
            self.missing(
                *node,
                format!("`{key}` is missing"),
                "write `{mean: 20/s, amplitude: 15/s, period: 1h}`",
            );
        }
        let (mean, amplitude, period) =
            (sine.mean.present()?, sine.amplitude.present()?, sine.period.present()?);
        let mut is_valid = true;
        if mean.value.0.is_zero() {
            self.problem(mean.node, "a mean of 0 sends nothing", "write `pause: 1m`");
            is_valid = false;
        } else if amplitude.value.0 > mean.value.0 {
            self.problem(
                amplitude.node,
                "`amplitude` is larger than `mean`, so the rate would fall below 0",
                "write an amplitude that is at most the mean",
            );
            is_valid = false;
        }
        let range = Duration::from_secs(1)..=schedule::Phase::LONGEST;
        if !range.contains(&period.value.0) {
            let message = "the period is out of range";
            self.problem(period.node, message, "write a period from 1s to 366 days");
            is_valid = false;
        }
        let (mean, amplitude, period) = (mean.value.0, amplitude.value.0, period.value.0);
        is_valid.then_some(Load::Sine { mean, amplitude, period })
    }

    fn concurrency_levels(
        &self,
        levels: &Located<Levels>,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<Vec<Level>> {
        let level = |node, count: u64| {
            let load = self.concurrency_level(node, count, max_concurrency)?;
            Some(Level { label: count.to_string(), load })
        };
        match &levels.value {
            Levels::Number(count) => Some(vec![level(levels.node, count.0)?]),
            Levels::List(list) if list.0.is_empty() => {
                self.problem(
                    levels.node,
                    "the list of levels is empty",
                    "write at least one level, such as `concurrency: [5, 35, 100]`",
                );
                None
            }
            Levels::List(list) => {
                let loads = list.0.iter().map(|entry| {
                    let entry = entry.present()?;
                    level(entry.node, entry.value.0)
                });
                // Without the first `collect`, the first mistake would hide the mistakes of later
                // levels.
                loads.collect::<Vec<_>>().into_iter().collect()
            }
        }
    }

    pub(super) fn concurrency_level(
        &self,
        node: NodeId,
        level: u64,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<Load> {
        let Some(level) = u32::try_from(level).ok().and_then(NonZeroU32::new) else {
            let message = format!("a concurrency of {level} is out of range");
            self.problem(node, message, format!("write a level from 1 to {}", u32::MAX));
            return None;
        };
        if let Some(limit) = max_concurrency.filter(|limit| level > *limit) {
            self.problem(
                node,
                format!("a concurrency of {level} exceeds `max_concurrency` ({limit})"),
                "raise `max_concurrency`",
            );
            return None;
        }
        Some(Load::Concurrency(level))
    }
}
