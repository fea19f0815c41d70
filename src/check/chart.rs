//! Bar charts for a terminal. A bar ends with a block character of one of eight heights.

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Fills a bar from the mean to the highest value.
pub const SHADE: char = '░';
/// The lines of a chart. A chart of equal values has a single line.
const HEIGHT: usize = 6;
/// The width of the value labels on the left, in characters.
const LABEL_WIDTH: usize = 9;
/// The time axis has a label at its start and at the end of each quarter.
const QUARTERS: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Column {
    /// The top of the solid bar.
    pub mean: f64,
    /// The top of the shaded bar.
    pub highest: f64,
}

/// Returns the highest number of columns that fits into `width` characters, divides `buckets`
/// evenly, and is a multiple of [`QUARTERS`].
pub fn columns(width: usize, buckets: usize) -> usize {
    let room = width.saturating_sub(LABEL_WIDTH + 3);
    (1..=buckets)
        .rev()
        .find(|columns| {
            *columns <= room && buckets.is_multiple_of(*columns) && columns.is_multiple_of(QUARTERS)
        })
        .unwrap_or(QUARTERS)
}

/// Draws a chart and returns its lines. `labels` are below the time axis. `format` formats a value
/// of the vertical scale.
pub fn chart(
    columns: &[Column],
    labels: &[String; QUARTERS + 1],
    format: impl Fn(f64) -> String,
) -> Vec<String> {
    let top = columns.iter().map(|column| column.highest).fold(0.0, f64::max);
    let first = columns.first().copied().unwrap_or_default();
    let is_flat =
        columns.iter().all(|column| *column == first && column.mean >= 0.995 * column.highest);
    let rows = if is_flat { 1 } else { HEIGHT };
    let mut lines: Vec<String> = (0..rows)
        .map(|row| {
            let text = match row {
                0 => format(top),
                middle if middle * 2 == rows => format(top / 2.0),
                _ => String::new(),
            };
            let tick = if text.is_empty() { '│' } else { '┤' };
            let bars: String =
                columns.iter().map(|column| cell(*column, top, rows, rows - 1 - row)).collect();
            format!("{text:>LABEL_WIDTH$} {tick}{bars}").trim_end().to_owned()
        })
        .collect();
    let quarter = columns.len() / QUARTERS;
    let rule: String =
        (0..columns.len()).map(|at| if at % quarter == 0 { '┬' } else { '─' }).collect();
    lines.push(format!("{:>LABEL_WIDTH$} └{rule}┐", "0"));
    let mut axis = " ".repeat(LABEL_WIDTH + 2);
    for (place, label) in labels.iter().enumerate() {
        // The label is centred below its tick, if there is room.
        let centre = LABEL_WIDTH + 2 + place * quarter;
        let start = centre.saturating_sub(label.chars().count() / 2);
        let missing = start.saturating_sub(axis.chars().count());
        axis.push_str(&" ".repeat(missing));
        axis.truncate(axis.char_indices().nth(start).map_or(axis.len(), |(at, _)| at));
        axis.push_str(label);
    }
    lines.push(axis);
    lines
}

/// Draws one line of bars. `top` is the value of a full bar.
pub fn sparkline(values: impl Iterator<Item = f64>, top: f64) -> String {
    values.map(|value| eighth(if top > 0.0 { value / top } else { 0.0 }, value > 0.0)).collect()
}

/// Returns the character of a column in one row. Row 0 is the lowest row.
fn cell(column: Column, top: f64, rows: usize, row: usize) -> char {
    if top <= 0.0 {
        return ' ';
    }
    #[allow(clippy::cast_precision_loss)]
    let (rows, row) = (rows as f64, row as f64);
    let part = |value: f64| (value / top * rows - row).clamp(0.0, 1.0);
    // A tiny value above zero still has a visible bar.
    let bar = eighth(part(column.mean), row < 0.5 && column.mean > 0.0);
    match bar {
        ' ' if part(column.highest) >= 0.5 => SHADE,
        bar => bar,
    }
}

/// Returns the block character of a height from 0 to 1. If `is_visible`, the height is at least one
/// eighth.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn eighth(height: f64, is_visible: bool) -> char {
    let eighths = (height.clamp(0.0, 1.0) * 8.0).round() as usize;
    EIGHTHS[eighths.max(usize::from(is_visible)).min(8)]
}
