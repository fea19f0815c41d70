//! A layout on three kinds of paper: a terminal, Markdown, and a page that needs nothing else.

use std::fmt::Write as _;

use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::{Block, Report, layout};

/// The page could not be made: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the page of the report could not be made: {0}; please report this")]
pub struct Broken(#[from] minijinja::Error);

const PAGE: &str = include_str!("page.html");

/// For a terminal.
pub fn text(report: &Report) -> String {
    on_a_terminal("llmload run", &layout(report))
}

/// Any blocks; `what` is what passed or failed.
pub(super) fn on_a_terminal(what: &str, blocks: &[Block]) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    for block in blocks {
        match block {
            Block::Verdict { words, reasons, .. } => {
                let _ = writeln!(out, "{what} {words}");
                for reason in reasons {
                    let _ = writeln!(out, "  ✗ {reason}");
                }
            }
            Block::Heading { words } => _ = writeln!(out, "\n{words}"),
            Block::Line { words } => _ = writeln!(out, "  {words}"),
            Block::Table { columns, rows, .. } => {
                out.push('\n');
                table(&mut out, columns, rows);
            }
            Block::Chart { .. } => {}
            Block::Findings { all } => {
                out.push('\n');
                for (warning, words) in all {
                    let _ = writeln!(out, "{} {words}", if *warning { "!" } else { "·" });
                }
            }
        }
    }
    out
}

fn table(out: &mut String, columns: &[String], rows: &[Vec<String>]) {
    let wide = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(columns.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in std::iter::once(columns).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::from(" ");
        for (index, cell) in row.iter().enumerate() {
            let pad = " ".repeat(wide(index) - cell.chars().count());
            let _ = if index == 0 {
                write!(line, " {cell}{pad}")
            } else {
                write!(line, "  {pad}{cell}")
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// For a comment on a change, or a wiki.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for block in layout(report) {
        match block {
            Block::Verdict { passed, words, reasons } => {
                let _ = writeln!(
                    out,
                    "# {} llmload run {}\n",
                    if passed { "✅" } else { "❌" },
                    marked(&words)
                );
                for reason in &reasons {
                    let _ = writeln!(out, "- {}", marked(reason));
                }
                if !reasons.is_empty() {
                    out.push('\n');
                }
            }
            Block::Heading { words } => _ = writeln!(out, "## {}\n", marked(&words)),
            Block::Line { words } => _ = writeln!(out, "{}\n", marked(&words)),
            Block::Table { title, columns, rows } => {
                let _ = writeln!(out, "### {title}\n");
                let row = |cells: &[String]| {
                    let cells: Vec<_> = cells.iter().map(|cell| marked(cell)).collect();
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
            Block::Findings { all } => {
                out.push_str("## To know\n\n");
                for (warning, words) in &all {
                    let _ =
                        writeln!(out, "- {}{}", if *warning { "⚠️ " } else { "" }, marked(words));
                }
            }
        }
    }
    out
}

/// Text from outside does not become markup.
fn marked(text: &str) -> String {
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

/// A page of its own: no script, nothing fetched.
///
/// # Errors
/// If the template is broken.
pub fn html(report: &Report) -> Result<String, Broken> {
    #[derive(Serialize)]
    struct Page<'a> {
        passed: bool,
        config: &'a str,
        blocks: Vec<Block>,
    }
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = minijinja::value::Serde(Page {
        passed: report.verdict.passed,
        config: &report.config,
        blocks: layout(report),
    });
    Ok(environment.render_str(PAGE, page)?)
}
