//! Line charts over time, as SVG. The page defines the colours with CSS classes.

use std::fmt::Write as _;

use crate::check::numbers::duration;

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The CSS class.
    pub class: &'static str,
    pub name: &'static str,
    /// One value per interval. `None` draws a gap.
    pub values: Vec<Option<f64>>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
/// The width of the labels on the left.
const LEFT: f64 = 64.0;
/// The height of the time labels below the chart.
const BELOW: f64 = 24.0;
const ABOVE: f64 = 8.0;

/// Draws the lines. The value axis starts at zero.
#[allow(clippy::cast_precision_loss)]
pub(super) fn svg(lines: &[Line], interval: f64, unit: impl Fn(f64) -> String) -> String {
    let count = lines.iter().map(|line| line.values.len()).max().unwrap_or(0).max(1);
    let highest =
        lines.iter().flat_map(|line| line.values.iter().flatten()).fold(0.0_f64, |a, b| a.max(*b));
    let step = tick(highest.max(1e-6));
    let top = (highest / step).ceil().max(1.0) * step;
    let end = count as f64 * interval;
    let x = |seconds: f64| LEFT + seconds / end * (WIDTH - LEFT - 8.0);
    let y = |value: f64| ABOVE + (1.0 - value / top) * (HEIGHT - ABOVE - BELOW);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    // Writing to a string cannot fail.
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{2:.1}\" y=\"{3:.1}\">{4}</text>",
            x(end),
            y(value),
            LEFT - 8.0,
            y(value) + 4.0,
            if value == 0.0 { "0".to_owned() } else { unit(value) },
        );
        value += step;
    }
    let step = tick(end);
    let mut second = 0.0;
    while second <= end + 1e-9 {
        let anchor = if second == 0.0 { "start" } else { "middle" };
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x(second).min(WIDTH - 16.0),
            HEIGHT - 6.0,
            if second == 0.0 { "0".to_owned() } else { duration(second) },
        );
        second += step;
    }
    for line in lines {
        let mut path = String::new();
        let mut pen_down = false;
        for (index, value) in line.values.iter().enumerate() {
            if let Some(value) = value {
                let middle = (index as f64 + 0.5) * interval;
                let _ = write!(
                    path,
                    "{}{:.1} {:.1}",
                    if pen_down { "L" } else { "M" },
                    x(middle),
                    y(*value)
                );
                // Without this short line, a single point between two gaps would be invisible.
                if !pen_down {
                    path.push_str("h0.1");
                }
            }
            pen_down = value.is_some();
        }
        let _ = write!(out, "<path class=\"{}\" d=\"{path}\"/>", line.class);
    }
    out.push_str("</svg>");
    out
}

/// Returns the distance between two ticks: 1, 2 or 5 times a power of ten, so that an axis up to
/// `total` has at most five ticks.
fn tick(total: f64) -> f64 {
    let power = 10_f64.powf((total / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| total / step <= 5.0 + 1e-9)
        .unwrap_or(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_at_most_five_ticks_at_round_values() {
        for total in [1e-6, 0.003, 0.99, 1.0, 7.0, 49.0, 51.0, 240.0, 86_400.0] {
            let step = tick(total);
            assert!((1.0..=5.0 + 1e-6).contains(&(total / step)), "{total}: {step}");
        }
        assert!((tick(10.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_missing_value_is_a_gap_in_the_line() {
        let values = vec![Some(1.0), None, Some(2.0), Some(3.0)];
        let drawn = svg(&[Line { class: "c", name: "n", values }], 1.0, |value| value.to_string());
        let path = drawn.split("class=\"c\" d=\"").nth(1).unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1));
        assert!(
            !drawn.contains("NaN") && !svg(&[], 1.0, |value| value.to_string()).contains("NaN")
        );
    }
}
