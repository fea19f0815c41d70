//! A chart as SVG: axes, lines, dots, bars, bands of phases and dashed objectives. The style sheet
//! of the page defines the colours by class.
//!
//! The drawing is narrow, so its text stays readable on a phone, where the chart is as wide as the
//! screen.

mod frame;

use std::fmt::Write as _;

use super::axis::Axis;
use super::labels::{Area, LINE, Labels, NARROW, fitted, width};
use super::shape::Shape;
use crate::check::text::shortened_apart;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 280.0;
/// The space on the right of the plot, for half of the last label.
const RIGHT: f64 = 20.0;
/// The space below the plot, for the labels and the title of the horizontal axis.
const BELOW: f64 = 44.0;
/// The space above the plot, for the title of the vertical axis.
const ABOVE: f64 = 24.0;
/// The space of the names of phases.
const BAND_NAMES: f64 = 18.0;
/// The space of a dot around its middle.
const RADIUS: f64 = 5.0;
/// A line has no two points that are nearer than this.
const NEAR: f64 = 0.7;

#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// The name for a screen reader.
    pub name: String,
    /// The values as text, for a screen reader.
    pub description: String,
    pub x: Axis,
    pub y: Axis,
    /// The quantity of the horizontal axis.
    pub x_title: String,
    /// The quantity of the vertical axis.
    pub y_title: String,
    pub bands: Vec<Band>,
    pub bars: Vec<Bar>,
    pub lines: Vec<Line>,
    pub dots: Vec<Dot>,
    /// Shapes on the lines, without names.
    pub marks: Vec<Mark>,
    pub objectives: Vec<Dashed>,
}

/// A phase on an axis of time.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub from: f64,
    pub to: f64,
    pub name: String,
    /// The name in a narrow band.
    pub short: String,
}

/// A part of a stacked bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub class: &'static str,
    pub from: f64,
    pub to: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub class: String,
    /// `None` is a gap.
    pub points: Vec<Option<(f64, f64)>>,
}

#[derive(Clone, Debug)]
pub(super) struct Dot {
    pub class: &'static str,
    pub shape: Shape,
    pub at: (f64, f64),
    pub name: String,
}

#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub class: &'static str,
    pub shape: Shape,
    pub at: (f64, f64),
}

/// An objective from one point to another.
#[derive(Clone, Debug)]
pub(super) struct Dashed {
    pub from: (f64, f64),
    pub to: (f64, f64),
    pub label: String,
}

/// Escapes a text for the content of an element and for an attribute.
pub(in crate::report) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

