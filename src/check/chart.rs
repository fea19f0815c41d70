//! Charts for a terminal: bars from eighths of a character.

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The part of a bar between the mean and the highest value.
pub const SHADE: char = '░';
/// The height of a chart whose values differ.
const ROWS: usize = 6;
/// Characters of the scale on the left, including its margin.
const SCALE: usize = 9;
/// The number of equal parts of the axis; each end has a mark.
const MARKS: usize = 4;

/// The values of one column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Column {
    /// The end of the full bar.
    pub mean: f64,
    /// The end of the shade.
    pub highest: f64,
}

/// The most columns that fit a width, divide the buckets evenly and are a multiple of [`MARKS`].
pub fn columns(width: usize, buckets: usize) -> usize {
    let room = width.saturating_sub(SCALE + 3);
    (1..=buckets)
        .rev()
        .find(|columns| {
            *columns <= room && buckets.is_multiple_of(*columns) && columns.is_multiple_of(MARKS)
        })
        .unwrap_or(MARKS)
}

/// The lines of a chart. `marks` are the texts at the ends of the quarters of the axis. `label`
/// formats a value of the scale.
pub fn chart(
    columns: &[Column],
    marks: &[String; MARKS + 1],
    label: impl Fn(f64) -> String,
) -> Vec<String> {
    let top = columns.iter().map(|column| column.highest).fold(0.0, f64::max);
    let first = columns.first().copied().unwrap_or_default();
    let is_flat =
        columns.iter().all(|column| *column == first && column.mean >= 0.995 * column.highest);
    let rows = if is_flat { 1 } else { ROWS };
    let mut lines: Vec<String> = (0..rows)
        .map(|row| {
            let text = match row {
                0 => label(top),
                middle if middle * 2 == rows => label(top / 2.0),
                _ => String::new(),
            };
            let tick = if text.is_empty() { '│' } else { '┤' };
            let bars: String =
                columns.iter().map(|column| cell(*column, top, rows, rows - 1 - row)).collect();
            format!("{text:>SCALE$} {tick}{bars}").trim_end().to_owned()
        })
        .collect();
    let quarter = columns.len() / MARKS;
    let rule: String =
        (0..columns.len()).map(|at| if at % quarter == 0 { '┬' } else { '─' }).collect();
    lines.push(format!("{:>SCALE$} └{rule}┐", "0"));
    let mut axis = " ".repeat(SCALE + 2);
    for (place, mark) in marks.iter().enumerate() {
        // Centred below its mark if there is room.
        let centre = SCALE + 2 + place * quarter;
        let start = centre.saturating_sub(mark.chars().count() / 2);
        let missing = start.saturating_sub(axis.chars().count());
        axis.push_str(&" ".repeat(missing));
        axis.truncate(axis.char_indices().nth(start).map_or(axis.len(), |(at, _)| at));
        axis.push_str(mark);
    }
    lines.push(axis);
    lines
}

/// One line of bars, scaled to `top`.
pub fn sparkline(values: impl Iterator<Item = f64>, top: f64) -> String {
    values.map(|value| eighth(if top > 0.0 { value / top } else { 0.0 }, value > 0.0)).collect()
}

/// The character of a column in a row. Row 0 is the lowest.
fn cell(column: Column, top: f64, rows: usize, row: usize) -> char {
    if top <= 0.0 {
        return ' ';
    }
    #[allow(clippy::cast_precision_loss)]
    let (rows, row) = (rows as f64, row as f64);
    let part = |value: f64| (value / top * rows - row).clamp(0.0, 1.0);
    // A value above zero is visible, however small.
    let bar = eighth(part(column.mean), row < 0.5 && column.mean > 0.0);
    match bar {
        ' ' if part(column.highest) >= 0.5 => SHADE,
        bar => bar,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn eighth(share: f64, is_visible: bool) -> char {
    let eighths = (share.clamp(0.0, 1.0) * 8.0).round() as usize;
    EIGHTHS[eighths.max(usize::from(is_visible)).min(8)]
}
