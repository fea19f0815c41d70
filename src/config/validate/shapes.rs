//! What each kind of phase asks for: rates that can be sent, levels under the cap.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Validator;
use super::schedule::{MOST_PHASES, PreviousRate};
use crate::config::document::{Levels, Ramp, Sine, Steps};
use crate::config::field::{Field, Located};
use crate::config::tree::NodeId;
use crate::schedule::{self, Load, Rate};

impl Validator<'_> {
    pub(super) fn ramp(&self, ramp: &Located<Ramp>, before: PreviousRate) -> Option<Load> {
        if ramp.value.to.is_absent() {
            self.missing(
                ramp.node,
                "`to` is missing; write the rate at the end, such as `to: 50/s`",
            );
        }
        let from = match (&ramp.value.from, before) {
            (Field::Present(from), _) => from.value.0,
            (Field::Absent, PreviousRate::Rate(rate)) => rate,
            (Field::Absent, PreviousRate::No(place)) => {
                self.problem(
                    ramp.node,
                    format!(
                        "there is no rate {place} to start from; write `from`, such as `from: 0/s`"
                    ),
                );
                return None;
            }
            (Field::Absent, PreviousRate::Unknown) | (Field::Invalid(_), _) => return None,
        };
        let to = ramp.value.to.present()?.value.0;
        if from.is_zero() && to.is_zero() {
            self.problem(ramp.node, "a ramp from 0 to 0 sends nothing; write `pause: 1m`");
            return None;
        }
        Some(Load::Ramp { from, to })
    }

    pub(super) fn steps(
        &self,
        Located { node, value: steps }: &Located<Steps>,
    ) -> Option<Vec<(String, Load)>> {
        for (key, field) in [("from", &steps.from), ("to", &steps.to), ("by", &steps.by)] {
            if field.is_absent() {
                self.missing(
                    *node,
                    format!("`{key}` is missing; write `{{from: 10/s, to: 50/s, by: 10/s}}`"),
                );
            }
        }
        let (from, to, by) = (steps.from.present()?, steps.to.present()?, steps.by.present()?);
        let (first, last) = (from.value.0.micro_per_hour(), to.value.0.micro_per_hour());
        let by = Some(by.value.0.micro_per_hour()).filter(|by| *by > 0).or_else(|| {
            self.problem(
                by.node,
                "steps of 0 lead nowhere; write how far apart the rates are, such as `10/s`",
            );
            None
        })?;
        if first == 0 || last == 0 {
            let node = if first == 0 { from.node } else { to.node };
            self.problem(node, "a rate of 0 sends nothing; begin and end the steps above it");
            return None;
        }
        let count = first.abs_diff(last).div_ceil(by);
        if count >= MOST_PHASES as u64 {
            self.problem(*node, "more than 10000 levels; make `by` larger");
            return None;
        }
        let level = |i: u64| {
            if first <= last {
                (first + i * by).min(last)
            } else {
                first.saturating_sub(i * by).max(last)
            }
        };
        let rates = (0..=count).filter_map(|i| Rate::from_micro_per_hour(level(i)));
        Some(rates.map(|rate| (rate.to_string(), Load::Constant(rate))).collect())
    }

    pub(super) fn sine(&self, Located { node, value: sine }: &Located<Sine>) -> Option<Load> {
        let example = "{mean: 20/s, amplitude: 15/s, period: 1h}";
        let absent = [
            ("mean", sine.mean.is_absent()),
            ("amplitude", sine.amplitude.is_absent()),
            ("period", sine.period.is_absent()),
        ];
        for (key, _) in absent.iter().filter(|(_, absent)| *absent) {
            self.missing(*node, format!("`{key}` is missing; write `{example}`"));
        }
        let (mean, amplitude, period) =
            (sine.mean.present()?, sine.amplitude.present()?, sine.period.present()?);
        let mut good = true;
        if mean.value.0.is_zero() {
            self.problem(mean.node, "a mean of 0 sends nothing; write `pause: 1m`");
            good = false;
        } else if amplitude.value.0 > mean.value.0 {
            let message = "the rate would swing below 0; write an amplitude of at most the mean";
            self.problem(amplitude.node, message);
            good = false;
        }
        let range = Duration::from_secs(1)..=schedule::Phase::LONGEST;
        if !range.contains(&period.value.0) {
            self.problem(period.node, "out of range; write a period from 1s to 366 days");
            good = false;
        }
        let (mean, amplitude, period) = (mean.value.0, amplitude.value.0, period.value.0);
        good.then_some(Load::Sine { mean, amplitude, period })
    }

    pub(super) fn levels(
        &self,
        levels: &Located<Levels>,
        cap: Option<NonZeroU32>,
    ) -> Option<Vec<(String, Load)>> {
        let labelled = |load: Load| match load {
            Load::Concurrency(slots) => (slots.to_string(), load),
            _ => (String::new(), load),
        };
        match &levels.value {
            Levels::Number(level) => Some(vec![labelled(self.level(levels.node, level.0, cap)?)]),
            Levels::List(list) if list.0.is_empty() => {
                self.problem(
                    levels.node,
                    "no levels; write at least one, such as `concurrency: [5, 35, 100]`",
                );
                None
            }
            Levels::List(list) => {
                let loads = list.0.iter().map(|level| {
                    let level = level.present()?;
                    Some(labelled(self.level(level.node, level.value.0, cap)?))
                });
                // All of them are looked at, also after one that is wrong.
                loads.collect::<Vec<_>>().into_iter().collect()
            }
        }
    }

    pub(super) fn constant(&self, node: NodeId, rate: Rate) -> Option<Load> {
        if rate.is_zero() {
            self.problem(node, "a rate of 0 sends nothing; write `pause: 1m` in a schedule");
            return None;
        }
        Some(Load::Constant(rate))
    }

    pub(super) fn level(&self, node: NodeId, level: u64, cap: Option<NonZeroU32>) -> Option<Load> {
        let Some(level) = u32::try_from(level).ok().and_then(NonZeroU32::new) else {
            self.problem(
                node,
                format!("a concurrency of {level} is out of range; write at least 1"),
            );
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
}
