//! A comparison as Markdown for a comment in a pull request: the verdict, the changes, and the
//! details in folded sections.

use std::fmt::Write as _;

use super::super::markdown::{escaped, table};
use super::text::{judgement, row};
use super::{Change, Comparison};

impl Comparison {
    /// The comparison as Markdown.
    pub fn markdown(&self) -> String {
        // Writing to a string cannot fail.
        let mut out = format!("### llmload compare {}\n\n", escaped(&self.sentence()));
        for reason in &self.reasons {
            let _ = writeln!(out, "- {}", escaped(&reason.text));
        }
        if !self.reasons.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "> {}  ", escaped(note));
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        let changed = self.changed();
        if !changed.is_empty() {
            let run = if self.runs.len() > 2 { "run" } else { "new" };
            let columns = ["phase", "metric", "base", run, "change", ""].map(str::to_owned);
            table(&mut out, &columns, &changed);
        }
        for search in &self.searches {
            let _ = writeln!(out, "{}\n", escaped(&search.heading()));
            table(&mut out, &self.columns(), &[search.row()]);
        }
        for phase in &self.phases {
            let heading = escaped(&phase.heading());
            let _ = writeln!(out, "<details><summary>{heading}</summary>\n");
            let rows: Vec<Vec<String>> = phase.metrics.iter().map(row).collect();
            table(&mut out, &self.columns(), &rows);
            out.push_str("</details>\n\n");
        }
        if self.runs.len() > 2 {
            for (index, run) in self.runs.iter().enumerate() {
                let _ = writeln!(out, "- run {}: {}", index + 1, escaped(run));
            }
        }
        out
    }

    /// A row for each significant change.
    fn changed(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for phase in &self.phases {
            for metric in &phase.metrics {
                for (index, value) in metric.new.iter().enumerate() {
                    let (Some(base), Some(new)) = (metric.base, value.estimate) else { continue };
                    if !matches!(value.change, Change::Worse | Change::Better) {
                        continue;
                    }
                    let run = match metric.new.len() {
                        1 => String::new(),
                        _ => format!(" (run {})", index + 2),
                    };
                    rows.push(vec![
                        phase.place(),
                        metric.name.clone(),
                        metric.metric.show(base.value),
                        format!("{}{run}", metric.metric.show(new.value)),
                        value.change_text().unwrap_or_default(),
                        judgement(value).to_owned(),
                    ]);
                }
            }
        }
        rows
    }
}
