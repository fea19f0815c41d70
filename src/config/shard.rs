//! Divides a plan among several daemons. The parts of all daemons add up to each limit in the file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Invalid, Mistake, Position, Problem};
use crate::plan::{Limits, Plan, Scenario, Start, Target};
use crate::schedule::Shard;

/// Returns the part of a plan that one daemon executes. `origin` is the name of the file in
/// messages.
///
/// # Errors
/// If the schedule would not start at the same time on all shards, or if a limit is smaller than
/// the number of shards.
pub fn divide(plan: Plan, origin: &str, shard: Shard) -> Result<Plan, Invalid> {
    divide_if(plan, origin, shard, |scenario| {
        let is_common = matches!(scenario.start, Start::WallClock(_) | Start::Cron(_));
        (!is_common).then(|| SeparateTimes {
            key: "start",
            message: "the shards would not begin at the same time".to_owned(),
            remedy: "write `start: wall_clock` or a cron expression",
        })
    })
}

/// Returns the part of the plan of a run that one shard executes. The caller starts the scenarios
/// at the same time on all shards.
///
/// # Errors
/// If a scenario or a phase would not start at the same time on all shards, or if a limit is
/// smaller than the number of shards.
pub fn divide_run(plan: Plan, origin: &str, shard: Shard) -> Result<Plan, Invalid> {
    divide_if(plan, origin, shard, |scenario| {
        if let Some(after) = &scenario.after {
            return Some(SeparateTimes {
                key: "after",
                message: format!("scenario `{after}` would not end at the same time on all shards"),
                remedy: "remove `after` and --sequential, or choose one scenario with --scenario",
            });
        }
        let is_fixed = scenario.schedule.is_timed() || scenario.schedule.has_search();
        (!is_fixed).then(|| SeparateTimes {
            key: "schedule",
            message: "a phase with `requests` would not end at the same time on all shards"
                .to_owned(),
            remedy: "write `for` with a length instead of `requests`",
        })
    })
}

/// The reason why the shards would not do the same at the same time.
struct SeparateTimes {
    /// The key in the scenario.
    key: &'static str,
    message: String,
    remedy: &'static str,
}

fn divide_if(
    mut plan: Plan,
    origin: &str,
    shard: Shard,
    separate_times: impl Fn(&Scenario) -> Option<SeparateTimes>,
) -> Result<Plan, Invalid> {
    let mut problems = Vec::new();
    // By path, because several scenarios can have the same target.
    let mut of_targets = BTreeMap::new();
    for scenario in plan.scenarios.iter_mut().filter(|_| shard.count() > 1) {
        if let Some(SeparateTimes { key, message, remedy }) = separate_times(scenario) {
            problems.push(problem(scenario, key, message, remedy.to_owned()));
        }
        problems.extend(divide_scenario(scenario, shard));
        let targets = std::iter::once(&mut scenario.target).chain(&mut scenario.other_targets);
        of_targets.extend(targets.flat_map(|target| divide_rate_limits(target, shard)));
    }
    problems.extend(of_targets.into_values());
    plan.shard = shard;
    if problems.is_empty() {
        return Ok(plan);
    }
    Err(Invalid { files: plan.files, ..Invalid::new(origin, problems) })
}

fn problem(scenario: &Scenario, key: &str, message: String, remedy: String) -> Problem {
    let path = format!("scenarios.{}.{key}", scenario.name);
    Problem::new(Position::default(), path, Mistake::new(message, remedy))
}

fn divide_scenario(scenario: &mut Scenario, shard: Shard) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |key: &str, message: String, remedy: String| {
        problems.push(problem(scenario, key, message, remedy));
    };
    let shards = shard.count();
    let at_least_one_each = format!("write at least {shards}");
    for phase in scenario.schedule.phases() {
        if let Some(slots) = phase.load.slots()
            && slots.get() < shards
        {
            let message =
                format!("the concurrency of phase `{}` is too low for {shards} shards", phase.name);
            add("schedule", message, at_least_one_each.clone());
        }
    }
    if scenario.schedule.has_search() {
        add(
            "schedule",
            "shards cannot share a search, because each would decide by its own measurements"
                .to_owned(),
            "run the search in one daemon, without shards".to_owned(),
        );
    }
    let mut budgets = scenario.budgets.to_vec();
    for budget in &mut budgets {
        let whole = budget.limits;
        budget.limits = Limits::from_units(|unit| Some(shard.part(whole.get(unit)?)));
        if let Some((unit, _)) = whole.iter().find(|(_, limit)| *limit < u64::from(shards)) {
            let message = format!(
                "the budget of {} per {} is too low for {shards} shards",
                unit.as_str(),
                budget.period
            );
            add("budgets", message, at_least_one_each.clone());
        }
    }
    let limit = scenario.max_concurrency;
    let part = u32::try_from(shard.part(limit.get().into())).ok().and_then(NonZeroU32::new);
    let part = part.filter(|_| limit.get() >= shards);
    if part.is_none() {
        let message = format!("{limit} is too low for {shards} shards");
        add("max_concurrency", message, at_least_one_each.clone());
    }
    let most = scenario.sessions.as_ref().map(|sessions| sessions.max.get());
    let sessions = most.map(|most| {
        let part = u32::try_from(shard.part(most.into())).ok().and_then(NonZeroU32::new);
        part.filter(|_| most >= shards).ok_or(most)
    });
    if let Some(Err(most)) = sessions {
        let message = format!("{most} is too low for {shards} shards");
        add("max_sessions", message, at_least_one_each);
    }
    scenario.budgets = budgets.into();
    scenario.max_concurrency = part.unwrap_or(limit);
    if let (Some(settings), Some(Ok(part))) = (&mut scenario.sessions, sessions) {
        settings.max = part;
    }
    problems
}

/// Divides the rate limits of a target. Returns each problem with its path.
fn divide_rate_limits(target: &mut Arc<Target>, shard: Shard) -> Vec<(String, Problem)> {
    let Some(mut limits) = target.rate_limits else { return Vec::new() };
    let mut problems = Vec::new();
    for (key, limit) in
        [("requests_per_minute", &mut limits.requests), ("tokens_per_minute", &mut limits.tokens)]
    {
        let Some(all) = *limit else { continue };
        let part = u32::try_from(shard.part(all.get().into())).unwrap_or(u32::MAX);
        let shards = shard.count();
        if all.get() >= shards {
            *limit = NonZeroU32::new(part);
            continue;
        }
        let path = format!("targets.{}.rate_limits.{key}", target.name);
        let message = format!("{all} is too low for {shards} shards");
        let mistake = Mistake::new(message, format!("write at least {shards}"));
        let problem = Problem::new(Position::default(), path.clone(), mistake);
        problems.push((path, problem));
    }
    Arc::make_mut(target).rate_limits = Some(limits);
    problems
}
