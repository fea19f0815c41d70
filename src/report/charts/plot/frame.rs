//! The frame of a chart: the bands of phases, the axes and the labels at their ticks.

use std::fmt::Write as _;

use super::super::labels::{fitted, width};
use super::{BELOW, Band, HEIGHT, Plot, RIGHT, WIDTH, escaped};
use crate::check::text::shortened_apart;

/// The least space between two labels of the horizontal axis.
const BETWEEN_LABELS: f64 = 6.0;

impl Plot {
    pub(super) fn draw_bands(&self, out: &mut String) {
        let (top, bottom) = (self.top(), HEIGHT - BELOW);
        let available = |band: &Band| self.x(band.to) - self.x(band.from) - 2.0;
        let names: Vec<&str> = self
            .bands
            .iter()
            .map(
                |band| {
                    if width(&band.name) <= available(band) { &*band.name } else { &*band.short }
                },
            )
            .collect();
        let fitting = shortened_apart(&names, |index, name| {
            let band = self.bands.get(index);
            band.and_then(|band| fitted(name, available(band))).unwrap_or_default()
        });
        for (index, (band, shown)) in self.bands.iter().zip(fitting).enumerate() {
            let (left, right) = (self.x(band.from), self.x(band.to));
            let shade = if index % 2 == 0 { "band" } else { "band odd" };
            let name = escaped(&band.name);
            let _ = write!(
                out,
                "<rect class=\"{shade}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                 height=\"{:.1}\"><title>{name}</title></rect>",
                right - left,
                bottom - top
            );
            if !shown.is_empty() {
                let _ = write!(
                    out,
                    "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    f64::midpoint(left, right),
                    top - 5.0,
                    escaped(&shown)
                );
            }
        }
    }

    pub(super) fn draw_axes(&self, out: &mut String) {
        let (left, right, bottom) = (self.left(), WIDTH - RIGHT, HEIGHT - BELOW);
        for (value, label) in &self.y.ticks {
            let y = self.y(*value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 6.0,
                y + 4.5
            );
        }
        for (value, _) in &self.x.ticks {
            let x = self.x(*value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>",
                bottom + 4.0
            );
        }
        for (middle, label) in self.x_labels() {
            let _ = write!(
                out,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{}\">{label}</text>",
                bottom + 18.0
            );
        }
        let _ = write!(
            out,
            "<text class=\"axis\" x=\"2\" y=\"13\">{}</text>\
             <text class=\"axis\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
            escaped(&self.y_title),
            WIDTH - 2.0,
            HEIGHT - 6.0,
            escaped(&self.x_title)
        );
    }

    /// The labels of the horizontal axis, with the positions of their middles. If the space is
    /// narrow, these are the labels of every second or third tick. The last label is always one of
    /// them, because it says where the axis ends.
    fn x_labels(&self) -> Vec<(f64, &str)> {
        let label = |(value, label): &'_ (f64, String)| {
            let half = width(label) / 2.0;
            (self.x(*value).min(WIDTH - half), half)
        };
        let has_space = |ticks: &[&(f64, String)]| {
            ticks.windows(2).all(|pair| {
                let [(later, half), (earlier, other)] = [label(pair[0]), label(pair[1])];
                later - half >= earlier + other + BETWEEN_LABELS
            })
        };
        let every = |step| self.x.ticks.iter().rev().step_by(step).collect::<Vec<_>>();
        let mut shown = every(1);
        let mut step = 2;
        while !has_space(&shown) {
            shown = every(step);
            step += 1;
        }
        shown.into_iter().map(|tick| (label(tick).0, tick.1.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::axis::Axis;
    use super::*;

    proptest! {
        #[test]
        fn labels_of_an_axis_have_space_and_the_end_of_the_axis_has_a_label(
            exponent in -3.0..6.0_f64,
            ratio in 1.0..1e5_f64,
        ) {
            let highest = 10_f64.powf(exponent);
            for x in [Axis::time(highest), Axis::latencies(highest / ratio, highest)] {
                let end = x.ticks.last().unwrap().1.clone();
                let y = Axis::linear(10.0, |value| value.to_string());
                let plot = Plot::new("n", (x, "x"), (y, "y"));
                let labels = plot.x_labels();
                prop_assert_eq!(labels[0].1, &end);
                prop_assert!(labels.len() >= 2, "{:?}", labels);
                for pair in labels.windows(2) {
                    let space = pair[0].0 - pair[1].0;
                    let needed = f64::midpoint(width(pair[0].1), width(pair[1].1));
                    prop_assert!(space >= needed + 5.9, "{:?}", labels);
                }
            }
        }
    }
}
