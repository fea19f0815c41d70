//! The distribution of a latency by level: the percentage of requests that were at most this slow.

use super::axis::Axis;
use super::levels::at_quantile;
use super::plot::{Dashed, Line, Mark, Plot};
use super::{Chart, Colours, Entry, shape, target_legend, thresholds};
use crate::check::numbers::duration;
use crate::report::{PhaseReport, RouteReport};

/// The quantiles at which a line shows the shape of its level.
const MARKED: [f64; 4] = [0.2, 0.45, 0.7, 0.95];

/// A latency: the name of its distribution, its measure in an objective, and its names on the page.
const LATENCIES: [(&str, &str, &str, &str); 2] = [
    ("time_to_first_token_seconds", "ttft", "Distribution of TTFT", "TTFT"),
    ("request_duration_seconds", "e2e_latency", "Distribution of the duration", "request duration"),
];

pub(super) fn charts(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Chart> {
    LATENCIES.iter().filter_map(|latency| chart(routes, colours, *latency)).collect()
}

/// Pairs of a value and its count.
type Values = Vec<(f64, u64)>;

fn values<'a>(phase: &'a PhaseReport, key: &str) -> Option<&'a Values> {
    phase.distributions.get(key).filter(|values| values.iter().any(|value| value.1 > 0))
}

fn chart(
    routes: &[&RouteReport],
    colours: &Colours<'_>,
    (key, measure, title, quantity): (&str, &str, &str, &str),
) -> Option<Chart> {
    let names = shape::levels(routes);
    let lines = routes.iter().flat_map(|route| {
        let of_level = |name: &&str| {
            let phase = route.levels().find(|phase| phase.name == *name)?;
            Some((colours.class(route), phase, values(phase, key)?))
        };
        names.iter().filter_map(of_level).collect::<Vec<_>>()
    });
    let lines: Vec<(&'static str, &PhaseReport, &Values)> = lines.collect();
    let all = || lines.iter().flat_map(|line| line.2.iter().map(|value| value.0));
    let (lowest, highest) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    let axis = Axis::latencies(lowest, highest);
    let ends = [axis.ticks.first()?.0, axis.ticks.last()?.0];
    let mut plot =
        Plot::new(title, (axis, quantity), (Axis::percentages(), "percentage of requests"));
    for (class, phase, values) in &lines {
        plot.lines.push(Line { class: (*class).to_owned(), points: steps(values, ends) });
        let shape = shape::of(phase, &names);
        let marks = MARKED.into_iter().filter_map(|part| Some((at_quantile(values, part)?, part)));
        plot.marks.extend(marks.map(|at| Mark { class, shape, at }));
    }
    let phases = || routes.iter().flat_map(|route| route.levels());
    for (seconds, threshold) in thresholds(phases(), measure, None) {
        if (ends[0]..=ends[1]).contains(&seconds) {
            let label = format!("objective {threshold}");
            plot.objectives.push(Dashed { from: (seconds, 0.0), to: (seconds, 1.0), label });
        }
    }
    plot.description = format!("{quantity} from {} to {}.", duration(lowest), duration(highest));
    let shapes = names.iter().filter_map(|name| {
        let (_, phase, _) = lines.iter().find(|(_, phase, _)| phase.name == *name)?;
        Some(Entry::shape(shape::of(phase, &names), "plain", (*name).to_owned()))
    });
    let legend = shapes.chain(target_legend(routes, colours)).collect();
    Some(Chart { title: title.to_owned(), legend, plot })
}

/// The points of the cumulative distribution, as steps.
#[allow(clippy::cast_precision_loss)]
fn steps(values: &Values, [start, end]: [f64; 2]) -> Vec<Option<(f64, f64)>> {
    let total: u64 = values.iter().map(|value| value.1).sum();
    let mut points = vec![Some((start, 0.0))];
    let (mut before, mut share) = (0, 0.0);
    for (value, count) in values {
        points.push(Some((*value, share)));
        before += count;
        share = before as f64 / total.max(1) as f64;
        points.push(Some((*value, share)));
    }
    points.push(Some((end, share)));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_rise_at_each_value_by_its_part_of_the_requests() {
        let points: Vec<(f64, f64)> =
            steps(&vec![(0.1, 1), (0.2, 3)], [0.0, 0.3]).into_iter().flatten().collect();
        let expected = [(0.0, 0.0), (0.1, 0.0), (0.1, 0.25), (0.2, 0.25), (0.2, 1.0), (0.3, 1.0)];
        assert_eq!(points, expected);
    }
}
