//! Findings: sentences about a run, computed from its report. They say how the server behaved, what
//! to try next, and which numbers to read with care.
//!
//! A finding is given only if the data support it. `docs/report.md` has the condition of each code.

mod advice;
mod ladder;
mod levels;
mod limits;
mod server;
mod steadiness;
#[cfg(test)]
mod tests;
mod validity;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::is_only_search;
use super::{Distortion, PhaseReport, RouteReport};

use ladder::Ladder;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A value of the report is misleading without this finding.
    Warning,
    Note,
}

/// The kind of a finding. A report shows its findings in the order of these variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    GeneratorLimit,
    DistortedSteps,
    RateLimitHidesCapacity,
    BestLevel,
    ThroughputKnee,
    ThroughputSlows,
    RequestsQueue,
    DecodeDegrades,
    RoomAtTop,
    LevelChoice,
    NextStep,
    CutShort,
    Dropped,
    LevelNotReached,
    NotSteady,
    ShortPhase,
    ServerQueue,
    KvCacheFull,
    Preemptions,
    OtherClients,
    WaitBeforeServer,
    Aborted,
    DispatchLag,
    WaitingBeforeSending,
    MissingUsage,
    Coalesced,
    ConnectionRetries,
    PrefixCache,
    ServerPrefixCache,
    RepeatedPrompts,
    TooFewRequests,
    MissingServerMetrics,
    Simulated,
}

impl Code {
    fn severity(self) -> Severity {
        match self {
            Code::GeneratorLimit
            | Code::RateLimitHidesCapacity
            | Code::CutShort
            | Code::Dropped
            | Code::LevelNotReached
            | Code::NotSteady
            | Code::ShortPhase
            | Code::Aborted
            | Code::DispatchLag
            | Code::WaitingBeforeSending
            | Code::MissingUsage
            | Code::Coalesced
            | Code::MissingServerMetrics => Severity::Warning,
            Code::BestLevel
            | Code::ThroughputKnee
            | Code::ThroughputSlows
            | Code::RequestsQueue
            | Code::DecodeDegrades
            | Code::RoomAtTop
            | Code::LevelChoice
            | Code::NextStep
            | Code::DistortedSteps
            | Code::ConnectionRetries
            | Code::PrefixCache
            | Code::ServerPrefixCache
            | Code::ServerQueue
            | Code::KvCacheFull
            | Code::Preemptions
            | Code::OtherClients
            | Code::WaitBeforeServer
            | Code::RepeatedPrompts
            | Code::TooFewRequests
            | Code::Simulated => Severity::Note,
        }
    }
}

/// One sentence about the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// The route, if the report has several routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The phase that the finding is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    pub text: String,
    /// The numbers of the sentence, in base units.
    pub values: BTreeMap<String, f64>,
}

/// A finding before it gets its severity and the name of its route.
#[derive(Debug)]
struct Draft {
    code: Code,
    phase: Option<String>,
    text: String,
    values: Vec<(&'static str, f64)>,
}

impl Draft {
    fn new(code: Code, text: String) -> Draft {
        Draft { code, phase: None, text, values: Vec::new() }
    }

    fn about(self, phase: &PhaseReport) -> Draft {
        Draft { phase: Some(phase.name.clone()), ..self }
    }

    fn with<const N: usize>(self, values: [(&'static str, f64); N]) -> Draft {
        Draft { values: values.to_vec(), ..self }
    }
}

/// The facts about a run that are not in its routes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances<'a> {
    pub distortions: &'a [Distortion],
    /// The value of `--for`.
    pub time_limit: Option<Duration>,
    /// The configuration file. `None` if options defined the load.
    pub config_file: Option<&'a str>,
}

/// Returns all findings, the most important first.
pub(super) fn find(routes: &[RouteReport], run: Circumstances<'_>) -> Vec<Finding> {
    let Circumstances { distortions, time_limit, config_file } = run;
    let mut findings = Vec::new();
    // A search does not count distorted steps, so its result is valid.
    let is_only_search = is_only_search(routes);
    let is_distorted = !distortions.is_empty() && !is_only_search;
    let of_run: Vec<Draft> = if is_only_search {
        validity::distorted_steps(routes, distortions).into_iter().collect()
    } else {
        let generator = validity::generator_limit(distortions);
        generator.into_iter().chain(validity::repeat_run(distortions)).collect()
    };
    findings.extend(of_run.into_iter().map(|draft| finding(draft, None, &[])));
    for route in routes {
        let ladder = Ladder::new(route);
        let mut drafts = validity::drafts(route, time_limit);
        let is_alone = routes.iter().filter(|other| other.address == route.address).count() == 1;
        drafts.extend(server::drafts(route, is_alone));
        drafts.extend(steadiness::not_steady(route));
        let limited = limits::next_step(route);
        // A limit of llmload can look like the limit of the server.
        if limited.is_none() {
            drafts.extend(levels::drafts(route, &ladder));
        }
        // A distorted measurement gives no advice about levels.
        if let Some(step) = limited {
            drafts.push(step);
        } else if !is_distorted {
            let of_scenario = routes.iter().filter(|other| other.scenario == route.scenario);
            let has_other_targets = of_scenario.count() > 1;
            let search = advice::Search { config_file, has_other_targets };
            drafts.extend(advice::drafts(route, &ladder, search));
        }
        let name = (routes.len() > 1).then(|| route.route());
        let finding = |draft| finding(draft, name.as_deref(), &route.phases);
        findings.extend(drafts.into_iter().map(finding));
    }
    findings.sort_by_key(|finding| finding.code);
    findings
}

fn finding(draft: Draft, route: Option<&str>, phases: &[PhaseReport]) -> Finding {
    let Draft { code, phase, text, values } = draft;
    let text = match route {
        Some(route) => format!("{route}: {text}"),
        None if phases.iter().any(|phase| text.starts_with(&phase.name)) => text,
        None => capitalized(&text),
    };
    Finding {
        code,
        severity: code.severity(),
        text,
        route: route.map(str::to_owned),
        phase,
        values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// Begins a sentence with a capital letter. Names stay as they are.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !text.starts_with("llmload") => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// The name of a phase, with its load if the name does not contain it.
fn label(phase: &PhaseReport) -> String {
    if phase.name.contains(&phase.load) {
        phase.name.clone()
    } else {
        format!("{} ({})", phase.name, phase.load)
    }
}

/// The names of several phases: `a, b and c`.
fn labels(phases: &[&PhaseReport]) -> String {
    let names: Vec<String> = phases.iter().map(|phase| label(phase)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
