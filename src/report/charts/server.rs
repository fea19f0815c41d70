//! The server's side over time: the values of its metrics pages, on the same axis of time as the
//! values of llmload.

use super::axis::Axis;
use super::over_time::Clock;
use super::plot::Line;
use super::{Chart, Colours, Entry};
use crate::check::numbers::three_digits;
use crate::observe::Quantity;
use crate::report::server::whole_percent;
use crate::report::{ObservedReport, RouteReport};

/// Bytes in a GiB.
const GIBIBYTE: f64 = 1_073_741_824.0;

/// A line of a chart: the quantity, its name in the legend, and whether it is the maximum.
type Row = (Quantity, &'static str, bool);

/// The content of a chart.
struct Content {
    title: &'static str,
    unit: &'static str,
    label: fn(f64) -> String,
    /// The values are divided by this number.
    scale: f64,
    rows: [Row; 2],
}

impl Content {
    fn mean_and_max(title: &'static str, quantity: Quantity) -> Content {
        let rows = [(quantity, "mean", false), (quantity, "maximum", true)];
        Content { title, unit: "in use", label: whole_percent, scale: 1.0, rows }
    }

    fn in_unit(self, unit: &'static str, scale: f64) -> Content {
        Content { unit, label: three_digits, scale, ..self }
    }
}

/// The charts of all metrics pages of all routes.
pub(super) fn charts(routes: &[&RouteReport], colours: &Colours<'_>) -> Vec<Chart> {
    let Some(clock) = Clock::new(routes) else { return Vec::new() };
    let contents = [
        Content {
            title: "Requests at the server",
            unit: "requests",
            label: three_digits,
            scale: 1.0,
            rows: [
                (Quantity::RequestsRunning, "running", false),
                (Quantity::RequestsWaiting, "waiting", false),
            ],
        },
        Content::mean_and_max("KV cache use", Quantity::KvCacheUse),
        Content::mean_and_max("GPU use", Quantity::GpuUse),
        Content::mean_and_max("GPU memory", Quantity::GpuMemoryUsed).in_unit("GiB", GIBIBYTE),
        Content::mean_and_max("GPU power", Quantity::GpuPower).in_unit("watts", 1.0),
        Content::mean_and_max("CPU use", Quantity::CpuUse),
        Content::mean_and_max("Memory", Quantity::MemoryUsed).in_unit("GiB", GIBIBYTE),
    ];
    let mut charts = Vec::new();
    for route in routes {
        let of = if routes.len() > 1 { format!(" at {}", route.target) } else { String::new() };
        for page in &route.observed {
            let class = colours.class(route);
            let of_page = contents.iter();
            let of_page = of_page.filter_map(|content| content.chart(route, page, class, &clock));
            charts.extend(of_page.map(|chart| {
                let title = format!("{}{of} ({})", chart.title, page.program);
                Chart { title, ..chart }
            }));
        }
    }
    charts
}

impl Content {
    /// A chart in the colour of the target. The second line is dashed.
    fn chart(
        &self,
        route: &RouteReport,
        page: &ObservedReport,
        colour: &str,
        clock: &Clock,
    ) -> Option<Chart> {
        let values = |(quantity, _, is_max): Row| -> Option<Vec<Option<f64>>> {
            let known = page.quantity(quantity)?;
            let values = if is_max { &known.timeline_max } else { &known.timeline_mean };
            let scaled = values.iter().map(|value| value.map(|value| value / self.scale));
            values.iter().any(Option::is_some).then(|| scaled.collect())
        };
        let rows = self.rows.into_iter().filter_map(|row| Some((row.1, values(row)?)));
        let rows: Vec<(&str, Vec<Option<f64>>)> = rows.collect();
        let highest = rows.iter().flat_map(|row| &row.1).flatten().copied().reduce(f64::max)?;
        let mut plot = clock.plot(self.title, self.unit, Axis::linear(highest, self.label));
        let mut legend = Vec::new();
        for ((name, values), pattern) in rows.iter().zip(["", " p1"]) {
            let class = format!("{colour}{pattern}");
            legend.push(Entry::line(&class, (*name).to_owned()));
            plot.lines.push(Line { class, points: clock.line(route, values) });
        }
        plot.description = format!("Up to {} {}.", (self.label)(highest), self.unit);
        Some(Chart { title: self.title.to_owned(), plot, legend })
    }
}
