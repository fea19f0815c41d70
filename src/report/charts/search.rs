//! The steps of a search: throughput against a latency, with one dot for each step. The knee of
//! this curve is the capacity.
//!
//! The latency is the one that the objectives limit, with their quantile, because a reader compares
//! the dots with the objective. Without such an objective, it is the p99 of TTFT.

use super::axis::Axis;
use super::levels::axis_end;
use super::plot::{Dashed, Dot, Plot};
use super::shape::Shape;
use super::{Chart, Colours, Entry, objective_label, top};
use crate::check::numbers::{duration, three_digits};
use crate::report::search::is_success;
use crate::report::{RouteReport, SearchReport, StepReport};

/// The shape of a step that meets the objectives, and of one that misses them.
const SHAPES: (Shape, Shape) = (Shape::Circle, Shape::Cross);

pub(super) fn charts(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Chart> {
    let of_route = |route: &&RouteReport| {
        let class = colours.class(route);
        let phases = route.phases.iter();
        let charts = phases.filter_map(|phase| chart(&phase.name, phase.search.as_ref()?, class));
        charts.collect::<Vec<_>>()
    };
    routes.iter().flat_map(of_route).collect()
}

/// The latency of a chart.
struct Latency {
    /// `TTFT p95`.
    label: String,
    threshold: Option<f64>,
    /// The index of the objective.
    objective: Option<usize>,
}

impl Latency {
    fn of(search: &SearchReport) -> Latency {
        let objectives = search.steps.first().map_or(&[][..], |step| &step.objectives);
        let is_latency = |index: &usize| objectives[*index].threshold_seconds.is_some();
        let latencies = || (0..objectives.len()).filter(is_latency);
        let ttft = latencies().find(|index| objectives[*index].name.starts_with("ttft "));
        match ttft.or_else(|| latencies().next()) {
            Some(index) => Latency {
                label: label(&objectives[index].name),
                threshold: objectives[index].threshold_seconds,
                objective: Some(index),
            },
            None => Latency { label: "TTFT p99".to_owned(), threshold: None, objective: None },
        }
    }

    /// The latency of a step. If so many requests failed that the quantile is unknown, it is
    /// infinite. `None` if no request has this latency.
    fn value(&self, step: &StepReport) -> Option<f64> {
        let Some(index) = self.objective else { return step.time_to_first_token_seconds.p99 };
        let result = step.objectives.get(index).filter(|result| result.judged > 0)?;
        Some(result.measured.unwrap_or(f64::INFINITY))
    }
}

/// The name of an objective with its measure for people: `ttft p95` is `TTFT p95`.
fn label(objective: &str) -> String {
    let (measure, quantile) = objective.split_once(' ').unwrap_or((objective, ""));
    let measure = match measure {
        "e2e_latency" => "latency".to_owned(),
        other => other.to_uppercase(),
    };
    format!("{measure} {quantile}")
}

fn chart(phase: &str, search: &SearchReport, class: &'static str) -> Option<Chart> {
    let latency = Latency::of(search);
    let dots = search.steps.iter().enumerate().filter_map(|(number, step)| {
        let shape = if is_success(step.verdict.as_ref()?) { SHAPES.0 } else { SHAPES.1 };
        let at = (step.requests_per_second, latency.value(step)?);
        let dot = Dot { class, shape, at, name: three_digits(step.level) };
        Some((order(search, step, number), dot))
    });
    let mut dots: Vec<_> = dots.collect();
    if dots.len() < 2 {
        return None;
    }
    // The first dots get the best places for their labels.
    dots.sort_by_key(|one| one.0);
    let mut dots: Vec<Dot> = dots.into_iter().map(|(_, dot)| dot).collect();
    let known = |value: f64| if value.is_finite() { value } else { 0.0 };
    let highest = |of: fn(&Dot) -> f64| dots.iter().map(of).map(known).fold(0.0, f64::max);
    let across = Axis::linear(highest(|dot| dot.at.0), three_digits);
    // A step far above the capacity would press all other dots into one line.
    let limit = latency.threshold.map_or(f64::INFINITY, |threshold| threshold * 3.0);
    let end = top(highest(|dot| dot.at.1).min(limit), latency.threshold.into_iter());
    let up = Axis::linear(end, duration);
    let (right, above) = (axis_end(&across), axis_end(&up));
    for dot in &mut dots {
        dot.at.1 = dot.at.1.min(above);
    }
    let title = format!("{phase}: throughput and {} of each step", latency.label);
    let mut plot = Plot::new(&title, (across, "requests/s (QPS)"), (up, &latency.label));
    plot.description.clone_from(&search.sentence);
    plot.objectives = latency
        .threshold
        .map(|seconds| {
            let label = objective_label(&duration(seconds), seconds, above);
            Dashed { from: (0.0, seconds), to: (right, seconds), label }
        })
        .into_iter()
        .collect();
    plot.dots = dots;
    let legend = [(SHAPES.0, "meets the objectives"), (SHAPES.1, "misses them")];
    let legend = legend.map(|(shape, name)| Entry::shape(shape, class, name.to_owned()));
    Some(Chart { title, plot, legend: legend.to_vec() })
}

/// The importance of the label of a step, the lowest first: the best level, the lowest level that
/// misses an objective, and then the other levels. The last step of a level is the most certain.
fn order(
    search: &SearchReport,
    step: &StepReport,
    number: usize,
) -> (u8, std::cmp::Reverse<usize>) {
    let is = |level: Option<f64>| level.is_some_and(|level| (level - step.level).abs() < 1e-9);
    let class = if is(search.met) {
        0
    } else if is(search.missed) {
        1
    } else {
        2
    };
    (class, std::cmp::Reverse(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::StepObjective;

    fn step(level: f64, rate: f64, p95: Option<f64>) -> StepReport {
        let objective = |name: &str, threshold_seconds, measured| StepObjective {
            name: name.to_owned(),
            threshold_seconds,
            measured,
            judged: 100,
            ..StepObjective::default()
        };
        let is_met = p95.is_some_and(|p95| p95 <= 0.5);
        StepReport {
            level,
            name: format!("{level} at a time"),
            verdict: Some(if is_met { "met" } else { "missed" }.to_owned()),
            requests_per_second: rate,
            objectives: vec![
                objective("success", None, Some(1.0)),
                objective("ttft p95", Some(0.5), p95),
            ],
            ..StepReport::default()
        }
    }

    fn drawn(steps: Vec<StepReport>) -> String {
        let search =
            SearchReport { met: Some(20.0), missed: Some(21.0), steps, ..SearchReport::default() };
        let chart = chart("search", &search, "c0").unwrap();
        assert_eq!(chart.title, "search: throughput and TTFT p95 of each step");
        chart.plot.svg()
    }

    /// The labels, in the order in which they are drawn.
    fn labels(svg: &str) -> Vec<&str> {
        let texts = svg.split("<text class=\"name\"").skip(1);
        texts.map(|text| text.split(['>', '<']).nth(1).unwrap()).collect()
    }

    #[test]
    fn the_chart_has_the_quantile_of_the_objective_and_labels_the_best_level() {
        let mut steps = vec![step(16.0, 15.2, Some(0.1)), step(32.0, 15.6, None)];
        // Many steps crowd around the knee.
        for repeat in 0..3 {
            for level in [18.0, 19.0, 20.0, 21.0, 22.0] {
                let p95 = Some(0.3 + (level - 18.0) * 0.08 + f64::from(repeat) * 0.001);
                steps.push(step(level, 15.5, p95));
            }
        }
        let svg = drawn(steps);
        // 20 at a time and less meet the objective.
        let count = |shape: &str| svg.matches(&format!("<{shape} class=\"dot c0\"")).count();
        assert_eq!((count("circle"), count("path")), (10, 7), "{svg}");
        let labels = labels(&svg);
        assert_eq!((labels.first(), labels.get(1)), (Some(&"20"), Some(&"21")), "{labels:?}");
        for label in &labels {
            assert_eq!(labels.iter().filter(|other| other == &label).count(), 1, "{labels:?}");
        }
        assert!(svg.contains("objective 500 ms") && svg.contains("<title>32</title>"));
    }

    #[test]
    fn without_a_latency_objective_the_chart_shows_the_p99_of_ttft() {
        let mut steps = vec![step(1.0, 1.0, None), step(2.0, 2.0, None)];
        for step in &mut steps {
            step.objectives.truncate(1);
            step.time_to_first_token_seconds.p99 = Some(0.2);
        }
        let search = SearchReport { steps, ..SearchReport::default() };
        assert_eq!(
            chart("search", &search, "c0").unwrap().title,
            "search: throughput and TTFT p99 of each step"
        );
    }
}
