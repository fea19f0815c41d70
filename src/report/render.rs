//! Renders a report as text for a terminal.

use std::fmt::Write as _;

use super::layout::Fact;
use super::{Block, Report, blocks, verdict};
use crate::check::text::{NO_BREAK, TextStyle, cut, cut_apart, width, with_units_kept};

/// Renders a report for a terminal or a file, without colours.
pub fn text(report: &Report) -> String {
    styled(command(report), &blocks(report), PLAIN)
}

/// Renders a report for a terminal. The text has at most 80 columns, also on a wider terminal.
pub fn styled_text(report: &Report, style: TextStyle) -> String {
    styled(command(report), &blocks(report), style)
}

/// The command that gave a report.
pub(super) fn command(report: &Report) -> &'static str {
    if verdict::is_only_search(&report.routes) { "llmload capacity" } else { "llmload run" }
}

/// Renders blocks for a terminal. The first line begins with `command`, then says whether the
/// command passed.
pub(super) fn styled(command: &str, blocks: &[Block], style: TextStyle) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for block in blocks {
        match block {
            Block::Verdict { passed, text, reasons } => {
                let mut lines = String::new();
                wrapped(&mut lines, "", &format!("{command} {text}"));
                let lines = lines.trim_end();
                let lines = match (passed, text.starts_with("invalid")) {
                    (true, _) => style.green(lines),
                    (false, true) => style.yellow(lines),
                    (false, false) => style.red(lines),
                };
                let _ = writeln!(out, "{}", style.bold(lines));
                for reason in reasons {
                    let start = out.len();
                    wrapped(&mut out, "  ✗ ", reason);
                    paint_sign(&mut out, start, "✗", &style.red("✗"));
                }
            }
            Block::Heading { text } => _ = writeln!(out, "\n{}", style.bold(text)),
            Block::Line { text } => wrapped(&mut out, "  ", text),
            Block::Table { columns, rows, .. } => {
                out.push('\n');
                table(&mut out, columns, rows, style);
            }
            Block::WideTable { columns, rows, repeated, together, .. } => {
                for (columns, rows) in parts(columns, rows, *repeated, *together) {
                    out.push('\n');
                    table(&mut out, &columns, &rows, style);
                }
            }
            Block::Chart { .. } => {}
            Block::Facts { title, rows } => {
                let _ = writeln!(out, "\n{}", style.bold(title));
                let widest = rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
                for Fact { name, value, .. } in rows {
                    let pad = " ".repeat(widest - width(name));
                    wrapped(&mut out, &format!("  {name}{pad}  "), value);
                }
            }
            Block::Findings { all } => {
                out.push('\n');
                for (warning, text) in all {
                    let start = out.len();
                    wrapped(&mut out, if *warning { "! " } else { "· " }, text);
                    paint_sign(&mut out, start, "!", &style.yellow("!"));
                }
            }
        }
    }
    out
}

/// The width of the text for a terminal, in columns.
const WIDTH: usize = 80;
const PLAIN: TextStyle = TextStyle { width: WIDTH, colours: false };

