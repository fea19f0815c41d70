//! The HTML page of a report: one file without scripts and without external resources. It is
//! readable on a phone, on a dark screen and on paper.

use std::fmt::Write as _;

use minijinja::{AutoEscape, Environment, Value};
use serde::Serialize;

use super::charts::escaped;
use super::{Block, Outcome, Report, blocks, headline, tables};
use crate::check::text::with_units_kept;

/// The error if the HTML page cannot be rendered. This would be a defect of llmload.
#[derive(Debug, thiserror::Error)]
#[error("the HTML report could not be rendered: {0}; please report this")]
pub struct RenderError(#[from] minijinja::Error);

/// The most reasons beside the headline. The others are below the details.
const MOST_REASONS: usize = 6;

/// The abbreviations, for a reader who has only this page.
const TERMS: &str = "QPS = successful requests per second · latency = time from sending a request to \
                     the end of its response · P99 = 99 % of the latencies are at most this high · \
                     TPS = output tokens per second of one request · TTFT = time to first token · \
                     TPOT = time per output token after the first";

const PAGE: &str = include_str!("page.html");

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    /// A CSS class.
    outcome: &'static str,
    headline: String,
    /// The title of the run, if it has one.
    name: Option<&'a str>,
    models: Vec<String>,
    date: String,
    /// The first reasons of the verdict.
    reasons: Vec<&'a str>,
    /// The other reasons.
    more_reasons: Vec<&'a str>,
    /// The blocks of a report. Charts that follow each other are one part.
    parts: Vec<Vec<Block>>,
    config: &'a str,
}

/// Renders a report as an HTML page without scripts and without external resources.
///
/// # Errors
/// If the template cannot be rendered.
pub fn html(report: &Report) -> Result<String, RenderError> {
    let outcome = match report.verdict.result {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Invalid => "invalid",
    };
    let date = headline::date_in_words(&report.started);
    let subject = headline::subject(report);
    // The headline of the page contains the verdict, and the model of the only route.
    let is_shown = |block: &Block| match block {
        Block::Verdict { .. } => false,
        Block::Heading { .. } => report.routes.len() > 1,
        _ => true,
    };
    let mut blocks: Vec<Block> = blocks(report).into_iter().filter(is_shown).collect();
    let is_first_table =
        |block: &Block| matches!(block, Block::Table { title, .. } if title == tables::LEVELS);
    if let Some(first) = blocks.iter().position(is_first_table) {
        blocks.insert(first + 1, Block::Line { text: TERMS.to_owned() });
    }
    let is_chart = |block: &Block| matches!(block, Block::Chart { .. });
    let parts = blocks.chunk_by(|one, next| is_chart(one) && is_chart(next));
    let mut reasons: Vec<&str> =
        report.verdict.reasons.iter().map(|reason| reason.text.as_str()).collect();
    // A single reason takes no more space than the sentence about it.
    let first = if reasons.len() > MOST_REASONS + 1 { MOST_REASONS } else { reasons.len() };
    let more_reasons = reasons.split_off(first);
    let page = Page {
        title: format!("Load test of {subject}, {date}: {outcome}"),
        outcome,
        headline: headline::headline(report),
        name: report.tested.title.as_deref(),
        models: headline::models(report),
        date,
        reasons,
        more_reasons,
        parts: parts.map(<[Block]>::to_vec).collect(),
        config: &report.config,
    };
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("inline", |text: String| Value::from_safe_string(inline(&text)));
    Ok(environment.render_str(PAGE, minijinja::value::Serde(page))?)
}

/// Escapes a text for HTML. A part between two backticks becomes code, and no line ends between a
/// number and its unit.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        let Some((inner, behind)) = after.split_once('`') else { break };
        out += &escaped(&with_units_kept(before));
        // Writing to a string cannot fail.
        let _ = write!(out, "<code>{}</code>", escaped(inner));
        rest = behind;
    }
    out + &escaped(&with_units_kept(rest))
}

#[cfg(test)]
mod tests {
    use super::inline;

    #[test]
    fn only_a_part_between_two_backticks_becomes_an_element() {
        assert_eq!(
            inline("next: `a --slo 'b<1s'` <i>, 4 % ` x"),
            "next: <code>a --slo &#39;b&lt;1s&#39;</code> &lt;i&gt;, 4\u{a0}% ` x"
        );
    }
}
