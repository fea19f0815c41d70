//! The table of the targets, for the terminal, Markdown and HTML.

use super::{Column, FigureDifference, FigureValue, SideBySide, names};
use crate::check::numbers::percent;
use crate::measurement::printable;
use crate::report::comparison::{Change, change_text};
use crate::report::layout::Block;

impl SideBySide {
    /// The heading, the table and its explanation. `is_only` is true if the report has no other
    /// such table.
    pub(in crate::report) fn blocks(&self, is_only: bool) -> Vec<Block> {
        let heading = if is_only {
            "Side by side".to_owned()
        } else {
            let scenarios = self.columns.iter().map(|column| column.scenario.as_str());
            format!("Side by side: {}", names(scenarios))
        };
        let mut blocks = vec![Block::Heading { text: heading }];
        let first = self.columns.first().map(|column| &column.model);
        if self.columns.iter().any(|column| first != Some(&column.model)) {
            let names = self.columns.iter().map(|Column { target, model, .. }| {
                let model = if model.is_empty() { "unknown model" } else { model };
                format!("{target}: {model}")
            });
            blocks.push(Block::Line { text: names.collect::<Vec<_>>().join(" · ") });
        }
        blocks.push(self.table());
        blocks.extend(self.explanation().map(|text| Block::Line { text }));
        blocks
    }

    fn table(&self) -> Block {
        let mut columns = vec![String::new()];
        for (index, column) in self.columns.iter().enumerate() {
            columns.push(printable(&column.target, 64));
            if index > 0 {
                columns.push("difference".to_owned());
            }
        }
        let mut rows = Vec::new();
        for phase in &self.phases {
            // A row with one cell names the rows below it.
            rows.push(vec![phase.phase.clone()]);
            for figure in &phase.figures {
                let mut row = vec![figure.figure.label().to_owned()];
                for (index, FigureValue { value, difference }) in
                    figure.by_target.iter().enumerate()
                {
                    row.push(
                        value.map_or_else(|| "–".to_owned(), |value| figure.figure.show(value)),
                    );
                    if index > 0 {
                        row.push(difference.as_ref().map(cell).unwrap_or_default());
                    }
                }
                rows.push(row);
            }
        }
        let title = "Targets by phase".to_owned();
        // The names and the baseline target belong to every part.
        Block::WideTable { title, columns, rows, repeated: 2, together: 2 }
    }

    /// The judgements in the table, with their meaning. `None` without a difference.
    fn explanation(&self) -> Option<String> {
        let figures = self.phases.iter().flat_map(|phase| &phase.figures);
        let values = figures.flat_map(|figure| &figure.by_target);
        let differences: Vec<&FigureDifference> =
            values.filter_map(|value| value.difference.as_ref()).collect();
        let has = |change| differences.iter().any(|difference| difference.change == change);
        let tolerance = percent(self.tolerance);
        let mut parts = Vec::new();
        if has(Change::Worse) || has(Change::Better) {
            parts.push(format!("worse and better: significant and more than {tolerance}"));
        }
        if has(Change::Tolerated) {
            parts.push(format!("tolerated: significant, but at most {tolerance}"));
        }
        if has(Change::Unclear) {
            parts.push(format!("unclear: more than {tolerance}, but not significant"));
        }
        if has(Change::TooFew) {
            parts.push("too few: too few values for a test".to_owned());
        }
        let baseline = printable(&self.columns.first()?.target, 64);
        let pairs = if self.is_paired {
            "those of the means are over pairs of the same request"
        } else {
            "the targets got their requests in separate scenarios, so there are no pairs"
        };
        let first = format!("Differences from {baseline}; {pairs}");
        parts.insert(0, first);
        (!differences.is_empty()).then(|| parts.join("; "))
    }
}

/// A difference with its judgement: `worse +12.3 %`. A difference that is not significant and small
/// has no judgement.
fn cell(difference: &FigureDifference) -> String {
    let Some(ratio) = difference.ratio else { return String::new() };
    let text = change_text(ratio);
    match difference.change {
        Change::Worse => format!("worse {text}"),
        Change::Better => format!("better {text}"),
        Change::Tolerated => format!("tolerated {text}"),
        Change::Unclear => format!("unclear {text}"),
        Change::TooFew => format!("too few {text}"),
        Change::None | Change::NotJudged => text,
    }
}
