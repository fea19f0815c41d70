//! Arranges a report as a list of blocks. The terminal, Markdown and HTML all show the same blocks.

use serde::Serialize;

use super::findings::Severity;
use super::{
    ArchiveReport, FailureClass, MeanDifference, Report, RouteReport, SessionReport, charts,
    headline, server, tables, totals, verdict,
};
use crate::check::numbers::{duration, integer, sign};

/// One block of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    Verdict {
        passed: bool,
        text: String,
        reasons: Vec<String>,
    },
    /// The name of a route. The blocks of this route follow.
    Heading {
        text: String,
    },
    /// A paragraph.
    Line {
        text: String,
    },
    /// A table whose first column names the rows.
    Table {
        title: String,
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// A table that can be wider than a terminal. A row with one cell names the rows below it.
    WideTable {
        title: String,
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
        /// The number of first columns that belong to each part of a divided table.
        repeated: usize,
        /// The number of other columns that must stay beside each other.
        together: usize,
    },
    /// A chart. Only HTML shows charts.
    Chart {
        title: String,
        svg: String,
        legend: Vec<charts::Entry>,
    },
    /// Names and values.
    Facts {
        title: String,
        rows: Vec<Fact>,
    },
    Findings {
        /// A pair for each finding: whether it is a warning, and its text.
        all: Vec<(bool, String)>,
    },
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub name: String,
    pub value: String,
    /// True for a text that a reader copies, such as a command.
    pub is_code: bool,
}

impl Fact {
    pub(super) fn new(name: impl Into<String>, value: impl Into<String>) -> Fact {
        Fact { name: name.into(), value: value.into(), is_code: false }
    }
}

/// Returns all blocks of a report, in order: the results of all routes, the findings, the charts,
/// the details of each route, and the setup of the test.
pub fn blocks(report: &Report) -> Vec<Block> {
    let mut blocks = vec![verdict_block(report)];
    for route in &report.routes {
        blocks.push(Block::Heading { text: heading(route) });
        blocks.extend(searches(route, report));
        if !verdict::is_only_search(std::slice::from_ref(route)) {
            blocks.extend(results(route));
        }
    }
    let is_only = report.side_by_side.len() == 1;
    blocks.extend(report.side_by_side.iter().flat_map(|table| table.blocks(is_only)));
    if !report.findings.is_empty() {
        let all = report.findings.iter();
        let all = all
            .map(|finding| (finding.severity == Severity::Warning, finding.text.clone()))
            .collect();
        blocks.push(Block::Findings { all });
    }
    blocks.extend(charts::charts(report));
    let is_one = report.routes.len() == 1;
    // A table of zeros would hide the reason why llmload sent nothing.
    for route in report.routes.iter().filter(|route| route.ledger.arrivals > 0) {
        let all = "All phases together";
        let has_phases = route.levels().count() > 1 && route.total.sent > 0;
        match (is_one, has_phases) {
            (true, true) => blocks.push(Block::Heading { text: all.to_owned() }),
            (true, false) => {}
            (false, _) => {
                let all =
                    if has_phases { format!(": {}", all.to_lowercase()) } else { String::new() };
                blocks.push(Block::Heading { text: format!("{}{all}", heading(route)) });
            }
        }
        blocks.extend(details(route, report));
    }
    blocks.extend(report.archive.map(ArchiveReport::block));
    blocks.push(totals::tested(report));
    blocks
}

/// The searches of a route.
fn searches(route: &RouteReport, report: &Report) -> Vec<Block> {
    let mut blocks = Vec::new();
    for search in route.phases.iter().filter_map(|phase| phase.search.as_ref()) {
        // The verdict contains the sentence of a search that did not pass.
        if report.verdict.reasons.iter().all(|reason| !reason.text.contains(&search.sentence)) {
            blocks.push(line(search.sentence.clone()));
        }
        blocks.extend(search.blocks());
    }
    blocks
}

