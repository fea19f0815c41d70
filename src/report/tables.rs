//! The tables of a route: one row per level, the objectives by phase, and the values per request.

use std::collections::BTreeMap;

use super::layout::Block;
use super::{ObjectiveResult, PhaseReport, RouteReport, Statistics, Summary};
use crate::check::numbers::{duration, integer, percent, three_digits};

/// The most objectives beside each other. More would be wider than 80 columns.
const MOST_COLUMNS: usize = 4;

/// The title of the table of levels.
pub(super) const LEVELS: &str = "By level";

/// The table of levels: a row for each phase that sends load.
pub(super) fn levels(route: &RouteReport) -> Block {
    let tokens: &[&str] =
        if route.generates_text() { &["TPS", "TTFT mean"] } else { &["input tokens/s"] };
    let columns = [&["level", "QPS", "mean latency", "P99"][..], tokens, &["success"]].concat();
    let mut columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
    let has_drops = route.total.dropped > 0;
    if has_drops {
        columns.push("dropped".to_owned());
    }
    let row = |phase: &PhaseReport| {
        let statistics = &phase.statistics;
        let latency = &statistics.request_duration_seconds;
        let mut cells = vec![
            level_name(phase),
            shown(statistics.queries_per_second, three_digits),
            shown(latency.mean, duration),
            shown(latency.p99, duration),
        ];
        if route.generates_text() {
            cells.push(estimated(statistics, statistics.output_tokens_per_request_second));
            cells.push(shown(statistics.time_to_first_token_seconds.mean, duration));
        } else {
            cells.push(shown(statistics.input_tokens_per_second(), three_digits));
        }
        cells.push(shown(statistics.success_rate, percent));
        if has_drops {
            cells.push(integer(statistics.dropped));
        }
        cells
    };
    Block::Table {
        title: LEVELS.to_owned(),
        columns,
        rows: measured_levels(route).map(row).collect(),
    }
}

/// The phases that send one load. The steps of a search have a separate table.
fn measured_levels(route: &RouteReport) -> impl Iterator<Item = &PhaseReport> {
    route.levels().filter(|phase| !phase.is_search())
}

/// Sentences that explain the table of levels.
pub(super) fn level_notes(route: &RouteReport) -> Vec<String> {
    let mut notes = Vec::new();
    if route.total.is_token_estimate {
        notes.push(
            "≈ estimated from chunks, because the endpoint counted no output tokens".to_owned(),
        );
    }
    let (seconds, ended) = (route.tail.seconds, &route.tail.window);
    let in_tail = ended.succeeded + ended.failed;
    if in_tail > 0 {
        let seconds = duration(seconds);
        notes.push(match in_tail {
            1 => format!("1 request ended {seconds} after the last phase; it counts in no rate"),
            _ => format!(
                "{} requests ended after the last phase, within {seconds}; they count in no rate",
                integer(in_tail)
            ),
        });
    }
    notes
}

fn level_name(phase: &PhaseReport) -> String {
    match phase.state() {
        "sent" => phase.name.clone(),
        state => format!("{} ({state})", phase.name),
    }
}

/// The objectives: a row for each phase, and a column for each objective.
pub(super) fn objectives(route: &RouteReport) -> Vec<Block> {
    // All phases with the same objectives share a table.
    let mut groups: Vec<(Vec<String>, Vec<&PhaseReport>)> = Vec::new();
    for phase in route.levels().filter(|phase| !phase.slo.is_empty()) {
        let criteria: Vec<String> = phase.slo.iter().map(ObjectiveResult::criterion).collect();
        match groups.iter_mut().find(|group| group.0 == criteria) {
            Some(group) => group.1.push(phase),
            None => groups.push((criteria, vec![phase])),
        }
    }
    let tables = groups.iter().flat_map(|(_, phases)| {
        let number = phases.first().map_or(0, |phase| phase.slo.len());
        let starts = (0..number).step_by(MOST_COLUMNS);
        starts.map(move |start| objective_table(phases, start..number.min(start + MOST_COLUMNS)))
    });
    tables.collect()
}

fn objective_table(phases: &[&PhaseReport], columns: std::ops::Range<usize>) -> Block {
    let shown = |phase: &PhaseReport| phase.slo[columns.clone()].to_vec();
    let first = phases.first().map(|phase| shown(phase)).unwrap_or_default();
    let head = std::iter::once("objective".to_owned());
    let thresholds = std::iter::once(String::new()).chain(first.iter().map(|objective| {
        let sign = if objective.threshold_seconds.is_some() { '≤' } else { '≥' };
        format!("{sign} {}", objective.threshold())
    }));
    let rows = phases.iter().map(|phase| {
        let name =
            if phase.explore { format!("{} (explores)", phase.name) } else { level_name(phase) };
        std::iter::once(name).chain(shown(phase).iter().map(objective_cell)).collect()
    });
    Block::Table {
        title: "Objectives".to_owned(),
        columns: head.chain(first.iter().map(ObjectiveResult::label)).collect(),
        rows: std::iter::once(thresholds.collect()).chain(rows).collect(),
    }
}

