//! A phase that replays a trace: the file read, and what does not go with it.

use std::time::Duration;

use super::Validator;
use crate::config::document::{Arrivals, ArrivalsName, Phase, Replay, Scenario};
use crate::config::field::{Field, FieldList, Located};
use crate::config::scalar::Span;
use crate::config::trace;
use crate::schedule::{self, Load};

impl Validator<'_> {
    /// The trace, read as far as the phase lasts.
    pub(super) fn replay(
        &self,
        Located { node, value: replay }: &Located<Replay>,
        length: &Field<Span>,
    ) -> Option<Load> {
        if replay.file.is_absent() {
            self.missing(
                *node,
                "`file` is missing; write the trace's, such as `{file: trace.jsonl}`",
            );
        }
        let speed = match &replay.speed {
            Field::Absent => Some(1.0),
            Field::Invalid(_) => None,
            Field::Present(located) if (0.001..=1000.0).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                self.problem(located.node, "out of range; write a speed from 0.001 to 1000");
                None
            }
        };
        let file = replay.file.present()?;
        if length.is_invalid() {
            return None;
        }
        let until = length.present().map(|located| located.value.0);
        let trace = trace::read(&self.path(&file.value), speed?, until);
        trace.map_err(|error| self.problem(file.node, error.to_string())).ok().map(Load::Replay)
    }

    /// How long a trace lasts where the phase does not say.
    pub(super) fn length_of_trace(
        &self,
        replay: &Located<Replay>,
        load: &Load,
    ) -> Option<Duration> {
        let Load::Replay(trace) = load else { return None };
        if trace.length() < schedule::Phase::SHORTEST {
            self.problem(
                replay.node,
                "the trace is over within 1ms; write how long the phase lasts, such as `for: 10m`",
            );
            return None;
        }
        Some(trace.length())
    }

    /// A trace has instants of its own: nothing is left to spread.
    pub(super) fn replay_beside_arrivals(&self, scenario: &Scenario) {
        let even = matches!(
            &scenario.arrivals,
            Field::Absent
                | Field::Invalid(_)
                | Field::Present(Located { value: Arrivals::Text(ArrivalsName::Constant), .. })
        );
        if let (false, Some(arrivals)) = (even, scenario.arrivals.node())
            && scenario.schedule.present().is_some_and(|list| replays(&list.value))
        {
            self.problem(
                arrivals,
                "a replay has its own instants, which would be lost; leave out `arrivals`, or put the replay in \
                 a scenario of its own",
            );
        }
    }
}

fn replays(phases: &FieldList<Phase>) -> bool {
    phases.0.iter().filter_map(Field::present).any(|Located { value: phase, .. }| {
        !phase.replay.is_absent()
            || phase.phases.present().is_some_and(|inner| replays(&inner.value))
    })
}
