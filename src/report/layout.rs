//! What a report says, and in which order: once, for paper of every kind.

use serde::Serialize;

use super::chart::{self, Line};
use super::findings::Severity;
use super::{Figures, Load, MeanDifference, Report, Summary};
use crate::check::numbers::{count, duration, percent, three_digits};

/// A part of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Block {
    /// Whether it passed.
    Verdict {
        /// Whether it did.
        passed: bool,
        /// That, in words.
        words: String,
        /// Why not.
        reasons: Vec<String>,
    },
    /// What follows is about this.
    Heading {
        /// This.
        words: String,
    },
    /// A paragraph.
    Line {
        /// Its text.
        words: String,
    },
    /// A table whose first column names the rows.
    Table {
        /// What it shows.
        title: String,
        /// The names of its columns.
        columns: Vec<String>,
        /// Its cells.
        rows: Vec<Vec<String>>,
    },
    /// A drawing, where there is something to draw on.
    Chart {
        /// What it shows.
        title: String,
        /// Scalable vector graphics.
        svg: String,
        /// What each line is: its class and name.
        legend: Vec<(String, String)>,
    },
    /// What a reader should know.
    Findings {
        /// Whether it is a warning, and the words.
        all: Vec<(bool, String)>,
    },
}

/// All of a report.
pub fn layout(report: &Report) -> Vec<Block> {
    let mut blocks = vec![verdict(report)];
    let line = |words: String| Block::Line { words };
    blocks.push(line(format!(
        "llmload {} · {} · {} in all · seed {}",
        report.version,
        report.started,
        duration(report.seconds),
        report.seed
    )));
    for load in &report.streams {
        let simulated = if load.simulated { " (the built-in simulator)" } else { "" };
        blocks.push(Block::Heading { words: load.stream() });
        blocks.push(line(format!("{} at {}{simulated}", load.model, load.address)));
        blocks.push(line(ledger(load)));
        blocks.extend(latencies(&load.total));
        blocks.push(throughput(&load.total));
        blocks.extend(objectives(load));
        blocks.extend(phases(load));
        blocks.extend(difference(load).map(line));
        blocks.extend(charts(load));
    }
    if !report.findings.is_empty() {
        let all = report.findings.iter();
        let all = all
            .map(|finding| (finding.severity == Severity::Warning, finding.words.clone()))
            .collect();
        blocks.push(Block::Findings { all });
    }
    blocks
}

fn verdict(report: &Report) -> Block {
    let judged = report.streams.iter().any(|load| !load.slo.is_empty());
    let words = match (report.verdict.passed, judged) {
        (true, true) => "passed: every objective was met",
        (true, false) => "passed: nothing speaks against the figures; no `slo` was asked for",
        (false, _) => "failed",
    };
    Block::Verdict {
        passed: report.verdict.passed,
        words: words.to_owned(),
        reasons: report.verdict.reasons.clone(),
    }
}

/// Where every arrival went, in a sentence.
fn ledger(load: &Load) -> String {
    fn parts(counts: &std::collections::BTreeMap<String, u64>) -> String {
        let all: Vec<_> =
            counts.iter().map(|(name, number)| format!("{name} {}", whole(*number))).collect();
        if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
    }
    let ledger = &load.ledger;
    let mut words = format!(
        "{} arrivals = {} sent + {} dropped{} · {} finished = {} succeeded + {} failed{}",
        whole(ledger.arrivals),
        whole(ledger.started),
        whole(ledger.not_sent()),
        parts(&ledger.dropped),
        whole(ledger.finished),
        whole(ledger.succeeded),
        whole(ledger.not_succeeded()),
        parts(&ledger.failed),
    );
    let aborted: u64 = ledger.aborted.values().sum();
    if aborted > 0 {
        let cut = format!(" · {} cut off{}", whole(aborted), parts(&ledger.aborted));
        words.push_str(&cut);
    }
    words
}

