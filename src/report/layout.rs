//! Arranges a report as a list of blocks. The terminal, Markdown and HTML all show the same blocks.

use serde::Serialize;

use super::chart::{self, Line};
use super::findings::Severity;
use super::tables::integer;
use super::{FailureClass, MeanDifference, Outcome, Report, RouteReport, server, tables, totals};
use crate::check::numbers::{duration, three_digits};

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
    /// A chart. Only HTML shows charts.
    Chart {
        title: String,
        svg: String,
        /// The CSS class and the name of each line.
        legend: Vec<(String, String)>,
    },
    /// Names and values.
    Facts {
        title: String,
        rows: Vec<(String, String)>,
    },
    Findings {
        /// A pair for each finding: whether it is a warning, and its text.
        all: Vec<(bool, String)>,
    },
}

/// Returns all blocks of a report, in order.
pub fn blocks(report: &Report) -> Vec<Block> {
    let line = |text: String| Block::Line { text };
    let mut blocks = vec![verdict(report)];
    for route in &report.routes {
        blocks.push(Block::Heading { text: heading(route) });
        if route.ledger.arrivals > 0 || !route.has_objectives() {
            blocks.push(tables::levels(route));
        }
        blocks.extend(tables::level_notes(route).into_iter().map(line));
        blocks.extend(tables::objectives(route));
        blocks.extend(server::tables(route));
        if route.levels().count() > 1 && route.total.sent > 0 {
            blocks.push(Block::Heading { text: "All phases together".to_owned() });
        }
        blocks.extend(tables::per_request(&route.total));
        blocks.push(totals::totals(route));
        blocks.push(line(ledger(route)));
        blocks.extend(totals::connections(&route.connections).map(line));
        blocks.extend(difference(route, report).map(line));
        blocks.extend(tables::failures(route));
        let remedy = |class: &FailureClass| {
            line(format!("{}: {}; {}", class.reason, class.last_message, class.remedy))
        };
        blocks.extend(route.failures.iter().map(remedy));
        blocks.extend(charts(route));
        blocks.extend(server::charts(route));
    }
    if !report.findings.is_empty() {
        let all = report.findings.iter();
        let all = all
            .map(|finding| (finding.severity == Severity::Warning, finding.text.clone()))
            .collect();
        blocks.push(Block::Findings { all });
    }
    blocks.push(totals::tested(report));
    blocks
}

/// The name of a route, and its model. The names of a run without a file say nothing.
fn heading(route: &RouteReport) -> String {
    let model = if route.model.is_empty() { "unknown model" } else { &route.model };
    match (route.scenario.as_str(), route.target.as_str()) {
        ("default", "default") => model.to_owned(),
        _ => format!("{} · {model}", route.route()),
    }
}

fn verdict(report: &Report) -> Block {
    let has_objectives = report.routes.iter().any(RouteReport::has_objectives);
    let verdict = &report.verdict;
    let text = match (verdict.result, has_objectives, verdict.sure) {
        (Outcome::Passed, true, true) => "passed: all objectives met",
        (Outcome::Passed, true, false) => {
            "passed: all objectives met, some by too few requests to be sure"
        }
        (Outcome::Passed, false, _) => "passed: no objectives set; measurement valid",
        (Outcome::Failed, ..) => "failed",
        (Outcome::Invalid, ..) => "invalid: the run proves nothing",
    };
    let title = report.tested.title.as_ref();
    Block::Verdict {
        passed: verdict.has_passed(),
        text: title.map_or_else(|| text.to_owned(), |title| format!("{text} · {title}")),
        reasons: verdict.reasons.iter().map(|reason| reason.text.clone()).collect(),
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
        let sign = if mean < 0.0 { "−" } else { "+" };
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

#[allow(clippy::cast_precision_loss)]
fn charts(route: &RouteReport) -> Vec<Block> {
    let timeline = &route.timeline;
    if timeline.arrivals.len() < 2 || timeline.interval_seconds <= 0.0 {
        return Vec::new();
    }
    let rates = |counts: &[u64]| -> Vec<Option<f64>> {
        counts.iter().map(|count| Some(*count as f64 / timeline.interval_seconds)).collect()
    };
    let failed_or_dropped: Vec<u64> = timeline
        .dropped
        .iter()
        .zip(&timeline.failed)
        .map(|(dropped, failed)| dropped + failed)
        .collect();
    let chart = |title: &str, unit: fn(f64) -> String, lines: Vec<Line>| Block::Chart {
        title: title.to_owned(),
        legend: lines.iter().map(|line| (line.class.to_owned(), line.name.to_owned())).collect(),
        svg: chart::svg(&lines, timeline.interval_seconds, unit),
    };
    let line = |class, name, values| Line { class, name, values };
    let rates = vec![
        line("arrivals", "arrivals/s", rates(&timeline.arrivals)),
        line("succeeded", "successes/s", rates(&timeline.succeeded)),
        line("failed", "failures and drops/s", rates(&failed_or_dropped)),
    ];
    let mut charts = vec![chart("Requests", three_digits, rates)];
    let (p50, max) =
        (&timeline.time_to_first_token_p50_seconds, &timeline.time_to_first_token_max_seconds);
    if p50.iter().any(Option::is_some) {
        let times = vec![line("median", "median", p50.clone()), line("max", "max", max.clone())];
        charts.push(chart("Time to first token", duration, times));
    }
    charts
}
