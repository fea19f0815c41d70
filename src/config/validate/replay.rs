//! A phase that replays a trace: the file read, and what does not go with it.

use std::time::Duration;

use super::Checker;
use crate::config::document::{Arrivals, ArrivalsName, Phase, Replay, Scenario};
use crate::config::field::{At, Field, List};
use crate::config::scalar::Span;
use crate::config::trace;
use crate::schedule::{self, Load};

impl Checker<'_> {
    /// The trace, read as far as the phase lasts.
    pub(super) fn replay(
        &self,
        At { node, value: replay }: &At<Replay>,
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
            Field::Bad(_) => None,
            Field::Given(at) if (0.001..=1000.0).contains(&at.value.0) => Some(at.value.0),
            Field::Given(at) => {
                self.problem(at.node, "out of range; write a speed from 0.001 to 1000");
                None
            }
        };
        let file = replay.file.given()?;
        if length.is_bad() {
            return None;
        }
        let until = length.given().map(|at| at.value.0);
        let trace = trace::read(&self.path(&file.value), speed?, until);
        trace.map_err(|error| self.problem(file.node, error.to_string())).ok().map(Load::Replay)
    }

    /// How long a trace lasts where the phase does not say.
    pub(super) fn length_of_trace(&self, replay: &At<Replay>, load: &Load) -> Option<Duration> {
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
                | Field::Bad(_)
                | Field::Given(At { value: Arrivals::Text(ArrivalsName::Constant), .. })
        );
        if let (false, Some(arrivals)) = (even, scenario.arrivals.node())
            && scenario.schedule.given().is_some_and(|list| replays(&list.value))
        {
            self.problem(
                arrivals,
                "a replay has its own instants, which would be lost; leave out `arrivals`, or put the replay in \
                 a scenario of its own",
            );
        }
    }
}

fn replays(phases: &List<Phase>) -> bool {
    phases.0.iter().filter_map(Field::given).any(|At { value: phase, .. }| {
        !phase.replay.is_absent() || phase.phases.given().is_some_and(|inner| replays(&inner.value))
    })
}