fn latencies(figures: &Figures) -> Option<Block> {
    let rows = [
        ("TTFT", &figures.time_to_first_token_seconds, true),
        ("TTFT from schedule", &figures.time_to_first_token_from_schedule_seconds, true),
        ("TPOT", &figures.time_per_output_token_seconds, true),
        ("gap between chunks", &figures.inter_chunk_latency_seconds, true),
        ("request duration", &figures.request_duration_seconds, true),
        ("output tokens/s of each", &figures.output_tokens_per_second, false),
    ];
    let cells = |(name, summary, time): (&str, &Summary, bool)| {
        let Summary { mean, p50, p90, p95, p99, max, count, .. } = *summary;
        let mut row = vec![name.to_owned()];
        let show = |value: Option<f64>| shown(value, if time { duration } else { three_digits });
        row.extend([mean, p50, p90, p95, p99, max].map(show));
        row.push(whole(count));
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

fn throughput(figures: &Figures) -> Block {
    let three = |value| shown(value, three_digits);
    let rows = [
        ("queries/s (QPS)", three(figures.queries_per_second)),
        ("success rate", shown(figures.success_rate, percent)),
        ("timeouts", shown(figures.timeout_rate, percent)),
        ("requests in flight, mean", three(figures.requests_in_flight)),
        ("output tokens/s of all requests", three(figures.output_tokens_per_second_total)),
        (
            "output tokens / duration, TTFT included",
            three(figures.output_tokens_per_request_second),
        ),
        ("input tokens", whole(figures.input_tokens)),
        ("output tokens", whole(figures.output_tokens)),
    ];
    Block::Table {
        title: "All together, from the first arrival to the last end".to_owned(),
        columns: vec![String::new(), format!("in {}", duration(figures.seconds))],
        rows: rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec(),
    }
}

fn objectives(load: &Load) -> Option<Block> {
    let rows = load.slo.iter().map(|objective| {
        #[allow(clippy::cast_precision_loss)]
        let few = (objective.of as f64) * (1.0 - objective.share) < 1.0 && objective.share < 1.0;
        #[allow(clippy::cast_precision_loss)]
        let met = (objective.of > 0).then(|| objective.met as f64 / objective.of as f64);
        let verdict = match (objective.passed, few) {
            (false, _) => "missed",
            (true, true) => "met, by too few to be sure",
            (true, false) => "met",
        };
        vec![
            objective.goal(),
            verdict.to_owned(),
            shown(met, percent),
            percent(objective.share),
            format!("{} of {}", whole(objective.met), whole(objective.of)),
        ]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| Block::Table {
        title: "Objectives".to_owned(),
        columns: ["", "", "within", "wanted", "requests"].map(str::to_owned).to_vec(),
        rows,
    })
}

fn phases(load: &Load) -> Option<Block> {
    let columns = [
        "",
        "sent",
        "dropped",
        "success",
        "QPS",
        "in flight",
        "TTFT p50",
        "p99",
        "TPOT p50",
        "p99",
        "tokens/s",
    ];
    let row = |phase: &super::Phase| {
        let figures = &phase.figures;
        let (first, per) =
            (&figures.time_to_first_token_seconds, &figures.time_per_output_token_seconds);
        vec![
            phase.name.clone(),
            whole(figures.sent),
            whole(figures.dropped),
            shown(figures.success_rate, percent),
            shown(figures.queries_per_second, three_digits),
            shown(figures.requests_in_flight, three_digits),
            shown(first.p50, duration),
            shown(first.p99, duration),
            shown(per.p50, duration),
            shown(per.p99, duration),
            shown(figures.output_tokens_per_second_total, three_digits),
        ]
    };
    (load.phases.len() > 1).then(|| Block::Table {
        title: "By phase".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: load.phases.iter().map(row).collect(),
    })
}

fn difference(load: &Load) -> Option<String> {
    let difference = load.difference.as_ref()?;
    let words = |name: &str, difference: Option<MeanDifference>| {
        let MeanDifference { mean_seconds: mean, margin_seconds: margin } = difference?;
        let way = if mean < 0.0 { "sooner" } else { "later" };
        let sure = match margin {
            None => "too few pairs to be sure".to_owned(),
            Some(margin) if margin >= mean.abs() => {
                return Some(format!("{name}: no clear difference"));
            }
            Some(margin) => format!("± {} with 95 % confidence", duration(margin)),
        };
        Some(format!("{name} {} {way} ({sure})", duration(mean.abs())))
    };
    let both = [
        words("first token", difference.time_to_first_token),
        words("end", difference.request_duration),
    ];
    let both: Vec<_> = both.into_iter().flatten().collect();
    let pairs = whole(difference.pairs);
    Some(format!(
        "Against the first target, over {pairs} pairs of the same request: {}",
        both.join(", ")
    ))
}

#[allow(clippy::cast_precision_loss)]
fn charts(load: &Load) -> Vec<Block> {
    let timeline = &load.timeline;
    if timeline.arrivals.len() < 2 || timeline.interval_seconds <= 0.0 {
        return Vec::new();
    }
    let rates = |counts: &[u64]| -> Vec<Option<f64>> {
        counts.iter().map(|count| Some(*count as f64 / timeline.interval_seconds)).collect()
    };
    let lost: Vec<u64> = timeline
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
    let of_rates = vec![
        line("arrivals", "arrivals/s", rates(&timeline.arrivals)),
        line("succeeded", "successes/s", rates(&timeline.succeeded)),
        line("failed", "failed or dropped/s", rates(&lost)),
    ];
    let mut charts = vec![chart("Requests", three_digits, of_rates)];
    let (p50, max) =
        (&timeline.time_to_first_token_p50_seconds, &timeline.time_to_first_token_max_seconds);
    if p50.iter().any(Option::is_some) {
        let of_times =
            vec![line("middle", "median", p50.clone()), line("greatest", "greatest", max.clone())];
        charts.push(chart("Time to first token", duration, of_times));
    }
    charts
}

fn shown(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

#[allow(clippy::cast_precision_loss)]
fn whole(number: u64) -> String {
    count(number as f64)
}
