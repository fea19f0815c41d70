//! Renders a report as CSV, as RFC 4180 defines it: a row for each phase of each route (one
//! scenario on one target), and for each step of a search. The names and the units of the columns
//! are those of the JSON.

use std::borrow::Cow;

use super::search::is_success;
use super::{
    Level, ObjectiveResult, PhaseReport, QuantileReport, Report, RouteReport, SearchReport,
    Statistics, StepObjective, StepReport, Summary,
};

/// A phase, with the route and the report that contain it.
#[derive(Clone, Copy)]
struct Row<'a> {
    report: &'a Report,
    route: &'a RouteReport,
    phase: &'a PhaseReport,
    /// The step of a search, and its number from 1.
    step: Option<(usize, &'a StepReport)>,
}

/// Reads a cell of a row.
type ReadCell = fn(&Row) -> String;
/// Reads a distribution.
type ReadSummary = fn(&Statistics) -> &Summary;
/// Reads a value of a distribution.
type ReadValue = fn(&Summary) -> Option<f64>;

/// The columns about the phase and its counts. An empty cell means that no value exists.
const COLUMNS: [(&str, ReadCell); 40] = [
    ("started", |row| row.report.started.clone()),
    ("title", |row| row.report.tested.title.clone().unwrap_or_default()),
    ("result", |row| row.report.verdict.result.as_str().to_owned()),
    ("scenario", |row| row.route.scenario.clone()),
    ("target", |row| row.route.target.clone()),
    ("model", |row| row.route.model.clone()),
    ("phase", |row| row.phase.name.clone()),
    ("load", |row| row.phase.load.clone()),
    ("step", |row| cell(row.step.map(|(number, _)| number))),
    ("step_reason", |row| row.step.map_or_else(String::new, |(_, step)| step.reason.clone())),
    ("step_verdict", |row| {
        let verdict = row.step.and_then(|(_, step)| step.verdict.clone());
        let excluded = row.step.map(|(_, step)| step.state().to_owned());
        verdict.or(excluded).unwrap_or_default()
    }),
    ("level_kind", |row| {
        row.phase.level.map_or_else(String::new, |level| level.kind.as_str().to_owned())
    }),
    ("level", |row| cell(row.phase.level.map(|level| level.value))),
    ("state", |row| row.phase.state().to_owned()),
    ("explore", |row| row.phase.explore.to_string()),
    ("objectives_met", |row| objectives(row, Some(true))),
    ("objectives_missed", |row| objectives(row, Some(false))),
    ("objectives_not_judged", |row| objectives(row, None)),
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
    ("peak_requests_in_flight", |row| {
        // A search does not measure it for each step.
        let peak = row.phase.statistics.peak_requests_in_flight;
        cell(row.step.is_none().then_some(peak))
    }),
    ("input_tokens", |row| cell(row.phase.statistics.input_tokens)),
    ("output_tokens", |row| cell(row.phase.statistics.output_tokens)),
    ("reasoning_tokens", |row| cell(row.phase.statistics.reasoning_tokens)),
    ("reasoning_token_ratio", |row| cell(row.phase.statistics.reasoning_token_ratio)),
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
const DISTRIBUTIONS: [(&str, ReadSummary); 12] = [
    ("input_tokens_per_request", |of| &of.input_tokens_per_request),
    ("output_tokens_per_request", |of| &of.output_tokens_per_request),
    ("reasoning_tokens_per_request", |of| &of.reasoning_tokens_per_request),
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

/// Renders a header and a row for each phase that sends load, also if the phase was not sent. A
/// search has a row for each of its steps instead.
pub fn csv(report: &Report) -> String {
    let mut names: Vec<String> = COLUMNS.map(|column| column.0.to_owned()).to_vec();
    for (distribution, _) in DISTRIBUTIONS {
        names.extend(VALUES.map(|(value, _)| format!("{distribution}_{value}")));
    }
    let mut out = String::new();
    add_record(&mut out, names);
    for route in &report.routes {
        let rows = route.levels().flat_map(rows);
        for (step, phase) in rows {
            let phase = &*phase;
            let row = Row { report, route, phase, step };
            let mut cells: Vec<String> = COLUMNS.map(|(_, read)| read(&row)).to_vec();
            for (_, summary) in DISTRIBUTIONS {
                cells.extend(VALUES.map(|(_, read)| cell(read(summary(&phase.statistics)))));
            }
            add_record(&mut out, cells);
        }
    }
    out
}

/// A step with its number, and the values of the row.
type StepRow<'a> = (Option<(usize, &'a StepReport)>, Cow<'a, PhaseReport>);

/// Returns the rows of a phase.
fn rows(phase: &PhaseReport) -> Vec<StepRow<'_>> {
    match &phase.search {
        Some(search) if !search.steps.is_empty() => {
            let steps = search.steps.iter().enumerate();
            let row = |(index, step)| (Some((index + 1, step)), step_row(phase, search, step));
            steps.map(row).collect()
        }
        _ => vec![(None, Cow::Borrowed(phase))],
    }
}

