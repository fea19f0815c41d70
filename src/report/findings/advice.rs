//! The level to choose, and the next thing to try.

use super::ladder::{Ladder, value};
use super::levels::{level_choice, room_at_top};
use super::{Code, Draft, label};
use crate::check::numbers::{duration, rate};
use crate::report::{LevelKind, ObjectiveResult, PhaseReport, RouteReport, shell_quoted};

/// The fewest requests that a p99 needs.
const REQUESTS_FOR_P99: u64 = 100;
/// The lowest success rate of a level whose objectives are not missed because of failures.
const FEW_FAILURES: f64 = 0.99;
/// The load has an effect on a value if the value at the higher level is at least this many times
/// the value at the lower level.
const EFFECT: f64 = 1.1;

/// The factor from the lowest to the highest level of a search without a known upper end.
const SEARCH_FACTOR: f64 = 4.0;

/// The facts about a run that decide how a search can follow it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search<'a> {
    /// The configuration file. `None` if options defined the load.
    pub config_file: Option<&'a str>,
    /// True if the scenario has other targets. A search measures one target.
    pub has_other_targets: bool,
}

pub(super) fn drafts(route: &RouteReport, ladder: &Ladder<'_>, search: Search<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    drafts.extend(best_level(ladder));
    let room = room_at_top(ladder);
    drafts.extend(level_choice(ladder));
    drafts.extend(next_step(route, ladder, room.is_some(), search));
    drafts.extend(room);
    drafts
}

fn meets_all(phase: &PhaseReport) -> bool {
    phase.slo.iter().all(|objective| objective.passed)
}

/// The levels with judged objectives.
fn judged<'a>(ladder: &Ladder<'a>) -> Vec<&'a PhaseReport> {
    let is_judged = |phase: &&PhaseReport| {
        !phase.slo.is_empty() && phase.slo.iter().all(|objective| objective.judged > 0)
    };
    ladder.sent.iter().copied().filter(is_judged).collect()
}

fn misses(phase: &PhaseReport) -> impl Iterator<Item = &ObjectiveResult> {
    phase.slo.iter().filter(|objective| !objective.passed)
}

/// True if chance can explain every miss of a level.
fn misses_by_chance(phase: &PhaseReport) -> bool {
    misses(phase).all(ObjectiveResult::is_missed_by_chance)
}

/// Returns the reason why a lower level does not help: the first missed objective has nearly the
/// same value at the lower level, so its value does not depend on the load. `None` if it can depend
/// on the load.
fn no_effect(lower: &PhaseReport, higher: &PhaseReport) -> Option<String> {
    let has_effect = |objective: &ObjectiveResult| {
        let same = lower.slo.iter().find(|other| other.criterion() == objective.criterion());
        let values = same.and_then(|same| same.measured).zip(objective.measured);
        match objective.threshold_seconds {
            Some(_) => values.is_none_or(|(low, high)| high >= low * EFFECT),
            None => values.is_none_or(|(low, high)| 1.0 - high >= (1.0 - low) * EFFECT),
        }
    };
    let missed = misses(higher).next()?;
    (!misses(higher).any(has_effect)).then(|| {
        let same = lower.slo.iter().find(|other| other.criterion() == missed.criterion());
        format!(
            "the load has no clear effect on {}: {} at {}, and {} at {}",
            missed.label(),
            same.map_or_else(|| "–".to_owned(), ObjectiveResult::measured_text),
            label(lower),
            missed.measured_text(),
            label(higher)
        )
    })
}

fn miss(phase: &PhaseReport) -> Option<String> {
    let objective = misses(phase).next()?;
    let chance = if misses_by_chance(phase) { ", which chance can explain" } else { "" };
    Some(match objective.measured {
        Some(_) => format!(
            "{} was {} instead of {}{chance}",
            objective.label(),
            objective.measured_text(),
            objective.threshold()
        ),
        None => format!("{} was missed{chance}", objective.label()),
    })
}

fn best_level(ladder: &Ladder<'_>) -> Option<Draft> {
    let levels = judged(ladder);
    let [lowest, .., highest] = levels.as_slice() else { return None };
    let Some(best) = levels.iter().rposition(|phase| meets_all(phase)) else {
        let text =
            format!("no level meets all objectives; at {}, {}", label(lowest), miss(lowest)?);
        return Some(Draft::new(Code::BestLevel, text).about(lowest));
    };
    let (best, higher) = (levels[best], levels.get(best + 1));
    let is_sure = best.slo.iter().all(|objective| objective.sure);
    let sure = if is_sure { "" } else { " (with too few requests to be sure)" };
    let text = match higher {
        None => {
            format!("{} is the highest level, and it meets all objectives{sure}", label(highest))
        }
        Some(higher) => format!(
            "{} is the highest level that meets all objectives{sure}; at {}, {}",
            label(best),
            label(higher),
            miss(higher)?
        ),
    };
    Some(Draft::new(Code::BestLevel, text).about(best).with([("level", value(best))]))
}

/// A level as the value of an option: `35`, `5/s`.
fn option(phase: &PhaseReport) -> String {
    level_text(phase, value(phase))
}

fn level_text(phase: &PhaseReport, value: f64) -> String {
    match phase.level.map(|level| level.kind) {
        // The command line reads no thousands separators.
        Some(LevelKind::Rate) if value >= 1.0 => format!("{value}/s"),
        Some(LevelKind::Rate) => rate(value),
        _ => value.to_string(),
    }
}