/// The results of a route by level.
fn results(route: &RouteReport) -> Vec<Block> {
    let mut blocks = Vec::new();
    if route.ledger.arrivals > 0 || !route.has_objectives() {
        blocks.push(tables::levels(route));
    }
    blocks.extend(tables::level_notes(route).into_iter().map(line));
    blocks.extend(tables::objectives(route));
    blocks.extend(tables::objective_notes(route).into_iter().map(line));
    blocks.extend(server::tables(route));
    blocks
}

/// The values of a route over all phases, and its failures.
fn details(route: &RouteReport, report: &Report) -> Vec<Block> {
    let mut blocks = Vec::new();
    // Values of all steps of a search together say nothing.
    if !verdict::is_only_search(std::slice::from_ref(route)) {
        blocks.extend(tables::per_request(&route.total));
        blocks.push(totals::totals(route));
    }
    blocks.push(line(ledger(route)));
    blocks.extend(route.sessions.iter().flat_map(SessionReport::blocks));
    blocks.extend(totals::connections(&route.connections).map(line));
    blocks.extend(route.replay.as_ref().map(|replay| line(replay.text())));
    blocks.extend(difference(route, report).map(line));
    blocks.extend(tables::failures(route));
    let remedy = |class: &FailureClass| {
        line(format!("{}: {}; {}", class.reason, class.last_message, class.remedy))
    };
    blocks.extend(route.failures.iter().map(remedy));
    blocks
}

fn line(text: String) -> Block {
    Block::Line { text }
}

/// The name of a route, and its model. The names of a run without a file say nothing.
fn heading(route: &RouteReport) -> String {
    let model = if route.model.is_empty() { "unknown model" } else { &route.model };
    match (route.scenario.as_str(), route.target.as_str()) {
        ("default", "default") => model.to_owned(),
        _ => format!("{} · {model}", route.route()),
    }
}

fn verdict_block(report: &Report) -> Block {
    let text = headline::verdict(report);
    let title = report.tested.title.as_ref();
    Block::Verdict {
        passed: report.verdict.has_passed(),
        text: title.map_or_else(|| text.clone(), |title| format!("{text} · {title}")),
        reasons: report.verdict.reasons.iter().map(|reason| reason.text.clone()).collect(),
    }
}

/// The outcome of every arrival as one line.
fn ledger(route: &RouteReport) -> String {
    fn parts(counts: &std::collections::BTreeMap<String, u64>) -> String {
        let all: Vec<_> =
            counts.iter().map(|(name, number)| format!("{name} {}", integer(*number))).collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
    }
    let ledger = &route.ledger;
    let mut text = format!(
        "{} arrivals = {} sent + {} dropped{} · {} finished = {} succeeded + {} failed{}",
        integer(ledger.arrivals),
        integer(ledger.started),
        integer(ledger.total_dropped()),
        parts(&ledger.dropped),
        integer(ledger.finished),
        integer(ledger.succeeded),
        integer(ledger.total_failed()),
        parts(&ledger.failed),
    );
    let aborted: u64 = ledger.aborted.values().sum();
    if aborted > 0 {
        text = format!("{text} · {} aborted{}", integer(aborted), parts(&ledger.aborted));
    }
    text
}

/// A sentence about the difference from the first target of the scenario.
fn difference(route: &RouteReport, report: &Report) -> Option<String> {
    let difference = route.difference.as_ref()?;
    let baseline = report.routes.iter().find(|other| other.scenario == route.scenario)?;
    let time = |name: &str, difference: Option<MeanDifference>| {
        let MeanDifference { mean_seconds: mean, margin_seconds: margin } = difference?;
        let sign = sign(mean);
        let size = duration(mean.abs());
        Some(match margin {
            None => format!("{name} {sign}{size} (too few pairs for a confidence interval)"),
            Some(margin) if margin >= mean.abs() => format!("{name}: no clear difference"),
            Some(margin) => {
                format!("{name} {sign}{size} (95 % CI ± {})", duration(margin))
            }
        })
    };
    let times = [
        time("TTFT", difference.time_to_first_token),
        time("duration", difference.request_duration),
    ];
    let times: Vec<_> = times.into_iter().flatten().collect();
    let pairs = integer(difference.pairs);
    Some(format!(
        "Difference from {} over {pairs} paired requests: {}",
        baseline.target,
        times.join(", ")
    ))
}