impl Plot {
    /// An empty plot.
    pub fn new(name: &str, x: (Axis, &str), y: (Axis, &str)) -> Plot {
        Plot {
            name: name.to_owned(),
            description: String::new(),
            x: x.0,
            y: y.0,
            x_title: x.1.to_owned(),
            y_title: y.1.to_owned(),
            bands: Vec::new(),
            bars: Vec::new(),
            lines: Vec::new(),
            dots: Vec::new(),
            marks: Vec::new(),
            objectives: Vec::new(),
        }
    }

    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><desc>{}</desc>",
            escaped(&self.name),
            escaped(&self.description)
        );
        self.draw_bands(&mut out);
        self.draw_axes(&mut out);
        // Writing to a string cannot fail.
        for bar in &self.bars {
            let (left, right) = (self.x(bar.from), self.x(bar.to));
            let (top, bottom) = (self.y(bar.high), self.y(bar.low));
            let _ = write!(
                out,
                "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                 height=\"{:.1}\"/>",
                bar.class,
                (right - left).max(0.5),
                bottom - top
            );
        }
        for line in &self.lines {
            let path = self.path(&line.points);
            let _ = write!(out, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
        }
        for Mark { class, shape, at } in &self.marks {
            out += &shape.drawn(class, (self.x(at.0), self.y(at.1)), "");
        }
        let dots = self.dots.iter().map(|dot| dot.at).chain(self.marks.iter().map(|mark| mark.at));
        let dots = dots.map(|at| (self.x(at.0), self.y(at.1)));
        let around = |(x, y): (f64, f64)| Area {
            left: x - RADIUS,
            right: x + RADIUS,
            top: y - RADIUS,
            bottom: y + RADIUS,
        };
        let (left, top, bottom) = (self.left(), self.top() - LINE + 3.0, HEIGHT - BELOW);
        let mut labels = Labels {
            bounds: Area { left, right: WIDTH, top, bottom },
            occupied: dots.map(around).collect(),
            traces: self.traces(),
        };
        self.draw_objectives(&mut out, &mut labels);
        self.draw_dots(&mut out, &mut labels);
        out.push_str("</svg>");
        out
    }

    /// The left end of the plot. The labels of the vertical axis are on its left.
    fn left(&self) -> f64 {
        self.y.ticks.iter().map(|tick| width(&tick.1)).fold(16.0, f64::max) + 10.0
    }

    fn top(&self) -> f64 {
        if self.bands.is_empty() { ABOVE } else { ABOVE + BAND_NAMES }
    }

    fn x(&self, value: f64) -> f64 {
        self.left() + self.x.position(value) * (WIDTH - RIGHT - self.left())
    }

    fn y(&self, value: f64) -> f64 {
        self.top() + (1.0 - self.y.position(value)) * (HEIGHT - BELOW - self.top())
    }

    /// Returns the path of a line. A gap begins a new part.
    fn path(&self, points: &[Option<(f64, f64)>]) -> String {
        let mut path = String::new();
        let mut last: Option<(f64, f64)> = None;
        for (index, point) in points.iter().enumerate() {
            let Some((x, y)) = point.map(|(x, y)| (self.x(x), self.y(y))) else {
                last = None;
                continue;
            };
            let ends = points.get(index + 1).is_none_or(Option::is_none);
            match last {
                Some((before, above)) => {
                    if !ends && (x - before).abs() < NEAR && (y - above).abs() < NEAR {
                        continue;
                    }
                    let _ = write!(path, "L{x:.1} {y:.1}");
                }
                // Without the short line, a single point between two gaps would be invisible.
                None => _ = write!(path, "M{x:.1} {y:.1}h0.1"),
            }
            last = Some((x, y));
        }
        path
    }

    /// Points on all lines, so near to each other that no text fits between two of them.
    fn traces(&self) -> Vec<(f64, f64)> {
        let mut traces = Vec::new();
        for line in &self.lines {
            let mut last: Option<(f64, f64)> = None;
            for point in &line.points {
                let point = point.map(|(x, y)| (self.x(x), self.y(y)));
                if let Some(((x, y), (to_x, to_y))) = last.zip(point) {
                    let steps = ((to_x - x).hypot(to_y - y) / NARROW).ceil().max(1.0);
                    let mut step = 1.0;
                    while step <= steps {
                        let part = step / steps;
                        traces.push((x + (to_x - x) * part, y + (to_y - y) * part));
                        step += 1.0;
                    }
                }
                last = point;
            }
        }
        traces
    }

    fn draw_objectives(&self, out: &mut String, labels: &mut Labels) {
        for Dashed { from, to, label } in &self.objectives {
            let [left, right] = [self.x(from.0), self.x(to.0)];
            let [start, end] = [self.y(from.1), self.y(to.1)];
            let _ = write!(
                out,
                "<line class=\"objective\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{start:.1}\" \
                 y2=\"{end:.1}\"/>"
            );
            if label.is_empty() {
                continue;
            }
            let long = width(label);
            let places: Vec<(f64, f64)> = if (right - left).abs() < 1.0 {
                let height = start - end;
                let baselines =
                    [0.1, 0.3, 0.5, 0.7, 0.9].map(|part| end + part * height + LINE / 2.0);
                let sides = [left + 5.0, left - 5.0 - long];
                sides.into_iter().flat_map(|side| baselines.map(|down| (side, down))).collect()
            } else {
                let ends = [right - long - 2.0, left + 3.0, f64::midpoint(left, right - long)];
                ends.into_iter().flat_map(|at| [(at, start - 5.0), (at, start + LINE)]).collect()
            };
            if let Some((at, baseline)) = labels.place(label, places) {
                let _ = write!(
                    out,
                    "<text class=\"objective\" x=\"{at:.1}\" y=\"{baseline:.1}\">{}</text>",
                    escaped(label)
                );
            }
        }
    }

    /// Draws the dots, each with its name. The first dots get the best places. A name that fits
    /// nowhere, or that another dot of the class has already, is only in the tooltip.
    fn draw_dots(&self, out: &mut String, labels: &mut Labels) {
        let names: Vec<&str> = self.dots.iter().map(|dot| dot.name.as_str()).collect();
        let names = shortened_apart(&names, |_, name| fitted(name, 150.0).unwrap_or_default());
        let mut placed: Vec<(&str, &String)> = Vec::new();
        for (dot, short) in self.dots.iter().zip(names) {
            let (x, y) = (self.x(dot.at.0), self.y(dot.at.1));
            *out += &dot.shape.drawn(dot.class, (x, y), &dot.name);
            let key = (dot.class, &dot.name);
            if short.is_empty() || placed.contains(&key) {
                continue;
            }
            let long = width(&short);
            let beside = RADIUS + 3.0;
            let places = [
                (x + beside, y - 4.0),
                (x - beside - long, y - 4.0),
                (x - long / 2.0, y - beside - 2.0),
                (x + beside, y + LINE),
                (x - beside - long, y + LINE),
                (x - long / 2.0, y + beside + LINE - 3.0),
                (x + beside, y - 4.0 - LINE),
                (x - beside - long, y - 4.0 - LINE),
            ];
            if let Some((left, baseline)) = labels.place(&short, places) {
                placed.push(key);
                let _ = write!(
                    out,
                    "<text class=\"name\" x=\"{left:.1}\" y=\"{baseline:.1}\">{}</text>",
                    escaped(&short)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let axis = || Axis::linear(10.0, |value| value.to_string());
        Plot::new("n", (axis(), "x"), (axis(), "y"))
    }

    #[test]
    fn a_missing_value_is_a_gap_in_the_line() {
        let points = vec![Some((1.0, 1.0)), None, Some((2.0, 2.0)), Some((3.0, 3.0))];
        let line = Line { class: "c".to_owned(), points };
        let drawn = Plot { lines: vec![line], ..plot() }.svg();
        let path = drawn.split("class=\"line c\" d=\"").nth(1).unwrap();
        let path = path.split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert!(!drawn.contains("NaN"));
    }

    #[test]
    fn names_of_bands_and_dots_that_begin_alike_are_shortened_to_their_difference() {
        let long = |end: &str| format!("the-load-of-the-old-branch-{end}");
        let names = [long("office"), long("store")];
        let band = |from: f64, name: &String| Band {
            from,
            to: from + 2.0,
            name: name.clone(),
            short: name.clone(),
        };
        let dot = |at: f64, name: &String| Dot {
            class: "c",
            shape: Shape::Circle,
            at: (at, at),
            name: name.clone(),
        };
        let drawn = Plot {
            bands: vec![band(0.0, &names[0]), band(2.0, &names[1])],
            dots: vec![dot(2.0, &names[0]), dot(8.0, &names[1])],
            ..plot()
        };
        let drawn = drawn.svg();
        for shown in [">…office</text>", ">…store</text>"] {
            assert_eq!(drawn.matches(shown).count(), 2, "{drawn}");
        }
    }

    #[test]
    fn names_of_dots_do_not_cover_each_other() {
        let dots = (0..30).map(|index| {
            let at = f64::from(index) / 10.0;
            Dot {
                class: "c",
                shape: Shape::Circle,
                at: (7.0 + at, at * at),
                name: format!("level {index}"),
            }
        });
        let drawn = Plot { dots: dots.collect(), ..plot() }.svg();
        let mut names: Vec<(f64, f64, f64)> = Vec::new();
        for text in drawn.split("<text class=\"name\" x=\"").skip(1) {
            let mut parts = text.split(['"', '>', '<']);
            let left: f64 = parts.next().unwrap().parse().unwrap();
            let baseline: f64 = parts.nth(1).unwrap().parse().unwrap();
            let right = left + width(parts.nth(1).unwrap());
            assert!(right <= WIDTH, "{text}");
            let is_covered = |other: &(f64, f64, f64)| {
                (other.2 - baseline).abs() < LINE - 0.2 && other.0 < right && left < other.1
            };
            assert!(!names.iter().any(is_covered), "{text} in {names:?}");
            names.push((left, right, baseline));
        }
        assert!(names.len() >= 5, "{drawn}");
        assert_eq!(drawn.matches("<circle").count(), 30);
    }

    #[test]
    fn a_name_from_a_configuration_stays_text() {
        let name = "<script>\"'&";
        let band = Band { from: 0.0, to: 10.0, name: name.to_owned(), short: name.to_owned() };
        let dot = Dot { class: "c", shape: Shape::Circle, at: (5.0, 5.0), name: name.to_owned() };
        let objective =
            Dashed { from: (0.0, 1.0), to: (10.0, 1.0), label: format!("objective {name}") };
        let plot = Plot {
            name: name.to_owned(),
            description: name.to_owned(),
            bands: vec![band],
            dots: vec![dot],
            objectives: vec![objective],
            ..plot()
        };
        let drawn = plot.svg();
        assert!(!drawn.contains("<script") && !drawn.contains("\"'"), "{drawn}");
        assert_eq!(drawn.matches("&lt;script&gt;&quot;&#39;&amp;").count(), 7, "{drawn}");
    }
}