fn next_step(
    route: &RouteReport,
    ladder: &Ladder<'_>,
    has_room: bool,
    search: Search<'_>,
) -> Option<Draft> {
    let levels = judged(ladder);
    let best = levels.iter().rposition(|phase| meets_all(phase));
    let next = |text: String| Some(Draft::new(Code::NextStep, text));
    match best {
        Some(index) if index + 1 < levels.len() => {
            let (low, high) = (levels[index], levels[index + 1]);
            if misses_by_chance(high) {
                return next(format!(
                    "next, run {} for longer, because chance can explain its miss",
                    label(high)
                ));
            }
            if let Some(reason) = no_effect(low, high) {
                return next(format!(
                    "next, run {} for longer before you choose a level, because {reason}",
                    label(low)
                ));
            }
            return next(format!(
                "next, find the limit between {} and {}: {}",
                label(low),
                label(high),
                search_command(route, search, low, value(high))?
            ));
        }
        // The highest level meets the objectives, and does not show how far the next ones can be.
        Some(index) if !has_room && levels[index].slo.iter().all(|objective| objective.sure) => {
            let best = levels[index];
            return next(format!(
                "next, find the highest level that meets the objectives: {}",
                search_command(route, search, best, value(best) * SEARCH_FACTOR)?
            ));
        }
        None if !levels.is_empty() => {
            return next(step_after_a_miss(levels.first()?, levels.get(1)));
        }
        _ => {}
    }
    if has_room {
        let top = ladder.measured.last()?;
        let further = [2.0, 4.0].map(|factor| level_text(top, value(top) * factor));
        return next(format!("next, try higher levels, such as {} and {}", further[0], further[1]));
    }
    if let Some(knee) = ladder.knee() {
        let index = ladder.measured.iter().position(|phase| std::ptr::eq(*phase, knee.level))?;
        return next(match index.checked_sub(1) {
            Some(before) => format!(
                "next, set objectives (`slo`) and try levels between {} and {}, where throughput \
                 stops growing",
                label(ladder.measured[before]),
                label(knee.level)
            ),
            None => format!(
                "next, try levels below {}; the server is saturated there",
                option(knee.level)
            ),
        });
    }
    let phase = route.levels().find(|phase| {
        let is_level = phase.sent && !phase.is_search();
        is_level && phase.statistics.succeeded > 0 && phase.statistics.arrivals < REQUESTS_FOR_P99
    })?;
    let qps = phase.statistics.queries_per_second.filter(|qps| *qps > 0.0)?;
    #[allow(clippy::cast_precision_loss)]
    let seconds = (REQUESTS_FOR_P99 as f64 / qps).ceil();
    next(format!(
        "next, run {} for at least {}, so that {REQUESTS_FOR_P99} requests give a p99",
        label(phase),
        duration(seconds)
    ))
}

/// The next step if the lowest level misses an objective. Lower levels help against a slow server,
/// and not against failures.
fn step_after_a_miss(lowest: &PhaseReport, second: Option<&&PhaseReport>) -> String {
    let is_slow = lowest.statistics.success_rate.is_some_and(|rate| rate >= FEW_FAILURES);
    let is_single = lowest.level.is_some_and(|level| level.kind == LevelKind::Concurrency)
        && value(lowest) <= 1.0;
    if misses_by_chance(lowest) {
        return format!(
            "next, run {} for longer, because chance can explain its miss",
            label(lowest)
        );
    }
    if let Some(reason) = second.and_then(|second| no_effect(lowest, second)).filter(|_| is_slow) {
        return format!(
            "next, try shorter prompts or responses, or a faster server, because {reason}"
        );
    }
    match (is_slow, is_single) {
        (false, _) => "next, fix the causes of the failures, because requests fail even at the \
                       lowest level"
            .to_owned(),
        (true, true) => "next, try shorter prompts or responses, or a faster server, because even \
                         one request at a time misses an objective"
            .to_owned(),
        (true, false) => format!("next, try levels below {}", option(lowest)),
    }
}

/// The command that finds the highest level that meets the objectives of a phase, from the level of
/// this phase on. With the file of the run, the search sends the same requests. The command always
/// has both ends, because the default of `--to` can be below `--from`.
fn search_command(
    route: &RouteReport,
    search: Search<'_>,
    from: &PhaseReport,
    to: f64,
) -> Option<String> {
    let options = format!(
        "--slo '{}' --by {} --from {} --to {}",
        slo_text(&from.slo),
        from.level?.kind.as_str(),
        option(from),
        level_text(from, to)
    );
    let Some(file) = search.config_file.map(shell_quoted) else {
        return Some(format!("`llmload capacity {} {options}`", route.address));
    };
    // The file can have scenarios that did not run, so the command names the scenario.
    let command = |scenario: &str| {
        format!("`llmload capacity --config.file {file} --scenario {scenario} {options}`")
    };
    Some(if search.has_other_targets {
        format!(
            "give `{}` a scenario with only this target, and write the name of this scenario for \
             NAME: {}",
            route.target,
            command("NAME")
        )
    } else {
        command(&shell_quoted(&route.scenario))
    })
}

/// The objectives as the value of `--slo`: `ttft p99<1s, success>99%`.
fn slo_text(objectives: &[ObjectiveResult]) -> String {
    let texts = objectives.iter().map(|objective| {
        let threshold = objective.threshold().replace(' ', "");
        match objective.threshold_seconds {
            Some(_) => format!("{}<{threshold}", objective.label()),
            None => format!("success>{threshold}"),
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}