/// Returns a step as a phase. It has only the values that the search measured for each step.
#[allow(clippy::cast_precision_loss)]
fn step_row<'a>(
    phase: &PhaseReport,
    search: &SearchReport,
    step: &StepReport,
) -> Cow<'a, PhaseReport> {
    let finished = step.succeeded + step.failed;
    let seconds = step.measured_seconds;
    let statistics = Statistics {
        seconds,
        arrivals: step.requests,
        offered_per_second: (seconds > 0.0).then(|| step.requests as f64 / seconds),
        dropped: step.dropped,
        sent: step.sent(),
        succeeded: step.succeeded,
        failed: step.failed,
        success_rate: (finished > 0).then(|| step.succeeded as f64 / finished as f64),
        queries_per_second: Some(step.requests_per_second),
        is_token_estimate: step.is_token_estimate,
        output_tokens_per_second_total: Some(step.output_tokens_per_second),
        time_to_first_token_seconds: summary(step.time_to_first_token_seconds),
        time_per_output_token_seconds: summary(step.time_per_output_token_seconds),
        request_duration_seconds: summary(step.request_duration_seconds),
        ..Statistics::default()
    };
    Cow::Owned(PhaseReport {
        name: phase.name.clone(),
        load: phase.load.clone(),
        level: Some(Level { value: step.level, ..search.from }),
        sent: true,
        explore: phase.explore,
        statistics,
        ..PhaseReport::default()
    })
}

