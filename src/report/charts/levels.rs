//! Throughput against latency: one dot for each level. Where the line turns upwards, the target is
//! saturated.

use std::fmt::Write as _;

use super::axis::Axis;
use super::plot::{Dashed, Dot, Line, Plot};
use super::{Chart, colour, objective_label, target_legend, thresholds, top};
use crate::check::numbers::{duration, three_digits};
use crate::report::{PhaseReport, RouteReport, Statistics, Summary};

/// The most dots that the description names.
const MOST_DESCRIBED: usize = 30;

/// A latency, as an objective and as statistics.
struct Latency {
    measure: &'static str,
    name: &'static str,
    summary: fn(&Statistics) -> &Summary,
    /// The quantile without an objective.
    default: f64,
}

const LATENCIES: [Latency; 2] = [
    Latency {
        measure: "ttft",
        name: "TTFT",
        summary: |statistics| &statistics.time_to_first_token_seconds,
        default: 0.99,
    },
    Latency {
        measure: "tpot",
        name: "TPOT",
        summary: |statistics| &statistics.time_per_output_token_seconds,
        default: 0.5,
    },
];

pub(super) fn charts(routes: &[&RouteReport]) -> Vec<Chart> {
    LATENCIES.iter().filter_map(|latency| latency.chart(routes)).collect()
}

impl Latency {
    fn chart(&self, routes: &[&RouteReport]) -> Option<Chart> {
        let quantile = self.quantile(routes)?;
        let dots = routes.iter().enumerate().flat_map(|(index, route)| {
            route.levels().filter(|phase| !phase.is_search()).filter_map(move |phase| {
                let at = (phase.statistics.queries_per_second?, self.value(phase, quantile)?);
                Some((index, Dot { class: colour(index), at, name: phase.name.clone() }))
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
        for index in 0..routes.len() {
            let points = dots.iter().filter(|dot| dot.0 == index).map(|dot| Some(dot.1.at));
            plot.lines
                .push(Line { class: format!("{} thin", colour(index)), points: points.collect() });
        }
        for (seconds, threshold) in objectives {
            let label = objective_label(&threshold, seconds, above);
            plot.objectives.push(Dashed { from: (0.0, seconds), to: (right, seconds), label });
        }
        plot.dots = dots.into_iter().map(|dot| dot.1).collect();
        Some(Chart { title, plot, legend: target_legend(routes) })
    }

    /// The quantile of the objective, because a reader compares the dots with the objective. If
    /// there is no objective, or a level has no such value: the highest quantile of all levels.
    fn quantile(&self, routes: &[&RouteReport]) -> Option<f64> {
        let phases = || routes.iter().flat_map(|route| route.levels());
        let results = || phases().flat_map(|phase| &phase.slo);
        let objective = results().find(|result| result.measure == self.measure);
        let measured: Vec<&PhaseReport> =
            phases().filter(|phase| (self.summary)(&phase.statistics).count > 0).collect();
        let lower = [self.default, 0.95, 0.9, 0.5];
        let lower = lower.into_iter().filter(|quantile| *quantile <= self.default);
        let mut candidates = objective.map(|result| result.share).into_iter().chain(lower);
        candidates
            .find(|quantile| measured.iter().all(|phase| self.value(phase, *quantile).is_some()))
    }

    /// The value of the objective counts failed requests. If so many failed that it is unknown, the
    /// quantile of the successes is shown.
    fn value(&self, phase: &PhaseReport, quantile: f64) -> Option<f64> {
        let is_same = |share: f64| (share - quantile).abs() < 1e-9;
        let mut results = phase.slo.iter();
        let result = results.find(|one| one.measure == self.measure && is_same(one.share));
        let Summary { p50, p90, p95, p99, p999, .. } = *(self.summary)(&phase.statistics);
        let known = [(0.5, p50), (0.9, p90), (0.95, p95), (0.99, p99), (0.999, p999)];
        let of_successes = known.into_iter().find(|(share, _)| is_same(*share));
        let measured = result.and_then(|result| result.measured);
        measured.or_else(|| of_successes.and_then(|(_, value)| value))
    }
}

/// The value of the last tick.
pub(super) fn axis_end(axis: &Axis) -> f64 {
    axis.ticks.last().map_or(0.0, |tick| tick.0)
}
