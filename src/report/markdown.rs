//! Renders a report as Markdown, for a pull request or a wiki.

use std::fmt::Write as _;

use super::layout::Fact;
use super::{Block, Outcome, Report, blocks, render};

/// Renders a report as Markdown, for a pull request or a wiki.
pub fn markdown(report: &Report) -> String {
    let sign = match report.verdict.result {
        Outcome::Passed => "✅",
        Outcome::Failed => "❌",
        Outcome::Invalid => "⚠️",
    };
    let mut out = String::new();
    // Writing to a string cannot fail.
    for block in blocks(report) {
        match block {
            Block::Verdict { text, reasons, .. } => {
                let command = render::command(report);
                let _ = writeln!(out, "# {sign} {command} {}\n", escaped(&text));
                list(&mut out, reasons.iter().map(|reason| inline(reason, Place::Text)));
            }
            Block::Heading { text } => _ = writeln!(out, "## {}\n", escaped(&text)),
            Block::Line { text } => _ = writeln!(out, "{}\n", inline(&text, Place::Text)),
            Block::Table { title, columns, rows }
            | Block::WideTable { title, columns, rows, .. } => {
                let _ = writeln!(out, "### {}\n", escaped(&title));
                table(&mut out, &columns, &rows);
            }
            Block::Chart { .. } => {}
            Block::Facts { title, rows } => {
                let _ = writeln!(out, "## {}\n\n| | |\n|---|---|", escaped(&title));
                for Fact { name, value, is_code } in &rows {
                    let value = if *is_code {
                        code(value, Place::Table)
                    } else {
                        inline(value, Place::Table)
                    };
                    let _ = writeln!(out, "| {} | {value} |", escaped(name));
                }
                out.push('\n');
            }
            Block::Findings { all } => {
                out.push_str("## Findings\n\n");
                let all = all.iter().map(|(warning, text)| {
                    let sign = if *warning { "⚠️ " } else { "" };
                    format!("{sign}{}", inline(text, Place::Text))
                });
                list(&mut out, all);
            }
        }
    }
    // One blank line less than between two blocks.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Adds a list and the blank line after it. Without this line, a heading would be a part of the
/// last entry for some readers.
fn list(out: &mut String, entries: impl Iterator<Item = String>) {
    let start = out.len();
    for entry in entries {
        let _ = writeln!(out, "- {entry}");
    }
    if out.len() > start {
        out.push('\n');
    }
}

/// Adds a table whose first column names the rows. A row with one cell names the rows below it.
pub(super) fn table(out: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let _ = writeln!(out, "{}", line(columns));
    let _ = writeln!(out, "|---{}|", "|---:".repeat(columns.len().saturating_sub(1)));
    for cells in rows {
        let _ = match cells.as_slice() {
            [name] => {
                let others = "  |".repeat(columns.len().saturating_sub(1));
                writeln!(out, "| **{}** |{others}", escaped(name))
            }
            cells => writeln!(out, "{}", line(cells)),
        };
    }
    out.push('\n');
}

/// The place of a text. In a table, a pipe would end a cell, also in code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Table,
}

/// Escapes a text. A part between two backticks becomes code.
fn inline(text: &str, place: Place) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        out += &escaped(before);
        rest = match after.split_once('`') {
            Some((inner, behind)) if inner.trim().is_empty() => {
                let _ = write!(out, "\\`{inner}\\`");
                behind
            }
            Some((inner, behind)) => {
                out += &code(inner, place);
                behind
            }
            None => {
                out += "\\`";
                after
            }
        };
    }
    out + &escaped(rest)
}

/// Returns a code span. Its delimiters are longer than any sequence of backticks in the text.
fn code(text: &str, place: Place) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    let text = text.replace(['\n', '\r'], " ");
    let text = if place == Place::Table { text.replace('|', "\\|") } else { text };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Escapes Markdown and HTML, because a report contains messages of servers and configured names.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut last = ' ';
    while let Some(character) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // Within a word, an underscore is only an underscore.
            '_' if last.is_alphanumeric() && next.is_alphanumeric() => out.push('_'),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '~' => out.extend(['\\', character]),
            // Without brackets behind it, it begins no image.
            '!' if next != '[' => out.push('!'),
            '!' => out.push_str("\\!"),
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
        last = character;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_between_backticks_is_code_and_any_other_text_has_no_markup() {
        for (text, expected) in [
            ("set `slo` to 1", "set `slo` to 1"),
            ("run `a 'b<1s, c>2' | d` now <b>", "run `a 'b<1s, c>2' | d` now &lt;b&gt;"),
            ("one ` and *two*", "one \\` and \\*two\\*"),
            ("` ` and ``", "\\` \\` and \\`\\`"),
            ("success_rate __b__ ![x](y) no!", "success_rate \\_\\_b\\_\\_ \\!\\[x\\](y) no!"),
        ] {
            assert_eq!(inline(text, Place::Text), expected);
        }
        assert_eq!(inline("`a | b` | c", Place::Table), "`a \\| b` \\| c");
        assert_eq!(code("say ``hi``", Place::Text), "``` say ``hi`` ```");
    }
}
