//! The objectives of a scenario and of its phases, in the output of `llmload check`.

use super::numbers::exact_duration;
use crate::plan::Scenario;
use crate::slo::{Criterion, Objective, Slo};

/// The most phases with different objectives that are listed.
const MOST_PHASES: usize = 10;

/// Returns one text for the scenario, and one for each phase that differs. Empty without objectives
/// and without a phase that explores.
pub fn texts(scenario: &Scenario) -> Vec<String> {
    let mut texts: Vec<String> = scenario.slo.iter().map(|slo| text(slo)).collect();
    let mut names = Vec::new();
    for (phase, objectives) in scenario.schedule.phases().iter().zip(scenario.phases.iter()) {
        if names.contains(&&phase.name) {
            continue;
        }
        let own = objectives.slo.as_ref().filter(|slo| scenario.slo.as_ref() != Some(slo));
        let explores = objectives.explore.then_some("explores, so it decides nothing");
        let parts = own.map(|slo| text(slo)).into_iter().chain(explores.map(str::to_owned));
        let parts: Vec<String> = parts.collect();
        if !parts.is_empty() {
            names.push(&phase.name);
            texts.push(format!("{}: {}", phase.name, parts.join("; ")));
        }
    }
    let first = usize::from(scenario.slo.is_some()) + MOST_PHASES;
    if texts.len() > first {
        let more = texts.len() - first;
        texts.truncate(first);
        texts.push(format!("and {more} more phases with other objectives"));
    }
    texts
}

fn text(slo: &Slo) -> String {
    let objectives: Vec<String> = slo.objectives.iter().map(objective).collect();
    let abort = if slo.abort { "; ends the run as soon as one cannot be met" } else { "" };
    format!("{}{abort}", objectives.join(", "))
}

fn objective(objective: &Objective) -> String {
    match objective.criterion {
        Criterion::Latency(metric, threshold) => format!(
            "{} p{} ≤ {}",
            metric.as_str(),
            objective.share,
            exact_duration(threshold.as_secs_f64())
        ),
        Criterion::Success => format!("success_rate ≥ {} %", objective.share),
    }
}
