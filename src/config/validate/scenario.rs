//! A scenario: its references looked up, its parts put together.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::Prompts as Distinct;
use super::{Definitions, Validator};
use crate::config::document::{Arrivals, ArrivalsName, Scenario};
use crate::config::field::{Field, Located};
use crate::config::scalar::Repeat;
use crate::config::tree::{NodeId, excerpt};
use crate::plan;
use crate::prompts::Prompts;
use crate::schedule;

/// Requests in flight where the file says nothing.
pub const DEFAULT_MAX_CONCURRENCY: u32 = 256;
/// More connections than one machine has ports for.
const HIGHEST_MAX_CONCURRENCY: u32 = 50_000;
/// How late an arrival may be where the file says nothing.
const DEFAULT_MAX_LAG: Duration = Duration::from_millis(500);

impl Validator<'_> {
    /// A scenario; `None` where something was noted.
    pub(super) fn scenario(
        &self,
        name: &str,
        given: &Scenario,
        node: NodeId,
        targets: &Definitions<Arc<plan::Target>>,
        sources: &Definitions<Prompts>,
    ) -> Option<plan::Scenario> {
        let all = self.targets_of(given, node, targets);
        let prompts = self.scenario_prompts(name, given, node, sources);
        let request = self.request(&given.request);
        let cap =
            self.positive(&given.max_concurrency, DEFAULT_MAX_CONCURRENCY, HIGHEST_MAX_CONCURRENCY);
        let distinct = match prompts.as_ref().map(Prompts::len) {
            None => Distinct::Wrong,
            Some(None) => Distinct::Endless,
            Some(Some(number)) => Distinct::Number(number),
        };
        let schedule = self.schedule(given, node, cap, distinct);
        let arrivals = self.arrivals(&given.arrivals);
        self.replay_beside_arrivals(given);
        if let (Some(active), Some(false)) =
            (given.active.node(), schedule.as_ref().map(schedule::Schedule::is_timed))
        {
            self.problem(
                active,
                "a phase that counts `requests` takes as long as it takes, also beyond a window; write `for` in \
                 place of `requests`, or leave `active` out",
            );
        }
        let warmup = self.count(&given.warmup, 0, 0..=10_000);
        let start = self.start(&given.start);
        let repeat = self.repeat(given, start.as_ref());
        let active = self.active(&given.active);
        let max_lag = self.span(
            &given.max_lag,
            DEFAULT_MAX_LAG,
            Duration::from_millis(1)..=Duration::from_hours(1),
        );
        let slo = self.slo(&given.slo, request.as_ref().is_none_or(|request| request.stream));
        if let (Some(start), Some(schedule), Some(repeat)) = (&start, &schedule, repeat) {
            self.fits(given, start, schedule, repeat);
        }
        let mut all = all?.into_iter();
        let target = all.next()?;
        Some(plan::Scenario {
            name: name.to_owned(),
            target,
            further: all.collect(),
            prompts: prompts?,
            request: request?,
            schedule: Arc::new(schedule?),
            arrivals: arrivals?,
            repeat: repeat?,
            warmup: warmup?,
            start: start?,
            active: active?,
            max_concurrency: cap?,
            max_lag: max_lag?,
            slo: slo?.map(Arc::new),
            endless: given.schedule.is_absent(),
        })
    }

    /// The one target, or several of different names.
    fn targets_of(
        &self,
        given: &Scenario,
        node: NodeId,
        targets: &Definitions<Arc<plan::Target>>,
    ) -> Option<Vec<Arc<plan::Target>>> {
        let list = match &given.targets {
            Field::Absent => {
                return targets.resolve(self, &given.target, node).map(|target| vec![target]);
            }
            Field::Invalid(_) => return None,
            Field::Present(list) => list,
        };
        if let Some(target) = given.target.node() {
            self.problem(target, "`target` beside `targets`; write one of them");
            return None;
        }
        if list.value.0.is_empty() {
            self.problem(list.node, "no target; write at least one, such as `targets: [a, b]`");
        }
        let mut names = HashSet::new();
        let found = list.value.0.iter().map(|name| {
            if let Some(name) = name.present()
                && !names.insert(name.value.as_str())
            {
                self.problem(
                    name.node,
                    format!("`{}` stands twice; name each target once", excerpt(&name.value)),
                );
            }
            // Absent would mean the only one there is.
            if name.is_absent() { None } else { targets.resolve(self, name, node) }
        });
        // All of them are looked at, also after one that is wrong.
        found.collect::<Vec<_>>().into_iter().collect()
    }

    fn arrivals(&self, field: &Field<Arrivals>) -> Option<schedule::Arrivals> {
        let gamma = match field {
            Field::Invalid(_) => return None,
            Field::Absent
            | Field::Present(Located { value: Arrivals::Text(ArrivalsName::Constant), .. }) => {
                return Some(schedule::Arrivals::Constant);
            }
            Field::Present(Located { value: Arrivals::Text(ArrivalsName::Poisson), .. }) => {
                return Some(schedule::Arrivals::Poisson);
            }
            Field::Present(Located { node, value: Arrivals::Map(gamma) }) => {
                (node, &gamma.burstiness)
            }
        };
        if gamma.1.is_absent() {
            self.missing(*gamma.0, "`burstiness` is missing; write `{burstiness: 0.5}`");
        }
        let shape = gamma.1.present()?;
        if !(0.01..=100.0).contains(&shape.value.0) {
            self.problem(
                shape.node,
                "out of range; write a burstiness from 0.01 (bursts) to 100 (even)",
            );
            return None;
        }
        Some(schedule::Arrivals::Burstiness(shape.value.0))
    }

    fn repeat(&self, given: &Scenario, start: Option<&plan::Start>) -> Option<schedule::Repeat> {
        let cron = matches!(start, Some(plan::Start::Cron(_)));
        // The one phase of a shorthand has a length that nobody wrote.
        let shorthand = match (given.rate.node(), given.concurrency.node()) {
            (Some(_), _) => Some(("rate", "constant: 5/s")),
            (_, Some(_)) => Some(("concurrency", "concurrency: 10")),
            _ => None,
        };
        let (node, repeat) = match &given.repeat {
            Field::Invalid(_) => return None,
            Field::Absent if cron => (given.start.node()?, Repeat::Times(1)),
            Field::Absent => return Some(schedule::Repeat::Forever),
            Field::Present(Located { node, value }) => (*node, *value),
        };
        let Repeat::Times(times) = repeat else {
            if cron {
                self.problem(
                    node,
                    "for ever beside a cron, whose next firing would find it running; leave `repeat` out, or \
                     write how often each firing goes through the schedule",
                );
            }
            return (!cron).then_some(schedule::Repeat::Forever);
        };
        if let Some((key, phase)) = shorthand {
            let what = if given.repeat.is_absent() { "a cron" } else { "a count" };
            self.problem(
                node,
                format!(
                    "{what} beside `{key}`, which has no end to count; write how long it lasts, \
                     `schedule: [{{{phase}, for: 10m}}]`"
                ),
            );
            return None;
        }
        if let Some(plan::Start::WallClock(_)) = start {
            self.problem(
                node,
                "a count beside `wall_clock`, which has no first cycle to count from; leave `repeat` out",
            );
            return None;
        }
        let times = u32::try_from(times).ok().and_then(NonZeroU32::new);
        if times.is_none() {
            self.problem(node, "out of range; write `forever` or a count from 1 to 4294967295");
        }
        times.map(schedule::Repeat::Times)
    }
}
