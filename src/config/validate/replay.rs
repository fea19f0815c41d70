//! Validates the phases that replay a trace.

use std::time::Duration;

use super::Validator;
use crate::config::document::{Arrivals, ArrivalsName, Phase, Replay, Scenario};
use crate::config::field::{Field, FieldList, Located};
use crate::config::scalar::Span;
use crate::config::trace;
use crate::schedule::{self, Load};

/// In tokens.
const MAX_BLOCK_SIZE: u32 = 1_000_000;

impl Validator<'_> {
    /// Reads the trace of a phase up to `length`, the value of `for`.
    pub(super) fn replay(
        &self,
        Located { node, value: replay }: &Located<Replay>,
        length: &Field<Span>,
    ) -> Option<Load> {
        if replay.file.is_absent() {
            self.missing(
                *node,
                "`file` is missing",
                "name the file of the trace, such as `{file: trace.jsonl}`",
            );
        }
        let speed = match &replay.speed {
            Field::Absent => Some(1.0),
            Field::Invalid(_) => None,
            Field::Present(located) if (0.001..=1000.0).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                let message = format!("{} is out of range", located.value);
                self.problem(located.node, message, "write a speed from 0.001 to 1000");
                None
            }
        };
        let block_size = self.positive(&replay.block_size, MAX_BLOCK_SIZE, MAX_BLOCK_SIZE)?;
        let block_size = (!replay.block_size.is_absent()).then_some(block_size);
        let file = replay.file.present()?;
        if length.is_invalid() {
            return None;
        }
        let until = length.present().map(|located| located.value.0);
        let trace = trace::read(&self.path(&file.value), speed?, until, block_size);
        let trace = trace.map_err(|mistake| self.report(file.node, mistake)).ok()?;
        if let (Some(node), false) = (replay.block_size.node(), trace.has_hash_ids()) {
            self.problem(node, "the trace has no `hash_ids`", "remove `block_size`");
        }
        Some(Load::Replay(trace))
    }

    /// Returns the length of a replay without `for`: the length of its trace.
    pub(super) fn length_of_trace(
        &self,
        replay: &Located<Replay>,
        load: &Load,
    ) -> Option<Duration> {
        let Load::Replay(trace) = load else { return None };
        if trace.length() < schedule::Phase::SHORTEST {
            self.problem(
                replay.node,
                "the trace is shorter than 1ms",
                "write the length of the phase, such as `for: 10m`",
            );
            return None;
        }
        Some(trace.length())
    }

    /// Rejects random arrivals in a scenario with a replay, because the trace sets the instants.
    pub(super) fn reject_arrivals_with_replay(&self, scenario: &Scenario) {
        let is_constant = matches!(
            &scenario.arrivals,
            Field::Absent
                | Field::Invalid(_)
                | Field::Present(Located { value: Arrivals::Text(ArrivalsName::Constant), .. })
        );
        if let (false, Some(arrivals)) = (is_constant, scenario.arrivals.node())
            && scenario.schedule.present().is_some_and(|list| has_replay(&list.value))
        {
            self.problem(
                arrivals,
                "random arrivals would replace the instants of the replay",
                "remove `arrivals`, or move the replay to another scenario",
            );
        }
    }
}

fn has_replay(phases: &FieldList<Phase>) -> bool {
    phases.0.iter().filter_map(Field::present).any(|Located { value: phase, .. }| {
        !phase.replay.is_absent()
            || phase.phases.present().is_some_and(|inner| has_replay(&inner.value))
    })
}
