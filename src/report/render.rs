//! Renders a report as text for a terminal and as Markdown.

use std::fmt::Write as _;

use super::{Block, Report, blocks};

/// Renders a report for a terminal.
pub fn text(report: &Report) -> String {
    terminal("llmload run", &blocks(report))
}

/// Renders blocks for a terminal. The first line begins with `command`, then says whether the
/// command passed.
pub(super) fn terminal(command: &str, blocks: &[Block]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for block in blocks {
        match block {
            Block::Verdict { text, reasons, .. } => {
                wrapped(&mut out, "", &format!("{command} {text}"));
                for reason in reasons {
                    wrapped(&mut out, "  ✗ ", reason);
                }
            }
            Block::Heading { text } => _ = writeln!(out, "\n{text}"),
            Block::Line { text } => wrapped(&mut out, "  ", text),
            Block::Table { columns, rows, .. } => {
                out.push('\n');
                table(&mut out, columns, rows);
            }
            Block::Chart { .. } => {}
            Block::Facts { title, rows } => {
                let _ = writeln!(out, "\n{title}");
                let widest = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or(0);
                for (name, value) in rows {
                    let pad = " ".repeat(widest - name.chars().count());
                    wrapped(&mut out, &format!("  {name}{pad}  "), value);
                }
            }
            Block::Findings { all } => {
                out.push('\n');
                for (warning, text) in all {
                    wrapped(&mut out, if *warning { "! " } else { "· " }, text);
                }
            }
        }
    }
    out
}

/// The width of the text for a terminal, in columns.
const WIDTH: usize = 80;

/// Adds a text after a prefix, and wraps it at spaces. Further lines are indented by the width of
/// the prefix. A longer word stays in one piece, so that a reader can copy it.
fn wrapped(out: &mut String, prefix: &str, text: &str) {
    let indent = " ".repeat(prefix.chars().count());
    let (mut line, mut width, mut is_empty) = (prefix.to_owned(), indent.len(), true);
    for word in text.split(' ') {
        let length = word.chars().count();
        if !is_empty && width + 1 + length > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            (line, width, is_empty) = (indent.clone(), indent.len(), true);
        }
        if !is_empty {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += length;
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn table(out: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let wide = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(columns.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(wide).collect();
    // Names of phases can be long. They are cut, so that the values stay in their columns.
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    let first = widths.first().copied().unwrap_or(0);
    let first = first.min(WIDTH.saturating_sub(2 + others).max(SHORTEST_NAME));
    for row in std::iter::once(columns).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::from(" ");
        for (index, cell) in row.iter().enumerate() {
            let cell = if index == 0 { &cut(cell, first) } else { cell };
            let width = if index == 0 { first } else { widths.get(index).copied().unwrap_or(0) };
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let _ = if index == 0 {
                write!(line, " {cell}{pad}")
            } else {
                write!(line, "  {pad}{cell}")
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// The fewest characters of the first column.
const SHORTEST_NAME: usize = 12;

/// Shortens a text to a number of characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let start: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", start.trim_end())
}

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
