//! Arranges a report as a list of blocks. The terminal, Markdown and HTML all show the same blocks.

use serde::Serialize;

use super::chart::{self, Line};
use super::findings::Severity;
use super::{MeanDifference, Report, RouteReport, Statistics, Summary};
use crate::check::numbers::{count, duration, percent, three_digits};

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
    Findings {
        /// A pair for each finding: whether it is a warning, and its text.
        all: Vec<(bool, String)>,
    },
}

/// Returns all blocks of a report, in order.
pub fn blocks(report: &Report) -> Vec<Block> {
    let mut blocks = vec![verdict(report)];
    let line = |text: String| Block::Line { text };
    blocks.push(line(format!(
        "llmload {} · started {} · took {} · seed {}",
        report.version,
        report.started,
        duration(report.seconds),
        report.seed
    )));
    for route in &report.routes {
        let simulated = if route.simulated { " (the built-in simulator)" } else { "" };
        blocks.push(Block::Heading { text: route.route() });
        blocks.push(line(format!("{} at {}{simulated}", route.model, route.address)));
        blocks.push(line(ledger(route)));
        blocks.extend(latencies(&route.total));
        blocks.push(throughput(&route.total));
        blocks.extend(objectives(route));
        blocks.extend(phases(route));
        blocks.extend(difference(route, report).map(line));
        blocks.extend(charts(route));
    }
    if !report.findings.is_empty() {
        let all = report.findings.iter();
        let all = all
            .map(|finding| (finding.severity == Severity::Warning, finding.text.clone()))
            .collect();
        blocks.push(Block::Findings { all });
    }
    blocks
}

fn verdict(report: &Report) -> Block {
    let has_objectives = report.routes.iter().any(|route| !route.slo.is_empty());
    let text = match (report.verdict.passed, has_objectives) {
        (true, true) => "passed: all objectives met",
        (true, false) => "passed: no objectives set; measurement valid",
        (false, _) => "failed",
    };
    Block::Verdict {
        passed: report.verdict.passed,
        text: text.to_owned(),
        reasons: report.verdict.reasons.clone(),
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
    let retries = route.total.connection_retries;
    if retries > 0 {
        text = format!("{text} · {} connection retries", integer(retries));
    }
    let aborted: u64 = ledger.aborted.values().sum();
    if aborted > 0 {
        text = format!("{text} · {} aborted{}", integer(aborted), parts(&ledger.aborted));
    }
    text
}

fn latencies(statistics: &Statistics) -> Option<Block> {
    let rows = [
        ("TTFT", &statistics.time_to_first_token_seconds, true),
        ("TTFT from schedule", &statistics.time_to_first_token_from_schedule_seconds, true),
        ("TPOT", &statistics.time_per_output_token_seconds, true),
        ("inter-chunk latency", &statistics.inter_chunk_latency_seconds, true),
        ("request duration", &statistics.request_duration_seconds, true),
        ("tokens/s per request, decode only", &statistics.output_tokens_per_second, false),
    ];
    let cells = |(name, summary, time): (&str, &Summary, bool)| {
        let Summary { mean, p50, p90, p95, p99, max, count, .. } = *summary;
        let mut row = vec![name.to_owned()];
        let show = |value: Option<f64>| shown(value, if time { duration } else { three_digits });
        row.extend([mean, p50, p90, p95, p99, max].map(show));
        row.push(integer(count));
        row
    };
    let columns = ["", "mean", "p50", "p90", "p95", "p99", "max", "values"];
    let rows: Vec<_> = rows.into_iter().filter(|row| row.1.count > 0).map(cells).collect();
    (!rows.is_empty()).then(|| Block::Table {
        title: "Per request".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    })
}

fn throughput(statistics: &Statistics) -> Block {
    let three = |value| shown(value, three_digits);
    let rows = [
        ("queries/s (QPS)", three(statistics.queries_per_second)),
        ("success rate", shown(statistics.success_rate, percent)),
        ("timeout rate", shown(statistics.timeout_rate, percent)),
        ("mean requests in flight", three(statistics.requests_in_flight)),
        ("output tokens/s, all requests", three(statistics.output_tokens_per_second_total)),
        ("tokens/s per request, incl. TTFT", three(statistics.output_tokens_per_request_second)),
        ("input tokens", counted(statistics.input_tokens)),
        ("output tokens", counted(statistics.output_tokens)),
    ];
    Block::Table {
        title: "Complete run, from the first arrival to the last response".to_owned(),
        columns: vec![String::new(), format!("in {}", duration(statistics.seconds))],
        rows: rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec(),
    }
}

fn objectives(route: &RouteReport) -> Option<Block> {
    let rows = route.slo.iter().map(|objective| {
        #[allow(clippy::cast_precision_loss)]
        let is_uncertain =
            (objective.judged as f64) * (1.0 - objective.share) < 1.0 && objective.share < 1.0;
        #[allow(clippy::cast_precision_loss)]
        let met = (objective.judged > 0).then(|| objective.met as f64 / objective.judged as f64);
        let verdict = match (objective.passed, is_uncertain) {
            _ if objective.judged == 0 => "not judged",
            (false, _) => "missed",
            (true, true) => "met, but too few requests to be sure",
            (true, false) => "met",
        };
        vec![
            objective.criterion(),
            verdict.to_owned(),
            shown(met, percent),
            percent(objective.share),
            format!("{} of {}", integer(objective.met), integer(objective.judged)),
        ]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| Block::Table {
        title: "Objectives".to_owned(),
        columns: ["", "result", "met by", "required", "requests"].map(str::to_owned).to_vec(),
        rows,
    })
}

fn phases(route: &RouteReport) -> Option<Block> {
    let columns = [
        "",
        "sent",
        "dropped",
        "success rate",
        "QPS",
        "in flight",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "TPOT p99",
        "output tokens/s",
    ];
    let row = |phase: &super::PhaseReport| {
        let statistics = &phase.statistics;
        let (ttft, tpot) =
            (&statistics.time_to_first_token_seconds, &statistics.time_per_output_token_seconds);
        vec![
            phase.name.clone(),
            integer(statistics.sent),
            integer(statistics.dropped),
            shown(statistics.success_rate, percent),
            shown(statistics.queries_per_second, three_digits),
            shown(statistics.requests_in_flight, three_digits),
            shown(ttft.p50, duration),
            shown(ttft.p99, duration),
            shown(tpot.p50, duration),
            shown(tpot.p99, duration),
            shown(statistics.output_tokens_per_second_total, three_digits),
        ]
    };
    (route.phases.len() > 1).then(|| Block::Table {
        title: "By phase".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: route.phases.iter().map(row).collect(),
    })
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

fn shown(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn counted(tokens: Option<u64>) -> String {
    tokens.map_or_else(|| "not counted".to_owned(), integer)
}

#[allow(clippy::cast_precision_loss)]
fn integer(number: u64) -> String {
    count(number as f64)
}
