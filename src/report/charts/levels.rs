//! Throughput against latency: one dot for each level. Where the line turns upwards, the target is
//! saturated.

use std::fmt::Write as _;

use super::axis::Axis;
use super::plot::{Dashed, Dot, Line, Plot};
use super::{Chart, Colours, objective_label, shape, target_legend, thresholds, top};
use crate::check::numbers::{duration, three_digits};
use crate::report::{ObjectiveResult, PhaseReport, RouteReport, Statistics, Summary};

/// The most dots that the description names.
const MOST_DESCRIBED: usize = 30;

/// A latency, as an objective and as statistics.
struct Latency {
    measure: &'static str,
    name: &'static str,
    summary: fn(&Statistics) -> &Summary,
    /// The name of its distribution.
    distribution: &'static str,
    /// The quantile without an objective.
    default: f64,
}

const LATENCIES: [Latency; 2] = [
    Latency {
        measure: "ttft",
        name: "TTFT",
        summary: |statistics| &statistics.time_to_first_token_seconds,
        distribution: "time_to_first_token_seconds",
        default: 0.99,
    },
    Latency {
        measure: "tpot",
        name: "TPOT",
        summary: |statistics| &statistics.time_per_output_token_seconds,
        distribution: "time_per_output_token_seconds",
        default: 0.5,
    },
];

pub(super) fn charts(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Chart> {
    LATENCIES.iter().filter_map(|latency| latency.chart(routes, colours)).collect()
}

impl Latency {
    fn chart(&self, routes: &[&RouteReport], colours: &Colours<'_>) -> Option<Chart> {
        let levels = shape::levels(routes);
        let quantile = self.quantile(routes)?;
        let levels = &levels;
        let dots = routes.iter().enumerate().flat_map(|(index, route)| {
            route.levels().filter(|phase| !phase.is_search()).filter_map(move |phase| {
                let at = (phase.statistics.queries_per_second?, self.value(phase, quantile)?);
                let (class, shape) = (colours.class(route), shape::of(phase, levels));
                Some((index, Dot { class, shape, at, name: self.name(phase, quantile) }))
            })
        });
        let dots: Vec<(usize, Dot)> = dots.collect();
        if dots.len() < 2 {
            return None;
        }
        let phases = || routes.iter().flat_map(|route| route.levels());
        let objectives = thresholds(phases(), self.measure, Some(quantile));
        let highest = |of: fn(&Dot) -> f64| dots.iter().map(|dot| of(&dot.1)).fold(0.0, f64::max);
        let across = Axis::linear(highest(|dot| dot.at.0), three_digits);
        let end = top(highest(|dot| dot.at.1), objectives.iter().map(|entry| entry.0));
        let up = Axis::linear(end, duration);
        let (right, above) = (axis_end(&across), axis_end(&up));
        let label = format!("{} p{}", self.name, three_digits(quantile * 100.0));
        let title = format!("Throughput and {label}");
        let mut plot = Plot::new(&title, (across, "requests/s (QPS)"), (up, &label));
        let mut description = String::new();
        for (index, dot) in dots.iter().take(MOST_DESCRIBED) {
            let target = routes.get(*index).filter(|_| routes.len() > 1);
            let target = target.map(|route| format!("{} ", route.target)).unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = write!(
                description,
                "{target}{}: {} requests/s, {}; ",
                dot.name,
                three_digits(dot.at.0),
                duration(dot.at.1)
            );
        }
        description.trim_end_matches("; ").clone_into(&mut plot.description);
        for (index, route) in routes.iter().enumerate() {
            let points = dots.iter().filter(|dot| dot.0 == index).map(|dot| Some(dot.1.at));
            let class = format!("{} thin", colours.class(route));
            plot.lines.push(Line { class, points: points.collect() });
        }
        for (seconds, threshold) in objectives {
            let label = objective_label(&threshold, seconds, above);
            plot.objectives.push(Dashed { from: (0.0, seconds), to: (right, seconds), label });
        }
        plot.dots = dots.into_iter().map(|dot| dot.1).collect();
        Some(Chart { title, plot, legend: target_legend(routes, colours) })
    }

    /// The highest quantile with an objective, because a reader compares the dots with it. Without
    /// an objective: the highest quantile that all levels have.
    fn quantile(&self, routes: &[&RouteReport]) -> Option<f64> {
        let phases = || routes.iter().flat_map(|route| route.levels());
        let results = phases().flat_map(|phase| &phase.slo);
        let shares = results.filter(|result| result.measure == self.measure);
        if let Some(highest) = shares.map(|result| result.share).reduce(f64::max) {
            return Some(highest);
        }
        let measured: Vec<&PhaseReport> =
            phases().filter(|phase| (self.summary)(&phase.statistics).count > 0).collect();
        let lower = [self.default, 0.95, 0.9, 0.5];
        let mut lower = lower.into_iter().filter(|quantile| *quantile <= self.default);
        lower.find(|quantile| measured.iter().all(|phase| self.of_all(phase, *quantile).is_some()))
    }

    fn objective<'a>(&self, phase: &'a PhaseReport, quantile: f64) -> Option<&'a ObjectiveResult> {
        let mut results = phase.slo.iter();
        results.find(|one| one.measure == self.measure && is_same(one.share, quantile))
    }

    /// The value of the objective counts failed requests. If so many failed that it is unknown, and
    /// for a level without the objective, this is the quantile of the successes.
    fn value(&self, phase: &PhaseReport, quantile: f64) -> Option<f64> {
        let measured = self.objective(phase, quantile).and_then(|result| result.measured);
        let of_few = || at_quantile(phase.distributions.get(self.distribution)?, quantile);
        measured.or_else(|| self.of_all(phase, quantile)).or_else(of_few)
    }

    /// The quantile of the successes, if there are enough of them.
    fn of_all(&self, phase: &PhaseReport, quantile: f64) -> Option<f64> {
        let Summary { p50, p90, p95, p99, p999, .. } = *(self.summary)(&phase.statistics);
        let known = [(0.5, p50), (0.9, p90), (0.95, p95), (0.99, p99), (0.999, p999)];
        known.into_iter().find(|(share, _)| is_same(*share, quantile))?.1
    }

    /// The name of a dot. It says so if failures make the level miss an objective that the dot
    /// seems to meet.
    fn name(&self, phase: &PhaseReport, quantile: f64) -> String {
        let objective = self.objective(phase, quantile);
        let is_hidden = |result: &ObjectiveResult| result.judged > 0 && result.measured.is_none();
        let failures = if objective.is_some_and(is_hidden) { ", failures" } else { "" };
        format!("{}{failures}", phase.name)
    }
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

