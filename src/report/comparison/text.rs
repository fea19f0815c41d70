//! A comparison as text for a terminal.

use super::super::layout::{Block, Fact};
use super::super::render;
use super::metrics::Metric;
use super::{Change, ComparedMetric, ComparedPhase, Comparison, Estimate, NewValue};
use crate::check::numbers::three_digits;
use crate::check::text::TextStyle;
use crate::report::Outcome;

impl Comparison {
    /// The comparison for a terminal. The text has at most 80 columns.
    pub fn text(&self, style: TextStyle) -> String {
        let mut blocks = vec![Block::Verdict {
            passed: self.result == Outcome::Passed,
            text: self.sentence(),
            reasons: self.reasons.iter().map(|reason| reason.text.clone()).collect(),
        }];
        if !self.notes.is_empty() {
            let all = self.notes.iter().map(|note| (true, note.clone())).collect();
            blocks.push(Block::Findings { all });
        }
        if self.runs.len() > 2 {
            let name = |index| if index == 0 { "base".to_owned() } else { run_name(index) };
            let rows = self.runs.iter().enumerate();
            blocks.push(Block::Facts {
                title: "Runs".to_owned(),
                rows: rows.map(|(index, run)| Fact::new(name(index), run)).collect(),
            });
        }
        for search in &self.searches {
            blocks.push(Block::Heading { text: search.heading() });
            blocks.push(Block::Table {
                title: "Compared with the base run".to_owned(),
                columns: self.columns(),
                rows: vec![search.row()],
            });
        }
        for phase in &self.phases {
            blocks.push(Block::Heading { text: phase.heading() });
            blocks.push(Block::Table {
                title: "Compared with the base run".to_owned(),
                columns: self.columns(),
                rows: phase.metrics.iter().map(row).collect(),
            });
        }
        render::styled("llmload compare", &blocks, style)
    }

    /// The columns of the table of a phase.
    pub(super) fn columns(&self) -> Vec<String> {
        if self.runs.len() == 2 {
            return ["", "base", "95 % CI", "new", "95 % CI", "change", ""]
                .map(str::to_owned)
                .to_vec();
        }
        let mut columns = vec![String::new(), "base".to_owned()];
        for index in 1..self.runs.len() {
            columns.extend([run_name(index), "change".to_owned(), String::new()]);
        }
        columns
    }
}

/// The name of a run in the table of several runs.
fn run_name(index: usize) -> String {
    format!("run {}", index + 1)
}

impl ComparedPhase {
    pub(super) fn heading(&self) -> String {
        if self.phase == self.load {
            format!("{} · {}", self.route, self.phase)
        } else {
            format!("{} · {} ({})", self.route, self.phase, self.load)
        }
    }
}

/// The row of a metric.
pub(super) fn row(compared: &ComparedMetric) -> Vec<String> {
    let metric = compared.metric;
    let value = |estimate: Option<Estimate>| {
        estimate.map_or_else(|| "–".to_owned(), |estimate| metric.show(estimate.value))
    };
    let mut cells = vec![compared.name.clone(), value(compared.base)];
    let has_intervals = compared.new.len() == 1;
    if has_intervals {
        cells.push(interval(metric, compared.base));
    }
    for new in &compared.new {
        cells.push(value(new.estimate));
        if has_intervals {
            cells.push(interval(metric, new.estimate));
        }
        cells.push(new.change_text().unwrap_or_else(|| "–".to_owned()));
        cells.push(judgement(new).to_owned());
    }
    cells
}

/// An interval in the unit of the value, without this unit: `7.27–7.91`.
fn interval(metric: Metric, estimate: Option<Estimate>) -> String {
    let Some(Estimate { value, low: Some(low), high: Some(high) }) = estimate else {
        return String::new();
    };
    let value = metric.show(value);
    let number = |number: f64| match value.split_once(' ').map(|(_, unit)| unit) {
        None | Some("s") => three_digits(number),
        Some("ms") => three_digits(number * 1e3),
        Some("µs") => three_digits(number * 1e6),
        // Percentages and long durations.
        Some(_) => metric.show(number).trim_end_matches(" %").to_owned(),
    };
    format!("{}–{}", number(low), number(high))
}

pub(super) fn judgement(value: &NewValue) -> &'static str {
    judgement_of(value.change)
}

pub(super) fn judgement_of(change: Change) -> &'static str {
    match change {
        Change::Worse => "worse",
        Change::Better => "better",
        Change::Tolerated => "tolerated",
        Change::Unclear => "unclear",
        Change::None => "no change",
        Change::TooFew => "too few",
        Change::NotJudged => "–",
    }
}
