//! The charts of the page, as SVG without scripts. All targets of a scenario share each chart, and
//! so do scenarios that differ only in their target.
//!
//! A colour always means a target, and a shape always means a level. The classes of failure have
//! other colours.

mod axis;
mod distribution;
mod labels;
mod legend;
mod levels;
mod over_time;
mod plot;
mod search;
mod server;
mod shape;

use super::layout::Block;
use super::{PhaseReport, Report, RouteReport, comparison};
pub(super) use legend::Entry;
use plot::Plot;
pub(super) use plot::escaped;

/// The classes of the colours. They are defined in the style sheet of the page, and people with
/// colour blindness can distinguish them.
const COLOURS: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

/// If an objective is higher than the values by more than this factor, the chart does not reach up
/// to it, because the values would be too small.
const HIGHEST_OBJECTIVE: f64 = 3.0;

/// Returns the charts of all routes.
pub(super) fn charts(report: &Report) -> Vec<Block> {
    let groups = comparison::groups(&report.routes);
    let several = groups.len() > 1;
    let colours = &Colours::new(&report.routes);
    let all = groups.iter().flat_map(|routes| {
        let scenarios = comparison::names(routes.iter().map(|route| route.scenario.as_str()));
        let charts = search::charts(routes, colours)
            .into_iter()
            .chain(levels::charts(routes, colours))
            .chain(over_time::charts(routes, colours))
            .chain(server::charts(routes, colours))
            .chain(distribution::charts(routes, colours))
            .chain(over_time::failures(routes));
        charts.map(move |chart| chart.block(several.then_some(&scenarios)))
    });
    all.collect()
}

/// A chart with its title and its legend.
struct Chart {
    title: String,
    plot: Plot,
    legend: Vec<Entry>,
}

impl Chart {
    /// `scenarios` has the names of the scenarios, if the report has charts of others too.
    fn block(self, scenarios: Option<&String>) -> Block {
        let title = match scenarios {
            Some(name) => format!("{name}: {}", self.title),
            None => self.title,
        };
        let plot = Plot { name: title.clone(), ..self.plot };
        Block::Chart { title, svg: plot.svg(), legend: self.legend }
    }
}

/// The colour of each target, which is the same in all charts of a report.
struct Colours<'a>(Vec<&'a str>);

impl<'a> Colours<'a> {
    fn new(routes: &'a [RouteReport]) -> Colours<'a> {
        let mut targets: Vec<&str> = Vec::new();
        for route in routes {
            if !targets.contains(&route.target.as_str()) {
                targets.push(&route.target);
            }
        }
        Colours(targets)
    }

    /// The class of the colour. A report with more targets than colours repeats the colours.
    fn class(&self, route: &RouteReport) -> &'static str {
        let index = self.0.iter().position(|target| *target == route.target).unwrap_or(0);
        COLOURS.get(index % COLOURS.len()).copied().unwrap_or_default()
    }
}

/// The entries of a legend for the lines of the targets. One target needs none.
fn target_legend(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Entry> {
    let entry = |route: &&RouteReport| Entry::line(colours.class(route), name(route, routes));
    if routes.len() > 1 { routes.iter().map(entry).collect() } else { Vec::new() }
}

/// The name of a target in a legend, with its model if the targets have different models.
fn name(route: &RouteReport, routes: &[&RouteReport]) -> String {
    let is_same = routes.iter().all(|other| other.model == route.model);
    if is_same { route.target.clone() } else { format!("{} ({})", route.target, route.model) }
}

/// The top of an axis for values up to `highest`, with those objectives that are not much higher.
fn top(highest: f64, objectives: impl Iterator<Item = f64>) -> f64 {
    objectives.filter(|objective| *objective <= highest * HIGHEST_OBJECTIVE).fold(highest, f64::max)
}

/// The label of an objective. The arrow means that the objective is above the chart.
fn objective_label(threshold: &str, seconds: f64, axis_end: f64) -> String {
    let arrow = if seconds > axis_end { "↑ " } else { "" };
    format!("{arrow}objective {threshold}")
}

/// The distinct thresholds of an objective in all phases: the seconds, and the text with the
/// quantile, such as `p99 1 s`.
fn thresholds<'a>(
    phases: impl Iterator<Item = &'a PhaseReport>,
    measure: &str,
    share: Option<f64>,
) -> Vec<(f64, String)> {
    let mut found: Vec<(f64, String)> = Vec::new();
    for objective in phases.flat_map(|phase| &phase.slo) {
        let is_share = share.is_none_or(|share| (objective.share - share).abs() < 1e-9);
        if let Some(seconds) = objective.threshold_seconds
            && objective.measure == measure
            && is_share
        {
            let entry = (seconds, format!("{} {}", objective.quantile(), objective.threshold()));
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_colour_in_all_scenarios_of_a_report() {
        let route = |scenario: &str, target: &str| RouteReport {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            ..RouteReport::default()
        };
        let pairs = [("one", "a"), ("one", "b"), ("two", "b"), ("two", "c"), ("three", "a")];
        let routes = pairs.map(|(scenario, target)| route(scenario, target));
        let colours = Colours::new(&routes);
        let classes = routes.each_ref().map(|route| colours.class(route));
        assert_eq!(classes, ["c0", "c1", "c1", "c2", "c0"]);
    }
}
