//! Divides a plan among several daemons. The parts of all daemons add up to each limit in the file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Invalid, Mistake, Position, Problem};
use crate::plan::{Limits, Plan, Scenario, Start, Target};
use crate::schedule::Shard;

/// Returns the part of a plan that one shard executes. `origin` is the name of the file in
/// messages.
///
/// # Errors
/// If the schedule would not start at the same time on all shards, or if a limit is smaller than
/// the number of shards.
pub fn divide(mut plan: Plan, origin: &str, shard: Shard) -> Result<Plan, Invalid> {
    let mut problems = Vec::new();
    // By path, because several scenarios can have the same target.
    let mut of_targets = BTreeMap::new();
    for scenario in plan.scenarios.iter_mut().filter(|_| shard.count() > 1) {
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

fn divide_scenario(scenario: &mut Scenario, shard: Shard) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, message: String, remedy: String| {
        let path = format!("scenarios.{}.{key}", scenario.name);
        let mistake = Mistake::new(message, remedy);
        problems.push(Problem::new(Position::default(), path, mistake));
    };
    if !matches!(scenario.start, Start::WallClock(_) | Start::Cron(_)) {
        problem(
            "start",
            "the shards would not begin at the same time".to_owned(),
            "write `start: wall_clock` or a cron expression".to_owned(),
        );
    }
    let shards = shard.count();
    let at_least_one_each = format!("write at least {shards}");
    for phase in scenario.schedule.phases() {
        if let Some(slots) = phase.load.slots()
            && slots.get() < shards
        {
            let message =
                format!("the concurrency of phase `{}` is too low for {shards} shards", phase.name);
            problem("schedule", message, at_least_one_each.clone());
        }
    }
    if scenario.schedule.has_search() {
        problem(
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
            problem("budgets", message, at_least_one_each.clone());
        }
    }
    scenario.budgets = budgets.into();
    let limit = scenario.max_concurrency;
    let part = u32::try_from(shard.part(limit.get().into())).unwrap_or(u32::MAX);
    match NonZeroU32::new(part) {
        Some(part) if limit.get() >= shards => scenario.max_concurrency = part,
        _ => {
            let message = format!("{limit} is too low for {shards} shards");
            problem("max_concurrency", message, at_least_one_each);
        }
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
