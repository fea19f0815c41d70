//! The setup of two runs: differences of the schedules, which forbid a comparison, and other
//! differences, which can explain a change.

use super::super::{PhaseReport, PromptProfile, Report, RouteReport};
use super::route_name;
use crate::check::numbers::{count, duration};
use crate::measurement::printable;

/// Returns the differences of the schedules of two routes. `label` names the new run.
pub(super) fn schedule_differences(
    name: &str,
    label: &str,
    base: &RouteReport,
    new: &RouteReport,
) -> Vec<String> {
    let mut differences = Vec::new();
    if base.gaps != new.gaps {
        differences.push(format!(
            "{name}: the gaps between arrivals are {} in the base run and {} in {label}",
            printable(&base.gaps, 64),
            printable(&new.gaps, 64)
        ));
    }
    for before in &base.phases {
        let phase = phase_name(before);
        let Some(after) = new.phases.iter().find(|after| after.name == before.name) else {
            differences.push(format!("{name}: the phase {phase} is not in {label}"));
            continue;
        };
        let (old, new) = (plan(before), plan(after));
        if old != new {
            differences
                .push(format!("{name}: {phase} is {old} in the base run and {new} in {label}"));
        }
    }
    for after in &new.phases {
        if base.phases.iter().all(|before| before.name != after.name) {
            let phase = phase_name(after);
            differences.push(format!("{name}: the phase {phase} is only in {label}"));
        }
    }
    let order = |phases: &[PhaseReport]| phases.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    if differences.is_empty() && order(&base.phases) != order(&new.phases) {
        differences.push(format!("{name}: the phases have another order in {label}"));
    }
    differences
}

/// The plan of a phase as text: `constant 5/s for 2m`.
fn plan(phase: &PhaseReport) -> String {
    let load = printable(&phase.load, 128);
    let text = match (phase.planned_seconds, phase.planned_arrivals) {
        (Some(seconds), _) => format!("{load} for {}", duration(seconds)),
        (None, Some(arrivals)) => {
            #[allow(clippy::cast_precision_loss)]
            let arrivals = count(arrivals as f64);
            format!("{load} with {arrivals} requests")
        }
        (None, None) => load,
    };
    if phase.explore { format!("{text} (explores)") } else { text }
}

/// Returns true if two phases can be compared although the schedules differ.
pub(super) fn have_same_load(base: &PhaseReport, new: &PhaseReport) -> bool {
    base.load == new.load && base.explore == new.explore
}

pub(super) fn phase_name(phase: &PhaseReport) -> String {
    printable(&phase.name, 128)
}

/// Returns the differences between two runs, except for their routes.
pub(super) fn run_notes(label: &str, base: &Report, new: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |what: &str, old: &str, new: &str| {
        if old != new {
            let (old, new) = (printable(old, 128), printable(new, 128));
            notes.push(format!("{what} is {old} in the base run and {new} in {label}"));
        }
    };
    note("the version of llmload", &base.version, &new.version);
    note("the seed", &base.seed.to_string(), &new.seed.to_string());
    let machine = |report: &Report| {
        let cpus = report.tested.cpus.map(|cpus| cpus.to_string()).unwrap_or_default();
        let cpu = report.tested.cpu.clone().unwrap_or_default();
        format!("{cpus} × {cpu}")
    };
    note("the processor of the machine that sent the load", &machine(base), &machine(new));
    notes
}

/// Returns the differences between two routes that can explain a change. `name` is the route of the
/// base run.
pub(super) fn route_notes(
    name: &str,
    label: &str,
    base: &RouteReport,
    new: &RouteReport,
) -> Vec<String> {
    let mut notes = Vec::new();
    if route_name(base) != route_name(new) {
        notes.push(format!("{name} is compared with {} of {label}", route_name(new)));
    }
    let mut note = |what: &str, old: String, new: String| {
        if old != new {
            notes.push(format!("{name}: {what} is {old} in the base run and {new} in {label}"));
        }
    };
    let known = |text: &str| {
        if text.is_empty() { "unknown".to_owned() } else { printable(text, 256) }
    };
    note("the model", known(&base.model), known(&new.model));
    let address = |route: &RouteReport| {
        // Each run starts its simulator on another port.
        if route.simulated { "the built-in simulator".to_owned() } else { known(&route.address) }
    };
    note("the target", address(base), address(new));
    let server = |route: &RouteReport| known(route.server_version.as_deref().unwrap_or_default());
    note("the server", server(base), server(new));
    note("the source of the prompts", profile(&base.prompts), profile(&new.prompts));
    if let (Some(old), Some(new)) = (base.max_tokens, new.max_tokens) {
        note("max_tokens", count(old.into()), count(new.into()));
    }
    notes
}

fn profile(prompts: &PromptProfile) -> String {
    #[allow(clippy::cast_precision_loss)]
    let number = prompts.count.map(|number| format!("{} ", count(number as f64)));
    let name = printable(&prompts.name, 64);
    let PromptProfile { source, order, prefix_cache, .. } = prompts;
    let kind = format!("{}{source}", number.unwrap_or_default());
    printable(&format!("{name} ({kind}, {order} order, {prefix_cache} prefix cache)"), 256)
}
