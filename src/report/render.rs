//! Renders a report as text for a terminal and as Markdown.

use std::fmt::Write as _;

use super::{Block, Report, blocks, verdict};
use crate::check::text::{TextStyle, cut, width};

/// Renders a report for a terminal or a file, without colours.
pub fn text(report: &Report) -> String {
    styled(command(report), &blocks(report), PLAIN)
}

/// Renders a report for a terminal. The text has at most 80 columns, also on a wider terminal.
pub fn styled_text(report: &Report, style: TextStyle) -> String {
    styled(command(report), &blocks(report), style)
}

fn command(report: &Report) -> &'static str {
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
            Block::Chart { .. } => {}
            Block::Facts { title, rows } => {
                let _ = writeln!(out, "\n{}", style.bold(title));
                let widest = rows.iter().map(|row| width(&row.0)).max().unwrap_or(0);
                for (name, value) in rows {
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
    for word in text.split(' ') {
        let length = width(word);
        if !is_empty && columns + 1 + length > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            (line, columns, is_empty) = (indent.clone(), indent.len(), true);
        }
        if !is_empty {
            line.push(' ');
            columns += 1;
        }
        line.push_str(word);
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

fn table(out: &mut String, columns: &[String], rows: &[Vec<String>], style: TextStyle) {
    let wide = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(columns.get(index));
        cells.map(|cell| width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(wide).collect();
    // Names of phases can be long. They are cut, so that the values stay in their columns.
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    let first = widths.first().copied().unwrap_or(0);
    let first = first.min(WIDTH.saturating_sub(2 + others).max(SHORTEST_NAME));
    let rows = std::iter::once((columns, true)).chain(rows.iter().map(|row| (&row[..], false)));
    for (row, is_header) in rows {
        let mut line = String::from(" ");
        for (index, cell) in row.iter().enumerate() {
            let cell = if index == 0 { &cut(cell, first) } else { cell };
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
        Some("met?" | "unclear") => style.yellow(cell),
        _ => cell.to_owned(),
    }
}

/// The fewest columns of the first cell.
const SHORTEST_NAME: usize = 12;

/// Renders a report as Markdown, for a pull request or a wiki.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for block in blocks(report) {
        match block {
            Block::Verdict { passed, text, reasons } => {
                let _ = writeln!(
                    out,
                    "# {} llmload run {}\n",
                    if passed { "✅" } else { "❌" },
                    escaped(&text)
                );
                for reason in &reasons {
                    let _ = writeln!(out, "- {}", escaped(reason));
                }
                if !reasons.is_empty() {
                    out.push('\n');
                }
            }
            Block::Heading { text } => _ = writeln!(out, "## {}\n", escaped(&text)),
            Block::Line { text } => _ = writeln!(out, "{}\n", escaped(&text)),
            Block::Table { title, columns, rows } => {
                let _ = writeln!(out, "### {title}\n");
                let row = |cells: &[String]| {
                    let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
                    format!("| {} |", cells.join(" | "))
                };
                let _ = writeln!(out, "{}", row(&columns));
                let _ = writeln!(out, "|---{}|", "|---:".repeat(columns.len() - 1));
                for cells in &rows {
                    let _ = writeln!(out, "{}", row(cells));
                }
                out.push('\n');
            }
            Block::Chart { .. } => {}
            Block::Facts { title, rows } => {
                let _ = writeln!(out, "## {title}\n\n| | |\n|---|---|");
                for (name, value) in &rows {
                    let _ = writeln!(out, "| {} | {} |", escaped(name), escaped(value));
                }
                out.push('\n');
            }
            Block::Findings { all } => {
                out.push_str("## Findings\n\n");
                for (warning, text) in &all {
                    let _ =
                        writeln!(out, "- {}{}", if *warning { "⚠️ " } else { "" }, escaped(text));
                }
            }
        }
    }
    out
}

/// Escapes Markdown and HTML, because a report contains messages of servers and configured names.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '!' => out.extend(['\\', character]),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
