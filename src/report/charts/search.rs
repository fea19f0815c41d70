//! The steps of a search: throughput against TTFT, with one dot for each step. The knee of this
//! curve is the capacity.

use super::axis::Axis;
use super::levels::axis_end;
use super::plot::{Dashed, Dot, Plot};
use super::{Chart, objective_label, top};
use crate::check::numbers::{duration, three_digits};
use crate::report::{RouteReport, SearchReport};

/// The colour of a step that meets the objectives, and of one that misses them.
const CLASSES: (&str, &str) = ("c0", "c1");

pub(super) fn charts(routes: &[&RouteReport]) -> Vec<Chart> {
    let phases = routes.iter().flat_map(|route| &route.phases);
    phases.filter_map(|phase| chart(&phase.name, phase.search.as_ref()?)).collect()
}

fn chart(phase: &str, search: &SearchReport) -> Option<Chart> {
    let dots = search.steps.iter().filter_map(|step| {
        let class = if is_met(step.verdict.as_ref()?) { CLASSES.0 } else { CLASSES.1 };
        let times = &step.time_to_first_token_seconds;
        let latency = times.p99.or(times.p90).or(times.p50)?;
        Some(Dot { class, at: (step.requests_per_second, latency), name: three_digits(step.level) })
    });
    let mut dots: Vec<Dot> = dots.collect();
    if dots.len() < 2 {
        return None;
    }
    let highest = |of: fn(&Dot) -> f64| dots.iter().map(of).fold(0.0, f64::max);
    let across = Axis::linear(highest(|dot| dot.at.0), three_digits);
    let threshold = search.ttft_threshold_seconds;
    // A step far above the capacity would press all other dots into one line.
    let limit = threshold.map_or(f64::INFINITY, |threshold| threshold * 3.0);
    let end = top(highest(|dot| dot.at.1).min(limit), threshold.into_iter());
    let up = Axis::linear(end, duration);
    let (right, above) = (axis_end(&across), axis_end(&up));
    for dot in &mut dots {
        dot.at.1 = dot.at.1.min(above);
    }
    let title = format!("{phase}: throughput and TTFT p99 of each step");
    let mut plot = Plot::new(&title, (across, "requests/s (QPS)"), (up, "TTFT p99"));
    plot.description.clone_from(&search.sentence);
    plot.objectives = threshold
        .map(|seconds| {
            let label = objective_label(&duration(seconds), seconds, above);
            Dashed { from: (0.0, seconds), to: (right, seconds), label }
        })
        .into_iter()
        .collect();
    plot.dots = dots;
    let legend = [(CLASSES.0, "meets the objectives"), (CLASSES.1, "misses them")];
    let legend = legend.map(|(class, name)| (class.to_owned(), name.to_owned())).to_vec();
    Some(Chart { title, plot, legend })
}

fn is_met(verdict: &String) -> bool {
    verdict == "met" || verdict == "probably_met"
}
