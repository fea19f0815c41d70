//! The legend of a chart: a sample of each line, area or shape, and its name.

use serde::Serialize;

use super::shape::Shape;

/// The middle of a sample.
const MIDDLE: (f64, f64) = (13.5, 6.0);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The content of an SVG element of 27 × 12.
    pub sample: String,
    pub name: String,
}

impl Entry {
    pub(super) fn line(class: &str, name: String) -> Entry {
        Entry { sample: format!("<path class=\"line {class}\" d=\"M1 6h25\"/>"), name }
    }

    pub(super) fn area(class: &str, name: String) -> Entry {
        let sample = format!("<rect class=\"area {class}\" x=\"6\" width=\"14\" height=\"12\"/>");
        Entry { sample, name }
    }

    pub(super) fn shape(shape: Shape, class: &str, name: String) -> Entry {
        Entry { sample: shape.drawn(class, MIDDLE, ""), name }
    }
}
