//! The shapes of dots. Each level has a shape, which is the same in all charts of a scenario.

use super::plot::escaped;
use crate::report::{PhaseReport, RouteReport};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    LowTriangle,
    Cross,
}

/// The most levels with a shape.
pub(super) const MOST_LEVELS: usize = Shape::ALL.len();

impl Shape {
    const ALL: [Shape; 6] = [
        Shape::Circle,
        Shape::Square,
        Shape::Triangle,
        Shape::Diamond,
        Shape::LowTriangle,
        Shape::Cross,
    ];

    /// Returns the shape as SVG, with its middle at this point.
    pub fn drawn(self, class: &str, (x, y): (f64, f64), title: &str) -> String {
        let title = match title {
            "" => String::new(),
            title => format!("<title>{}</title>", escaped(title)),
        };
        let path = match self {
            Shape::Circle => {
                return format!(
                    "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\">{title}\
                     </circle>"
                );
            }
            Shape::Square => "m-4.5-4.5h9v9h-9z",
            Shape::Triangle => "m0-6 5.6 10h-11.2z",
            Shape::Diamond => "m0-6.2 6 6.2-6 6.2-6-6.2z",
            Shape::LowTriangle => "m0 6 5.6-10h-11.2z",
            Shape::Cross => "m-2-5.8h4v3.8h3.8v4h-3.8v3.8h-4v-3.8h-3.8v-4h3.8z",
        };
        format!("<path class=\"dot {class}\" d=\"M{x:.1} {y:.1}{path}\">{title}</path>")
    }
}

/// The names of the levels with a shape, in their order. If there are many levels, some of them
/// have a shape, in particular the first and the last.
pub(super) fn levels<'a>(routes: &[&'a RouteReport]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let phases = routes.iter().copied().flat_map(RouteReport::levels);
    for phase in phases.filter(|phase| phase.statistics.succeeded > 0 && !phase.is_search()) {
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    if names.len() <= MOST_LEVELS {
        return names;
    }
    let last = names.len() - 1;
    let chosen = (0..MOST_LEVELS).filter_map(|index| names.get(index * last / (MOST_LEVELS - 1)));
    chosen.copied().collect()
}

/// The shape of a level. A level without one is a circle.
pub(super) fn of(phase: &PhaseReport, levels: &[&str]) -> Shape {
    let index = levels.iter().position(|name| *name == phase.name);
    index.and_then(|index| Shape::ALL.get(index).copied()).unwrap_or(Shape::Circle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Statistics;

    fn route(levels: std::ops::Range<usize>) -> RouteReport {
        let phase = |level: usize| PhaseReport {
            name: level.to_string(),
            statistics: Statistics { succeeded: 1, ..Statistics::default() },
            ..PhaseReport::default()
        };
        RouteReport { phases: levels.map(phase).collect(), ..RouteReport::default() }
    }

    #[test]
    fn each_of_six_levels_has_a_shape_that_all_targets_share() {
        let (one, other) = (route(0..4), route(2..6));
        let levels = levels(&[&one, &other]);
        assert_eq!(levels, ["0", "1", "2", "3", "4", "5"]);
        let shapes: Vec<Shape> =
            one.phases.iter().chain(&other.phases[2..]).map(|phase| of(phase, &levels)).collect();
        assert_eq!(shapes, Shape::ALL);
        assert_eq!(of(&one.phases[3], &levels), of(&other.phases[1], &levels));
    }

    #[test]
    fn of_many_levels_the_first_and_the_last_have_a_shape() {
        let many = route(0..11);
        assert_eq!(levels(&[&many]), ["0", "2", "4", "6", "8", "10"]);
    }

    #[test]
    fn a_title_stays_text() {
        for shape in Shape::ALL {
            let drawn = shape.drawn("c0", (1.0, 2.0), "<b>");
            assert!(drawn.contains("<title>&lt;b&gt;</title>"), "{drawn}");
            assert!(drawn.starts_with('<') && drawn.contains("class=\"dot c0\""), "{drawn}");
        }
    }
}
