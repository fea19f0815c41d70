//! The distribution of a latency by level: the percentage of requests that were at most this slow.

use super::axis::Axis;
use super::plot::{Dashed, Line, Plot};
use super::{Chart, colour, name, pattern, thresholds};
use crate::check::numbers::duration;
use crate::report::{PhaseReport, RouteReport};

/// The most levels in a chart.
const MOST_LEVELS: usize = 6;

/// A latency: the name of its distribution, its measure in an objective, and its names on the page.
const LATENCIES: [(&str, &str, &str, &str); 2] = [
    ("time_to_first_token_seconds", "ttft", "Distribution of TTFT", "TTFT"),
    ("request_duration_seconds", "e2e_latency", "Distribution of the duration", "request duration"),
];

pub(super) fn charts(routes: &[&RouteReport]) -> Vec<Chart> {
    LATENCIES.iter().filter_map(|latency| chart(routes, *latency)).collect()
}

/// Pairs of a value and its count.
type Values = Vec<(f64, u64)>;

fn values<'a>(phase: &'a PhaseReport, key: &str) -> Option<&'a Values> {
    phase.distributions.get(key).filter(|values| values.iter().any(|value| value.1 > 0))
}

fn chart(
    routes: &[&RouteReport],
    (key, measure, title, quantity): (&str, &str, &str, &str),
) -> Option<Chart> {
    let names = levels(routes, key);
    let lines = routes.iter().enumerate().flat_map(|(target, route)| {
        let of_level = |(level, name): (usize, &&str)| {
            let phase = route.levels().find(|phase| phase.name == *name)?;
            Some((target, level, values(phase, key)?))
        };
        names.iter().enumerate().filter_map(of_level).collect::<Vec<_>>()
    });
    let lines: Vec<(usize, usize, &Values)> = lines.collect();
    let all = || lines.iter().flat_map(|line| line.2.iter().map(|value| value.0));
    let (lowest, highest) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    let axis = Axis::latencies(lowest, highest);
    let ends = [axis.ticks.first()?.0, axis.ticks.last()?.0];
    let mut plot =
        Plot::new(title, (axis, quantity), (Axis::percentages(), "percentage of requests"));
    let has_targets = routes.len() > 1;
    for (target, level, values) in &lines {
        let pattern = if has_targets { pattern(*target) } else { "" };
        let class = format!("{} {pattern}", colour(*level));
        plot.lines.push(Line { class, points: steps(values, ends) });
    }
    let phases = || routes.iter().flat_map(|route| route.levels());
    for (seconds, threshold) in thresholds(phases(), measure, None) {
        if (ends[0]..=ends[1]).contains(&seconds) {
            let label = format!("objective {threshold}");
            plot.objectives.push(Dashed { from: (seconds, 0.0), to: (seconds, 1.0), label });
        }
    }
    plot.description = format!("{quantity} from {} to {}.", duration(lowest), duration(highest));
    let colours = names.iter().enumerate();
    let colours = colours.map(|(level, name)| (colour(level).to_owned(), (*name).to_owned()));
    let patterns = routes.iter().enumerate().filter(|_| has_targets);
    let patterns =
        patterns.map(|(target, route)| (format!("plain {}", pattern(target)), name(route, routes)));
    Some(Chart { title: title.to_owned(), legend: colours.chain(patterns).collect(), plot })
}

/// The names of the levels with values. If there are many, some of them, with the first and the
/// last.
fn levels<'a>(routes: &[&'a RouteReport], key: &str) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let phases = routes.iter().copied().flat_map(RouteReport::levels);
    for phase in phases.filter(|phase| values(phase, key).is_some()) {
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    if names.len() <= MOST_LEVELS {
        return names;
    }
    let last = names.len() - 1;
    (0..MOST_LEVELS)
        .filter_map(|index| names.get(index * last / (MOST_LEVELS - 1)).copied())
        .collect()
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