/// Adds a text after a prefix, and wraps it at spaces. Further lines are indented by the width of
/// the prefix. A longer word stays in one piece, so that a reader can copy it.
fn wrapped(out: &mut String, prefix: &str, text: &str) {
    let indent = " ".repeat(width(prefix));
    let (mut line, mut columns, mut is_empty) = (prefix.to_owned(), indent.len(), true);
    for word in with_units_kept(text).split(' ') {
        let word = word.replace(NO_BREAK, " ");
        let length = width(&word);
        if !is_empty && columns + 1 + length > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            (line, columns, is_empty) = (indent.clone(), indent.len(), true);
        }
        if !is_empty {
            line.push(' ');
            columns += 1;
        }
        line.push_str(&word);
        columns += length;
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// Replaces the first `sign` of the text after `start`, if this text begins with the sign.
fn paint_sign(out: &mut String, start: usize, sign: &str, painted: &str) {
    let Some(added) = out.get(start..) else { return };
    if added.trim_start().starts_with(sign) {
        let at = start + added.len() - added.trim_start().len();
        out.replace_range(at..at + sign.len(), painted);
    }
}

/// The most columns of the name of a column in a wide table.
const LONGEST_COLUMN: usize = 22;

/// Divides a table into parts that fit the width. The first `repeated` columns are in each part,
/// and each `together` of the other columns stay beside each other.
fn parts(
    columns: &[String],
    rows: &[Vec<String>],
    repeated: usize,
    together: usize,
) -> Vec<(Vec<String>, Vec<Vec<String>>)> {
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let columns = cut_apart(&columns, LONGEST_COLUMN);
    let widths = widths(&columns, rows);
    let wide = |range: std::ops::Range<usize>| -> usize {
        widths.get(range).unwrap_or_default().iter().map(|width| width + 2).sum()
    };
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for start in (repeated..columns.len()).step_by(together.max(1)) {
        let end = (start + together).min(columns.len());
        match ranges.last_mut() {
            Some(last) if wide(0..repeated) + wide(last.start..end) <= WIDTH => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    let part = |range: std::ops::Range<usize>| {
        let of = |cells: &[String]| {
            let chosen = cells.iter().enumerate();
            let chosen = chosen.filter(|(index, _)| *index < repeated || range.contains(index));
            chosen.map(|(_, cell)| cell.clone()).collect::<Vec<_>>()
        };
        (of(&columns), rows.iter().map(|row| of(row)).collect())
    };
    ranges.into_iter().map(part).collect()
}

/// The widths of the columns. A row with one cell names the rows below it and is in no column.
fn widths(columns: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let wide = |index: usize| {
        let rows = rows.iter().filter(|row| row.len() > 1);
        let cells = rows.filter_map(|row| row.get(index)).chain(columns.get(index));
        cells.map(|cell| width(cell)).max().unwrap_or(0)
    };
    (0..columns.len()).map(wide).collect()
}

fn table(out: &mut String, columns: &[String], rows: &[Vec<String>], style: TextStyle) {
    let widths = widths(columns, rows);
    // Names of phases can be long. They are cut, so that the values stay in their columns.
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    let first = widths.first().copied().unwrap_or(0);
    let first = first.min(WIDTH.saturating_sub(2 + others).max(SHORTEST_NAME));
    let rows = std::iter::once((columns, true)).chain(rows.iter().map(|row| (&row[..], false)));
    let rows: Vec<_> = rows.collect();
    let names = rows.iter().map(|row| row.0.first().map_or("", String::as_str));
    let names = cut_apart(&names.collect::<Vec<_>>(), first);
    for ((row, is_header), name) in rows.into_iter().zip(&names) {
        if let ([name], false) = (row, is_header) {
            let _ = writeln!(out, "\n  {}", style.bold(cut(name, WIDTH - 2)));
            continue;
        }
        let mut line = String::from(" ");
        for (index, cell) in row.iter().enumerate() {
            let cell = if index == 0 { name } else { cell };
            let column = if index == 0 { first } else { widths.get(index).copied().unwrap_or(0) };
            let pad = " ".repeat(column.saturating_sub(width(cell)));
            let _ = match (index, is_header) {
                (0, _) => write!(line, " {cell}{pad}"),
                (_, true) => write!(line, "  {pad}{cell}"),
                (_, false) => write!(line, "  {pad}{}", painted(cell, style)),
            };
        }
        let line = line.trim_end();
        let _ = writeln!(out, "{}", if is_header { style.bold(line) } else { line.to_owned() });
    }
}

/// Colours a cell that contains a result: `met 45 ms`, `missed 2.02 s`, `worse`, `unclear`.
fn painted(cell: &str, style: TextStyle) -> String {
    match cell.split(' ').next() {
        Some("met" | "better") => style.green(cell),
        Some("missed" | "worse") => style.red(cell),
        Some("met?" | "missed?" | "unclear") => style.yellow(cell),
        _ => cell.to_owned(),
    }
}

/// The fewest columns of the first cell.
const SHORTEST_NAME: usize = 12;