/// Explains `met?` and `missed?`, if a table of objectives has these results.
pub(super) fn objective_notes(route: &RouteReport) -> Vec<String> {
    let shown = || route.levels().flat_map(|phase| &phase.slo).filter(|result| result.judged > 0);
    let mut unsure: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for objective in shown().filter(|result| result.passed && !result.sure) {
        let labels = unsure.entry(objective.fewest_requests()).or_default();
        if !labels.contains(&objective.label()) {
            labels.push(objective.label());
        }
    }
    let needs = unsure.iter().map(|(fewest, labels)| {
        let need = if labels.len() == 1 { "needs" } else { "need" };
        format!("{} {need} {}", labels.join(" and "), integer(*fewest))
    });
    let needs = needs.collect::<Vec<_>>().join(", ");
    let mut notes = Vec::new();
    if !unsure.is_empty() {
        notes.push(format!(
            "met? = met, but by so few requests that chance can decide: {needs} requests"
        ));
    }
    if shown().any(ObjectiveResult::is_missed_by_chance) {
        notes.push(
            "missed? = missed, but chance can explain it: the 95 % confidence interval of the \
             measured value contains the objective; more requests decide"
                .to_owned(),
        );
    }
    notes
}

fn objective_cell(objective: &ObjectiveResult) -> String {
    let result = match (objective.judged, objective.passed, objective.sure) {
        (0, ..) => return "not judged".to_owned(),
        (_, false, false) => "missed?",
        (_, false, true) => "missed",
        (_, true, false) => "met?",
        (_, true, true) => "met",
    };
    match objective.measured {
        Some(_) => format!("{result} {}", objective.measured_text()),
        // So many requests failed that the quantile has no value.
        None => format!("{result}, failed"),
    }
}

/// The values per request of all phases together.
pub(super) fn per_request(statistics: &Statistics) -> Option<Block> {
    type Show = fn(f64) -> String;
    let mut rows: Vec<(&str, &Summary, Show)> = vec![
        ("TTFT", &statistics.time_to_first_token_seconds, duration),
        ("TTFT from schedule", &statistics.time_to_first_token_from_schedule_seconds, duration),
        ("TTFO (answer)", &statistics.time_to_first_answer_token_seconds, duration),
        ("TPOT", &statistics.time_per_output_token_seconds, duration),
        ("ITL (chunk gap)", &statistics.inter_chunk_latency_seconds, duration),
        ("duration", &statistics.request_duration_seconds, duration),
        ("TPS, decode only", &statistics.output_tokens_per_second, three_digits),
        ("input tokens", &statistics.input_tokens_per_request, three_digits),
        ("output tokens", &statistics.output_tokens_per_request, three_digits),
    ];
    // An endpoint without reasoning can report the count 0 for each response.
    if statistics.reasoning_tokens.is_some_and(|count| count > 0) {
        rows.push(("reasoning tokens", &statistics.reasoning_tokens_per_request, three_digits));
    }
    let cells = |(name, summary, show): (&str, &Summary, Show)| {
        let Summary { mean, p50, p90, p95, p99, max, .. } = *summary;
        let mut row = vec![name.to_owned()];
        row.extend([mean, p50, p90, p95, p99, max].map(|value| shown(value, show)));
        row
    };
    let columns = ["", "mean", "P50", "P90", "P95", "P99", "max"];
    let rows: Vec<_> = rows.into_iter().filter(|row| row.1.count > 0).map(cells).collect();
    (!rows.is_empty()).then(|| Block::Table {
        title: "Per request".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
    })
}

/// The classes of failure.
pub(super) fn failures(route: &RouteReport) -> Option<Block> {
    let rows = route.failures.iter().map(|class| {
        // The date is at the start of the report.
        let time = |text: &str| text.get(11..19).unwrap_or(text).to_owned();
        vec![
            class.reason.clone(),
            integer(class.count),
            percent(class.share),
            class.blame.clone(),
            time(&class.first),
            time(&class.last),
        ]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| Block::Table {
        title: "Failures".to_owned(),
        columns: ["failure", "count", "share", "blame", "first (UTC)", "last (UTC)"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    })
}

/// Returns a number of tokens. `≈` marks an estimate.
pub(super) fn estimated(statistics: &Statistics, value: Option<f64>) -> String {
    let sign = if statistics.is_token_estimate && value.is_some() { "≈ " } else { "" };
    format!("{sign}{}", shown(value, three_digits))
}

pub(super) fn shown(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}
