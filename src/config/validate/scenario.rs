//! Validates a scenario, and finds its targets and prompts by their names.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::phase_end::PromptCount;
use super::schedule::PhaseContext;
use super::search::Objectives;
use super::slo::ResponseForm;
use super::{Definitions, Validator};
use crate::config::document::{Arrivals, ArrivalsName, Scenario};
use crate::config::field::{Field, Located};
use crate::config::scalar::Repeat;
use crate::config::tree::{NodeId, excerpt};
use crate::plan;
use crate::prompts::Prompts;
use crate::schedule::{self, Load, Schedule};

pub const DEFAULT_MAX_CONCURRENCY: u32 = 256;
/// The largest value of `max_concurrency`. A machine has no ports for more connections.
const HIGHEST_MAX_CONCURRENCY: u32 = 50_000;
const DEFAULT_MAX_LAG: Duration = Duration::from_millis(500);

impl Validator<'_> {
    pub(super) fn scenario(
        &self,
        name: &str,
        scenario: &Scenario,
        node: NodeId,
        targets: &Definitions<Arc<plan::Target>>,
        sources: &Definitions<Prompts>,
    ) -> Option<plan::Scenario> {
        let all = self.scenario_targets(scenario, node, targets);
        let prompts = self.scenario_prompts(name, scenario, node, sources);
        let request = self.request(&scenario.request);
        let max_concurrency = self.positive(
            &scenario.max_concurrency,
            DEFAULT_MAX_CONCURRENCY,
            HIGHEST_MAX_CONCURRENCY,
        );
        let prompt_count = match prompts.as_ref().map(Prompts::len) {
            None => PromptCount::Invalid,
            Some(None) => PromptCount::Endless,
            Some(Some(number)) => PromptCount::Known(number),
        };
        self.warn_of_text_settings(&scenario.request, all.as_deref().unwrap_or_default());
        let form = response_form(request.as_ref(), all.as_deref().unwrap_or_default());
        let slo = self.slo(&scenario.slo, form);
        let objectives = match &slo {
            None => Objectives::Invalid,
            Some(None) => Objectives::Absent,
            Some(Some(slo)) => Objectives::Present(slo.clone()),
        };
        let context = PhaseContext { max_concurrency, prompts: prompt_count, form, objectives };
        let planned = self.schedule(scenario, node, context);
        let (schedule, mut phases) =
            planned.map_or((None, Vec::new()), |(schedule, phases)| (Some(schedule), phases));
        if let Some(schedule) = &schedule {
            self.reject_search_with_targets(scenario, schedule);
        }
        let sessions = self.sessions(scenario, prompts.as_ref(), max_concurrency);
        if let (Some(Some(_)), Some(all)) = (&sessions, &all) {
            self.check_session_target(node, all);
        }
        if let (Some(schedule), Some(Some(sessions))) = (&schedule, &sessions) {
            self.check_session_phases(scenario, schedule, sessions);
        }
        let arrivals = self.arrivals(&scenario.arrivals);
        self.reject_arrivals_with_replay(scenario);
        if let (Some(active), Some(false)) =
            (scenario.active.node(), schedule.as_ref().map(schedule::Schedule::is_timed))
        {
            self.problem(
                active,
                "a phase that counts `requests` or searches has no fixed length, so it can exceed a \
                 window",
                "write a phase with a fixed length, or remove `active`",
            );
        }
        let warmup = self.count(&scenario.warmup, 0, 0..=10_000);
        let start = self.start(&scenario.start);
        let repeat = self.repeat(scenario, start.as_ref());
        let active = self.active(&scenario.active);
        let max_lag = self.span(
            &scenario.max_lag,
            DEFAULT_MAX_LAG,
            Duration::from_millis(1)..=Duration::from_hours(1),
        );
        let breaker = self.breaker(&scenario.breaker);
        if let (Some(start), Some(schedule), Some(repeat)) = (&start, &schedule, repeat) {
            self.check_start(scenario, start, schedule, repeat);
        }
        let rows = prompts.as_ref().filter(|_| !schedule.as_ref().is_some_and(limits_every_output));
        let budgets = self.budgets(&scenario.budgets, all.as_deref(), (request.as_ref(), rows));
        let slo = slo?.map(Arc::new);
        let loads = schedule.iter().flat_map(Schedule::phases);
        for (phase, planned) in phases.iter_mut().zip(loads) {
            // A search has its objectives inside, because it judges each step separately.
            let is_search = planned.load.search().is_some();
            phase.slo = phase.slo.take().or_else(|| slo.clone()).filter(|_| !is_search);
            phase.is_level |= is_search;
        }
        let mut all = all?.into_iter();
        let target = all.next()?;
        Some(plan::Scenario {
            name: name.to_owned(),
            target,
            other_targets: all.collect(),
            prompts: prompts?,
            request: request?,
            schedule: Arc::new(schedule?),
            arrivals: arrivals?,
            repeat: repeat?,
            warmup: warmup?,
            start: start?,
            after: scenario.after.present().map(|after| after.value.clone()),
            active: active?,
            max_concurrency: max_concurrency?,
            sessions: sessions?,
            max_lag: max_lag?,
            breaker: breaker?,
            slo,
            budgets: budgets?.into(),
            phases: phases.into(),
            endless: scenario.schedule.is_absent(),
        })
    }

    fn scenario_targets(
        &self,
        scenario: &Scenario,
        node: NodeId,
        targets: &Definitions<Arc<plan::Target>>,
    ) -> Option<Vec<Arc<plan::Target>>> {
        let list = match &scenario.targets {
            Field::Absent => {
                return targets.resolve(self, &scenario.target, node).map(|target| vec![target]);
            }
            Field::Invalid(_) => return None,
            Field::Present(list) => list,
        };
        if let Some(target) = scenario.target.node() {
            self.problem(target, "`target` and `targets` exclude each other", "remove one of them");
            return None;
        }
        if list.value.0.is_empty() {
            self.problem(
                list.node,
                "the list of targets is empty",
                "write at least one target, such as `targets: [a, b]`",
            );
        }
        let mut names = HashSet::new();
        let found = list.value.0.iter().map(|name| {
            if let Some(name) = name.present()
                && !names.insert(name.value.as_str())
            {
                self.problem(
                    name.node,
                    format!("`{}` appears twice", excerpt(&name.value)),
                    "name each target once",
                );
            }
            // `resolve` would replace an absent name with the only target of the file.
            if name.is_absent() { None } else { targets.resolve(self, name, node) }
        });
        // Without the first `collect`, the first mistake would hide the mistakes of later targets.
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
            self.missing(*gamma.0, "`burstiness` is missing", "write `{burstiness: 0.5}`");
        }
        let shape = gamma.1.present()?;
        if !(0.01..=100.0).contains(&shape.value.0) {
            self.problem(
                shape.node,
                format!("{} is out of range", shape.value),
                "write a burstiness from 0.01 (bursts) to 100 (nearly equal intervals)",
            );
            return None;
        }
        Some(schedule::Arrivals::Burstiness(shape.value.0))
    }

    fn repeat(&self, scenario: &Scenario, start: Option<&plan::Start>) -> Option<schedule::Repeat> {
        let has_cron = matches!(start, Some(plan::Start::Cron(_)));
        // For the user, a scenario with only `rate` or `concurrency` never ends. Internally, it
        // repeats a cycle of `SHORTHAND_LENGTH`, so a number of cycles would mean nothing.
        let shorthand = match (scenario.rate.node(), scenario.concurrency.node()) {
            (Some(_), _) => Some(("rate", "constant: 5/s")),
            (_, Some(_)) => Some(("concurrency", "concurrency: 10")),
            _ => None,
        };
        let (node, repeat) = match &scenario.repeat {
            Field::Invalid(_) => return None,
            Field::Absent if has_cron => (scenario.start.node()?, Repeat::Times(1)),
            Field::Absent => return Some(schedule::Repeat::Forever),
            Field::Present(Located { node, value }) => (*node, *value),
        };
        let Repeat::Times(times) = repeat else {
            if has_cron {
                self.problem(
                    node,
                    "a schedule without end would still run at the next firing of the cron",
                    "remove `repeat`, or write the number of cycles for each firing",
                );
            }
            return (!has_cron).then_some(schedule::Repeat::Forever);
        };
        if let Some((key, phase)) = shorthand {
            let other = if scenario.repeat.is_absent() { "a cron start" } else { "`repeat`" };
            self.problem(
                node,
                format!("{other} needs a schedule that ends, but `{key}` never ends"),
                format!(
                    "write a schedule with a length, such as `schedule: [{{{phase}, for: 10m}}]`"
                ),
            );
            return None;
        }
        if let Some(plan::Start::WallClock(_)) = start {
            self.problem(
                node,
                "a start by the wall clock has no first cycle, so `repeat` cannot count the cycles",
                "remove `repeat`",
            );
            return None;
        }
        let times = u32::try_from(times).ok().and_then(NonZeroU32::new);
        if times.is_none() {
            let message = "the count is out of range";
            self.problem(node, message, "write `forever` or a count from 1 to 4294967295");
        }
        times.map(schedule::Repeat::Times)
    }
}

/// Returns true if every request has the output limit of a row of a trace.
fn limits_every_output(schedule: &Schedule) -> bool {
    schedule.phases().iter().all(|phase| match phase.load.trace() {
        Some(trace) => trace.rows().iter().all(|row| row.lengths().output.is_some()),
        None => phase.load == Load::Pause,
    })
}

fn response_form(
    request: Option<&plan::RequestParameters>,
    targets: &[Arc<plan::Target>],
) -> ResponseForm {
    if targets.iter().any(|target| !target.dialect.api.generates_text()) {
        ResponseForm::Vectors
    } else if request.is_none_or(|request| request.stream) {
        ResponseForm::Stream
    } else {
        ResponseForm::Unstreamed
    }
}
