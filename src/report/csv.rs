//! Renders a report as CSV, as RFC 4180 defines it: a row for each phase of each route (one
//! scenario on one target). The names and the units of the columns are those of the JSON.

use super::{ObjectiveResult, PhaseReport, Report, RouteReport, Statistics, Summary};

/// A phase, with the route and the report that contain it.
#[derive(Clone, Copy)]
struct Row<'a> {
    report: &'a Report,
    route: &'a RouteReport,
    phase: &'a PhaseReport,
}

/// Reads a cell of a row.
type ReadCell = fn(&Row) -> String;
/// Reads a distribution.
type ReadSummary = fn(&Statistics) -> &Summary;
/// Reads a value of a distribution.
type ReadValue = fn(&Summary) -> Option<f64>;

/// The columns about the phase and its counts. An empty cell means that no value exists.
const COLUMNS: [(&str, ReadCell); 35] = [
    ("started", |row| row.report.started.clone()),
    ("title", |row| row.report.tested.title.clone().unwrap_or_default()),
    ("result", |row| row.report.verdict.result.as_str().to_owned()),
    ("scenario", |row| row.route.scenario.clone()),
    ("target", |row| row.route.target.clone()),
    ("model", |row| row.route.model.clone()),
    ("phase", |row| row.phase.name.clone()),
    ("load", |row| row.phase.load.clone()),
    ("level_kind", |row| {
        row.phase.level.map_or_else(String::new, |level| level.kind.as_str().to_owned())
    }),
    ("level", |row| cell(row.phase.level.map(|level| level.value))),
    ("state", |row| row.phase.state().to_owned()),
    ("explore", |row| row.phase.explore.to_string()),
    ("objectives_met", |row| objectives(row.phase, |one| one.judged > 0 && one.passed)),
    ("objectives_missed", |row| objectives(row.phase, |one| one.judged > 0 && !one.passed)),
    ("objectives_not_judged", |row| objectives(row.phase, |one| one.judged == 0)),
    ("planned_seconds", |row| cell(row.phase.planned_seconds)),
    ("planned_arrivals", |row| cell(row.phase.planned_arrivals)),
    ("seconds", |row| row.phase.statistics.seconds.to_string()),
    ("arrivals", |row| row.phase.statistics.arrivals.to_string()),
    ("dropped", |row| row.phase.statistics.dropped.to_string()),
    ("sent", |row| row.phase.statistics.sent.to_string()),
    ("succeeded", |row| row.phase.statistics.succeeded.to_string()),
    ("failed", |row| row.phase.statistics.failed.to_string()),
    ("success_rate", |row| cell(row.phase.statistics.success_rate)),
    ("offered_per_second", |row| cell(row.phase.statistics.offered_per_second)),
    ("queries_per_second", |row| cell(row.phase.statistics.queries_per_second)),
    ("goodput_per_second", |row| cell(row.phase.statistics.goodput_per_second)),
    ("requests_in_flight", |row| cell(row.phase.statistics.requests_in_flight)),
    ("peak_requests_in_flight", |row| row.phase.statistics.peak_requests_in_flight.to_string()),
    ("input_tokens", |row| cell(row.phase.statistics.input_tokens)),
    ("output_tokens", |row| cell(row.phase.statistics.output_tokens)),
    ("is_token_estimate", |row| row.phase.statistics.is_token_estimate.to_string()),
    ("output_tokens_per_second_total", |row| {
        cell(row.phase.statistics.output_tokens_per_second_total)
    }),
    ("tokens_per_second_total", |row| cell(row.phase.statistics.tokens_per_second_total)),
    ("output_tokens_per_request_second", |row| {
        cell(row.phase.statistics.output_tokens_per_request_second)
    }),
];

/// The distributions. Each of them has a column for each value of [`VALUES`], such as
/// `time_to_first_token_seconds_p99`.
const DISTRIBUTIONS: [(&str, ReadSummary); 11] = [
    ("input_tokens_per_request", |of| &of.input_tokens_per_request),
    ("output_tokens_per_request", |of| &of.output_tokens_per_request),
    ("time_to_first_token_seconds", |of| &of.time_to_first_token_seconds),
    ("time_to_first_token_from_schedule_seconds", |of| {
        &of.time_to_first_token_from_schedule_seconds
    }),
    ("time_to_first_answer_token_seconds", |of| &of.time_to_first_answer_token_seconds),
    ("time_per_output_token_seconds", |of| &of.time_per_output_token_seconds),
    ("inter_chunk_latency_seconds", |of| &of.inter_chunk_latency_seconds),
    ("request_duration_seconds", |of| &of.request_duration_seconds),
    ("request_duration_from_schedule_seconds", |of| &of.request_duration_from_schedule_seconds),
    ("output_tokens_per_second", |of| &of.output_tokens_per_second),
    ("dispatch_lag_seconds", |of| &of.dispatch_lag_seconds),
];

const VALUES: [(&str, ReadValue); 6] = [
    ("mean", |summary| summary.mean),
    ("p50", |summary| summary.p50),
    ("p90", |summary| summary.p90),
    ("p95", |summary| summary.p95),
    ("p99", |summary| summary.p99),
    ("max", |summary| summary.max),
];

/// Renders a header and a row for each phase that sends load, also if the phase was not sent.
pub fn csv(report: &Report) -> String {
    let mut names: Vec<String> = COLUMNS.map(|column| column.0.to_owned()).to_vec();
    for (distribution, _) in DISTRIBUTIONS {
        names.extend(VALUES.map(|(value, _)| format!("{distribution}_{value}")));
    }
    let mut out = String::new();
    add_record(&mut out, names);
    for route in &report.routes {
        for phase in route.levels() {
            let row = Row { report, route, phase };
            let mut cells: Vec<String> = COLUMNS.map(|(_, read)| read(&row)).to_vec();
            for (_, summary) in DISTRIBUTIONS {
                cells.extend(VALUES.map(|(_, read)| cell(read(summary(&phase.statistics)))));
            }
            add_record(&mut out, cells);
        }
    }
    out
}

fn add_record(out: &mut String, cells: Vec<String>) {
    let cells: Vec<String> = cells.into_iter().map(quoted).collect();
    out.push_str(&cells.join(","));
    out.push_str("\r\n");
}

fn quoted(cell: String) -> String {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn objectives(phase: &PhaseReport, is_one: fn(&ObjectiveResult) -> bool) -> String {
    let labels: Vec<String> =
        phase.slo.iter().filter(|one| is_one(one)).map(ObjectiveResult::label).collect();
    labels.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_with_a_separator_a_quote_or_a_line_break_is_quoted() {
        let mut out = String::new();
        let cells = ["plain", "a,b", "a \"b\"", "a\nb", ""];
        add_record(&mut out, cells.map(str::to_owned).to_vec());
        assert_eq!(out, "plain,\"a,b\",\"a \"\"b\"\"\",\"a\nb\",\r\n");
    }
}