fn summary(quantiles: QuantileReport) -> Summary {
    let QuantileReport { p50, p90, p99 } = quantiles;
    Summary { p50, p90, p99, ..Summary::default() }
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

/// Returns the names of the objectives with this result. `None` means that no request was judged.
fn objectives(row: &Row, is_met: Option<bool>) -> String {
    let of_phase = |one: &ObjectiveResult| (one.label(), (one.judged > 0).then_some(one.passed));
    let of_step = |one: &StepObjective| {
        let is_met =
            one.verdict.as_ref().filter(|_| one.judged > 0).map(|verdict| is_success(verdict));
        (one.name.clone(), is_met)
    };
    let results: Vec<(String, Option<bool>)> = match row.step {
        Some((_, step)) => step.objectives.iter().map(of_step).collect(),
        None => row.phase.slo.iter().map(of_phase).collect(),
    };
    let found = results.into_iter().filter(|result| result.1 == is_met);
    found.map(|result| result.0).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LevelKind;

    /// A step whose values all differ.
    fn step() -> StepReport {
        let quantiles = |p50: f64| QuantileReport {
            p50: Some(p50),
            p90: Some(p50 + 1.0),
            p99: Some(p50 + 2.0),
        };
        let objective = |name: &str, judged: u64, verdict: &str| StepObjective {
            name: name.to_owned(),
            judged,
            verdict: Some(verdict.to_owned()),
            ..StepObjective::default()
        };
        StepReport {
            level: 7.5,
            name: "7.5/s".to_owned(),
            reason: "bisection".to_owned(),
            verdict: Some("probably_missed".to_owned()),
            settle_seconds: 2.0,
            measured_seconds: 40.0,
            requests: 300,
            dropped: 20,
            succeeded: 266,
            failed: 14,
            requests_per_second: 6.65,
            output_tokens_per_second: 665.5,
            is_token_estimate: true,
            time_to_first_token_seconds: quantiles(10.5),
            time_per_output_token_seconds: quantiles(20.5),
            request_duration_seconds: quantiles(30.5),
            objectives: vec![
                objective("ttft p99", 300, "probably_missed"),
                objective("success", 300, "met"),
                objective("tpot p50", 0, "not_judged"),
            ],
            ..StepReport::default()
        }
    }

    fn searched(steps: Vec<StepReport>) -> Report {
        let fixture = include_str!("../../tests/messages/base.json");
        let mut report: Report = serde_json::from_str(fixture).unwrap();
        // A title can contain a comma.
        report.tested.title = None;
        let from = Level { kind: LevelKind::Rate, value: 1.0 };
        report.routes[0].phases = vec![PhaseReport {
            name: "limit".to_owned(),
            load: "search 1/s to 9/s".to_owned(),
            search: Some(SearchReport { from, steps, ..SearchReport::default() }),
            sent: true,
            ..PhaseReport::default()
        }];
        report
    }

    /// The filled cells of a row, by column.
    fn cells(csv: &str, row: usize) -> Vec<(&str, &str)> {
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines[0].len(), lines[row].len(), "{csv}");
        let cells = lines[0].iter().copied().zip(lines[row].iter().copied());
        cells.filter(|(_, cell)| !cell.is_empty()).collect()
    }

    #[test]
    fn a_step_of_a_search_has_each_of_its_values_in_its_column_and_no_other_value() {
        let csv = csv(&searched(vec![StepReport::default(), step()]));
        let about_the_run = ["started", "title", "result", "scenario", "target", "model"];
        let values = cells(&csv, 2).into_iter().filter(|(name, _)| !about_the_run.contains(name));
        let expected = [
            ("phase", "limit"),
            ("load", "search 1/s to 9/s"),
            ("step", "2"),
            ("step_reason", "bisection"),
            ("step_verdict", "probably_missed"),
            ("level_kind", "rate"),
            ("level", "7.5"),
            ("state", "sent"),
            ("explore", "false"),
            ("objectives_met", "success"),
            ("objectives_missed", "ttft p99"),
            ("objectives_not_judged", "tpot p50"),
            ("seconds", "40"),
            ("arrivals", "300"),
            ("dropped", "20"),
            ("sent", "280"),
            ("succeeded", "266"),
            ("failed", "14"),
            ("success_rate", "0.95"),
            ("offered_per_second", "7.5"),
            ("queries_per_second", "6.65"),
            ("is_token_estimate", "true"),
            ("output_tokens_per_second_total", "665.5"),
            ("time_to_first_token_seconds_p50", "10.5"),
            ("time_to_first_token_seconds_p90", "11.5"),
            ("time_to_first_token_seconds_p99", "12.5"),
            ("time_per_output_token_seconds_p50", "20.5"),
            ("time_per_output_token_seconds_p90", "21.5"),
            ("time_per_output_token_seconds_p99", "22.5"),
            ("request_duration_seconds_p50", "30.5"),
            ("request_duration_seconds_p90", "31.5"),
            ("request_duration_seconds_p99", "32.5"),
        ];
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_step_that_does_not_count_has_its_state_instead_of_a_verdict() {
        let excluded = |step: StepReport| StepReport { verdict: None, ..step };
        let steps = vec![
            excluded(StepReport { unsettled: true, ..step() }),
            excluded(step()),
            excluded(StepReport { limit: Some("budgets".to_owned()), ..step() }),
        ];
        let csv = csv(&searched(steps));
        for (row, state) in [(1, "unsettled"), (2, "distorted"), (3, "limited")] {
            assert!(cells(&csv, row).contains(&("step_verdict", state)), "{csv}");
        }
    }

    #[test]
    fn a_cell_with_a_separator_a_quote_or_a_line_break_is_quoted() {
        let mut out = String::new();
        let cells = ["plain", "a,b", "a \"b\"", "a\nb", ""];
        add_record(&mut out, cells.map(str::to_owned).to_vec());
        assert_eq!(out, "plain,\"a,b\",\"a \"\"b\"\"\",\"a\nb\",\r\n");
    }
}