/// The lowest value that at least this part of all values does not exceed.
#[allow(clippy::cast_precision_loss)]
pub(super) fn at_quantile(values: &[(f64, u64)], quantile: f64) -> Option<f64> {
    let total: u64 = values.iter().map(|value| value.1).sum();
    let mut count = 0;
    let mut has_enough = |value: &&(f64, u64)| {
        count += value.1;
        count as f64 >= quantile * total as f64 - 1e-9
    };
    values.iter().find(&mut has_enough).map(|value| value.0)
}

/// The value of the last tick.
pub(super) fn axis_end(axis: &Axis) -> f64 {
    axis.ticks.last().map_or(0.0, |tick| tick.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Distributions;

    /// A level whose 20 successes are too few for a p99.
    fn level(name: &str, measured: Option<f64>) -> PhaseReport {
        let ttft = Summary { count: 20, p95: Some(0.2), p90: Some(0.1), ..Summary::default() };
        let values = vec![(0.1, 18), (0.2, 1), (0.4, 1)];
        PhaseReport {
            name: name.to_owned(),
            slo: vec![ObjectiveResult {
                measure: "ttft".to_owned(),
                share: 0.99,
                threshold_seconds: Some(1.0),
                measured,
                judged: 20,
                met: 20,
                passed: true,
                sure: false,
            }],
            statistics: Statistics {
                queries_per_second: Some(5.0),
                time_to_first_token_seconds: ttft,
                ..Statistics::default()
            },
            distributions: Distributions::from([(
                "time_to_first_token_seconds".to_owned(),
                values,
            )]),
            ..PhaseReport::default()
        }
    }

    fn charts_of(phases: Vec<PhaseReport>) -> Vec<Chart> {
        let routes = [RouteReport { phases, ..RouteReport::default() }];
        charts(&[&routes[0]], &Colours::new(&routes))
    }

    #[test]
    fn a_chart_shows_the_quantile_of_the_objective_although_a_level_has_few_requests() {
        let without = PhaseReport { slo: Vec::new(), ..level("no objective", None) };
        let phases = vec![level("few", Some(0.4)), without, level("failing", None)];
        let chart = charts_of(phases).remove(0);
        assert_eq!(chart.title, "Throughput and TTFT p99");
        let dots: Vec<(&str, f64)> =
            chart.plot.dots.iter().map(|dot| (dot.name.as_str(), dot.at.1)).collect();
        assert_eq!(dots, [("few", 0.4), ("no objective", 0.4), ("failing, failures", 0.4)]);
    }

    #[test]
    fn without_an_objective_a_chart_shows_the_highest_quantile_that_all_levels_have() {
        let phases =
            ["one", "two"].map(|name| PhaseReport { slo: Vec::new(), ..level(name, None) });
        let chart = charts_of(phases.to_vec()).remove(0);
        assert_eq!(chart.title, "Throughput and TTFT p95");
        assert!(chart.plot.dots.iter().all(|dot| is_same(dot.at.1, 0.2)));
    }
}
