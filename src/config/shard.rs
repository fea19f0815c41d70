//! A plan divided among several daemons: each gets its part of every cap, so that the sum is what
//! the file says.

use std::num::NonZeroU32;

use super::{Invalid, Position, Problem};
use crate::plan::{Plan, Scenario, Start};
use crate::schedule::Shard;

/// The part of a plan, read from `origin`, that one shard carries out.
///
/// # Errors
/// Where a schedule does not begin at the same time for all of them, or a part is nothing.
pub fn divide(mut plan: Plan, origin: &str, shard: Shard) -> Result<Plan, Invalid> {
    let mut problems = Vec::new();
    for scenario in plan.scenarios.iter_mut().filter(|_| shard.count() > 1) {
        problems.extend(divide_scenario(scenario, shard));
    }
    plan.shard = shard;
    if problems.is_empty() {
        return Ok(plan);
    }
    Err(Invalid { files: plan.files, ..Invalid::of(origin, problems) })
}

fn divide_scenario(scenario: &mut Scenario, shard: Shard) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, text: String| {
        let path = format!("scenarios.{}.{key}", scenario.name);
        problems.push(Problem::new(Position::default(), path, &text));
    };
    if !matches!(scenario.start, Start::WallClock(_) | Start::Cron(_)) {
        let text =
            "shards would not begin together; write `start: wall_clock` or a cron expression";
        problem("start", text.to_owned());
    }
    let shards = shard.count();
    let part =
        |whole: NonZeroU32| u32::try_from(shard.part(whole.get().into())).unwrap_or(u32::MAX);
    for phase in scenario.schedule.phases() {
        if let Some(slots) = phase.load.slots()
            && slots.get() < shards
        {
            let name = &phase.name;
            problem(
                "schedule",
                format!(
                    "phase `{name}` is not enough for {shards} shards; write at least {shards}"
                ),
            );
        }
    }
    match NonZeroU32::new(part(scenario.max_concurrency)) {
        Some(part) if scenario.max_concurrency.get() >= shards => scenario.max_concurrency = part,
        _ => {
            let whole = scenario.max_concurrency;
            problem(
                "max_concurrency",
                format!("{whole} is not enough for {shards} shards; write at least {shards}"),
            );
        }
    }
    problems
}
