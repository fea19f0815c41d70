//! The course of a run: throughput, requests in flight, TTFT and failures over time. Bands show the
//! phases.

use std::collections::BTreeMap;

use super::axis::Axis;
use super::plot::{Band, Bar, Dashed, Line, Plot};
use super::{Chart, Colours, Entry, name, objective_label, target_legend, top};
use crate::check::numbers::{count, duration, three_digits};
use crate::report::{PhaseReport, RouteReport, TimelineReport};

/// The CSS classes of the colours of failures. No target has one of them.
const COLOURS: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];
/// The classes of failure with a separate colour. The other classes share the last colour.
const MOST_CLASSES: usize = COLOURS.len() - 1;

const TIME: &str = "time since the start of the schedule";

pub(super) fn charts(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Chart> {
    let Some(clock) = Clock::new(routes) else { return Vec::new() };
    let estimate = routes.iter().any(|route| route.total.is_token_estimate);
    let unit = if estimate { "≈ tokens/s, from chunks" } else { "tokens/s" };
    let tokens: Vec<_> =
        routes.iter().map(|route| route.timeline.output_tokens_per_second.clone()).collect();
    let in_flight = routes.iter().map(|route| {
        route.timeline.requests_in_flight.iter().map(|number| Some(*number)).collect()
    });
    let in_flight: Vec<_> = in_flight.collect();
    let charts = [
        clock.chart(routes, colours, ("Output tokens per second", unit), &tokens),
        clock.chart(routes, colours, ("Requests in flight", "requests"), &in_flight),
        first_token(routes, colours, &clock),
    ];
    charts.into_iter().flatten().collect()
}

/// The charts of failures and of dropped arrivals. Without failures, there is no chart.
pub(super) fn failures(routes: &[&RouteReport]) -> Vec<Chart> {
    let Some(clock) = Clock::new(routes) else { return Vec::new() };
    let charts = routes.iter().flat_map(|route| {
        let of = if routes.len() > 1 { format!(" at {}", route.target) } else { String::new() };
        let timeline = &route.timeline;
        let dropped = BTreeMap::from([("dropped".to_owned(), timeline.dropped.clone())]);
        let failures = clock.stacked(timeline, "failures/s", &timeline.failures);
        let dropped = clock.stacked(timeline, "drops/s", &dropped);
        let titles = ["Failures by class", "Dropped arrivals"];
        titles.into_iter().zip([failures, dropped]).filter_map(move |(title, chart)| {
            Some(Chart { title: format!("{title}{of}"), ..chart? })
        })
    });
    charts.collect()
}

/// The axis of time that all charts of a scenario share.
pub(super) struct Clock {
    end: f64,
    bands: Vec<Band>,
}

impl Clock {
    /// Returns `None` if no route has at least two intervals.
    #[allow(clippy::cast_precision_loss)]
    pub fn new(routes: &[&RouteReport]) -> Option<Clock> {
        let is_drawn = |timeline: &TimelineReport| {
            timeline.arrivals.len() >= 2 && timeline.interval_seconds > 0.0
        };
        let ends = routes.iter().filter(|route| is_drawn(&route.timeline)).map(|route| {
            let TimelineReport { interval_seconds, start_seconds, arrivals, .. } = &route.timeline;
            let last = route.phases.iter().flat_map(|phase| &phase.spans);
            let last = last.map(|span| span.1).fold(0.0, f64::max) + route.tail.seconds;
            let intervals = arrivals.len() as f64;
            // The last interval can be longer than the run.
            last.max(start_seconds + (intervals - 1.0) * interval_seconds)
        });
        let end = ends.fold(0.0, f64::max);
        let first = routes.first().filter(|_| end > 0.0)?;
        let bands = first.levels().flat_map(|phase| {
            let band = |(from, to): &(f64, f64)| Band {
                from: *from,
                to: to.min(end),
                name: phase.name.clone(),
                short: short_name(phase),
            };
            phase.spans.iter().map(band)
        });
        let mut bands: Vec<Band> = bands.collect();
        bands.sort_by(|one, other| one.from.total_cmp(&other.from));
        Some(Clock { end, bands })
    }

    pub fn plot(&self, name: &str, unit: &str, y: Axis) -> Plot {
        let bands = self.bands.clone();
        Plot { bands, ..Plot::new(name, (Axis::time(self.end), TIME), (y, unit)) }
    }

    /// A chart with one line per target; `None` without values.
    fn chart(
        &self,
        routes: &[&RouteReport],
        colours: &Colours<'_>,
        (title, unit): (&str, &str),
        values: &[Vec<Option<f64>>],
    ) -> Option<Chart> {
        let highest = highest(values.iter())?;
        let mut plot = self.plot(title, unit, Axis::linear(highest, three_digits));
        for (route, values) in routes.iter().zip(values) {
            let line = self.line(route, values);
            plot.lines.push(Line { class: colours.class(route).to_owned(), points: line });
        }
        plot.description = format!("Up to {} {unit}.", three_digits(highest));
        Some(Chart { title: title.to_owned(), plot, legend: target_legend(routes, colours) })
    }

    /// The points of a line, each in the middle of its interval.
    #[allow(clippy::cast_precision_loss)]
    pub fn line(&self, route: &RouteReport, values: &[Option<f64>]) -> Vec<Option<(f64, f64)>> {
        let TimelineReport { interval_seconds, start_seconds, .. } = route.timeline;
        let point = |(index, value): (usize, &Option<f64>)| {
            let from = start_seconds + index as f64 * interval_seconds;
            let to = (from + interval_seconds).min(self.end);
            Some((f64::midpoint(from, to.max(from)), (*value)?))
        };
        values.iter().enumerate().map(point).collect()
    }

    /// Stacked bars of counts per second; `None` if all counts are zero.
    #[allow(clippy::cast_precision_loss)]
    fn stacked(
        &self,
        timeline: &TimelineReport,
        unit: &str,
        counts: &BTreeMap<String, Vec<u64>>,
    ) -> Option<Chart> {
        let total = |counts: &Vec<u64>| counts.iter().sum::<u64>();
        let mut classes: Vec<(&str, Vec<u64>)> = counts
            .iter()
            .filter(|(_, counts)| total(counts) > 0)
            .map(|(name, counts)| (name.as_str(), counts.clone()))
            .collect();
        classes.sort_by_key(|(_, counts)| std::cmp::Reverse(total(counts)));
        if classes.len() > MOST_CLASSES + 1 {
            let rest = classes.split_off(MOST_CLASSES);
            let mut others = vec![0; timeline.arrivals.len()];
            for (_, counts) in rest {
                for (sum, count) in others.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
            classes.push(("other", others));
        }
        let (width, start) = (timeline.interval_seconds, timeline.start_seconds);
        let mut bars = Vec::new();
        let mut highest = 0.0_f64;
        for interval in 0..timeline.arrivals.len() {
            let from = start + interval as f64 * width;
            let mut low = 0.0;
            for (index, (_, counts)) in classes.iter().enumerate() {
                let number = counts.get(interval).copied().unwrap_or_default();
                if number > 0 && from < self.end {
                    let high = low + number as f64 / width;
                    let to = (from + width).min(self.end);
                    let class = COLOURS.get(index).copied().unwrap_or_default();
                    bars.push(Bar { class, from, to, low, high });
                    low = high;
                }
            }
            highest = highest.max(low);
        }
        if bars.is_empty() {
            return None;
        }
        let all = COLOURS.iter().zip(&classes).map(|(class, (name, counts))| {
            Entry::area(class, format!("{name}: {}", count(total(counts) as f64)))
        });
        let legend: Vec<Entry> = all.collect();
        let named: Vec<&str> = legend.iter().map(|entry| entry.name.as_str()).collect();
        let description = format!("{}.", named.join(", "));
        let axis = Axis::linear(highest, three_digits);
        let plot = Plot { description, bars, ..self.plot("", unit, axis) };
        Some(Chart { title: String::new(), plot, legend })
    }
}

/// The name of a phase without the kind of its load: `5/s` for `constant 5/s`.
fn short_name(phase: &PhaseReport) -> String {
    let level = phase.name.split_once(' ').filter(|_| phase.name == phase.load);
    level.map_or_else(|| phase.name.clone(), |(_, level)| level.to_owned())
}

fn highest<'a>(all: impl Iterator<Item = &'a Vec<Option<f64>>>) -> Option<f64> {
    all.flatten().flatten().copied().reduce(f64::max)
}

/// The quantile of TTFT over time that belongs to the objective: its name and its values.
fn high_quantile(timeline: &TimelineReport) -> (String, Vec<Option<f64>>) {
    match timeline.time_to_first_token_quantile {
        Some(quantile) => (
            format!("p{}", three_digits(quantile * 100.0)),
            timeline.time_to_first_token_quantile_seconds.clone(),
        ),
        None => ("p99".to_owned(), timeline.time_to_first_token_p99_seconds.clone()),
    }
}

/// The quantile of the objective and the median of TTFT, with the objective of each phase.
fn first_token(routes: &[&RouteReport], colours: &Colours<'_>, clock: &Clock) -> Option<Chart> {
    let quantiles = |route: &RouteReport| {
        let timeline = &route.timeline;
        let (name, high) = high_quantile(timeline);
        let median = timeline.time_to_first_token_p50_seconds.clone();
        [(name, "", high), ("p50".to_owned(), " thin p1", median)]
    };
    let all: Vec<_> = routes.iter().map(|route| quantiles(route)).collect();
    let highest = highest(all.iter().flatten().map(|line| &line.2))?;
    let objectives: Vec<(&PhaseReport, f64, String)> = objectives(routes).collect();
    let axis = Axis::linear(top(highest, objectives.iter().map(|entry| entry.1)), duration);
    let above = axis.ticks.last().map_or(0.0, |tick| tick.0);
    let shown = all.first().map_or("p99", |lines| &*lines[0].0);
    let title = format!("TTFT over time: {shown} and p50");
    let mut plot = clock.plot(&title, "TTFT", axis);
    let mut legend = Vec::new();
    for (route, lines) in routes.iter().zip(all) {
        for (quantile, class, values) in lines {
            let class = format!("{}{class}", colours.class(route));
            let of =
                if routes.len() > 1 { format!("{} ", name(route, routes)) } else { String::new() };
            legend.push(Entry::line(&class, format!("{of}{quantile}")));
            plot.lines.push(Line { class, points: clock.line(route, &values) });
        }
    }
    plot.description = format!("Up to {}.", duration(highest));
    let mut labelled: Vec<String> = Vec::new();
    for (phase, seconds, threshold) in &objectives {
        for (from, to) in &phase.spans {
            let label = objective_label(threshold, *seconds, above);
            let is_new = !labelled.contains(&label);
            labelled.push(label.clone());
            plot.objectives.push(Dashed {
                from: (*from, *seconds),
                to: (to.min(clock.end), *seconds),
                label: if is_new { label } else { String::new() },
            });
        }
    }
    Some(Chart { title, plot, legend })
}

/// The objectives of TTFT whose quantile the chart shows: the phase, the threshold in seconds, and
/// the text of the objective. All targets of a scenario have the same objectives.
fn objectives<'a>(
    routes: &[&'a RouteReport],
) -> impl Iterator<Item = (&'a PhaseReport, f64, String)> + use<'a> {
    let phases = routes.first().copied().into_iter().flat_map(RouteReport::levels);
    let high = routes.first().and_then(|route| route.timeline.time_to_first_token_quantile);
    let shown = [0.5, high.unwrap_or(0.99)];
    phases.flat_map(move |phase| {
        let is_shown = move |share: f64| shown.iter().any(|other| (other - share).abs() < 1e-9);
        let of_ttft = phase.slo.iter().filter(|result| result.measure == "ttft");
        let results = of_ttft.filter(move |result| is_shown(result.share));
        results.filter_map(move |result| {
            let label = format!("{} {}", result.quantile(), result.threshold());
            Some((phase, result.threshold_seconds?, label))
        })
    })
}
