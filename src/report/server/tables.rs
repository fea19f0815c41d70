//! The tables and the charts of the metrics pages.

use super::ObservedReport;
use crate::check::numbers::{percent, three_digits};
use crate::observe::Quantity;
use crate::report::RouteReport;
use crate::report::chart::{self, Line};
use crate::report::layout::Block;

/// The head of a column and the text of a value.
fn column(quantity: Quantity) -> (&'static str, fn(f64) -> String) {
    match quantity {
        Quantity::RequestsRunning => ("running", three_digits),
        Quantity::RequestsWaiting => ("waiting", three_digits),
        Quantity::KvCacheUse => ("KV cache", whole_percent),
        Quantity::Preemptions => ("preempted/s", three_digits),
        Quantity::PrefixCacheHitRate => ("prefix hits", whole_percent),
        Quantity::GpuUse => ("GPU use", whole_percent),
        Quantity::GpuMemoryUsed => ("GPU memory GiB", gibibytes),
        Quantity::GpuPower => ("GPU power W", three_digits),
        Quantity::CpuUse => ("CPU use", whole_percent),
        Quantity::MemoryUsed => ("memory GiB", gibibytes),
    }
}

const QUANTITIES: [Quantity; 10] = [
    Quantity::RequestsRunning,
    Quantity::RequestsWaiting,
    Quantity::KvCacheUse,
    Quantity::Preemptions,
    Quantity::PrefixCacheHitRate,
    Quantity::GpuUse,
    Quantity::GpuMemoryUsed,
    Quantity::GpuPower,
    Quantity::CpuUse,
    Quantity::MemoryUsed,
];

/// A percentage without decimals. A percentage below 1 % has two digits.
pub(in crate::report) fn whole_percent(fraction: f64) -> String {
    if fraction > 0.0 && fraction < 0.01 {
        return percent(fraction);
    }
    format!("{:.0} %", fraction * 100.0)
}

fn gibibytes(bytes: f64) -> String {
    three_digits(bytes / f64::from(1 << 30))
}

/// Returns one table for each metrics page: a row for each phase, and a column for each quantity.
pub(in crate::report) fn tables(route: &RouteReport) -> Vec<Block> {
    route.observed.iter().filter_map(|page| table(route, page)).collect()
}

fn table(route: &RouteReport, page: &ObservedReport) -> Option<Block> {
    let columns = QUANTITIES.into_iter().filter_map(|quantity| {
        let known = page.quantity(quantity).filter(|known| !known.phases.is_empty())?;
        let (head, show) = column(quantity);
        // The highest hit rate between two pages can be that of a single request.
        let has_max = quantity != Quantity::PrefixCacheHitRate;
        let cell = move |name: &str| {
            let phase = known.phases.iter().find(|phase| phase.phase == name);
            phase.map_or_else(
                || "–".to_owned(),
                |phase| {
                    if has_max {
                        format!("{} / {}", show(phase.mean), show(phase.max))
                    } else {
                        show(phase.mean)
                    }
                },
            )
        };
        Some((head.to_owned(), cell))
    });
    let (heads, cells): (Vec<_>, Vec<_>) = columns.unzip();
    let has_values = |name: &str| {
        page.quantities.iter().any(|known| known.phases.iter().any(|phase| phase.phase == name))
    };
    let rows = route.phases.iter().filter(|phase| has_values(&phase.name)).map(|phase| {
        let cells = cells.iter().map(|cell| cell(&phase.name));
        std::iter::once(phase.name.clone()).chain(cells).collect()
    });
    (!heads.is_empty()).then(|| Block::Table {
        title: format!("The server by phase ({})", page.program),
        columns: std::iter::once(format!("{}, mean / max", page.program)).chain(heads).collect(),
        rows: rows.collect(),
    })
}

/// Returns the charts of all metrics pages, on the time axis of the other charts.
pub(in crate::report) fn charts(route: &RouteReport) -> Vec<Block> {
    let timeline = &route.timeline;
    let line = |page: &ObservedReport, quantity, class, name: &'static str, is_max: bool| {
        let known = page.quantity(quantity)?;
        let values = if is_max { &known.timeline_max } else { &known.timeline_mean };
        let has_values = values.iter().any(Option::is_some);
        has_values.then(|| Line { class, name, values: values.clone() })
    };
    let chart = |title: String, unit: fn(f64) -> String, lines: Vec<Option<Line>>| {
        let lines: Vec<_> = lines.into_iter().flatten().collect();
        let legend = lines.iter().map(|line| (line.class.to_owned(), line.name.to_owned()));
        (!lines.is_empty()).then(|| Block::Chart {
            title,
            legend: legend.collect(),
            svg: chart::svg(&lines, timeline.interval_seconds, unit),
        })
    };
    if timeline.arrivals.len() < 2 || timeline.interval_seconds <= 0.0 {
        return Vec::new();
    }
    let of_page = |page: &ObservedReport| {
        use Quantity::{
            CpuUse, GpuMemoryUsed, GpuPower, GpuUse, KvCacheUse, MemoryUsed, RequestsRunning,
            RequestsWaiting,
        };
        let title = |text: &str| format!("{text} ({})", page.program);
        let mean_and_max = |text: &str, unit, quantity| {
            let lines = vec![
                line(page, quantity, "median", "mean", false),
                line(page, quantity, "max", "maximum", true),
            ];
            chart(title(text), unit, lines)
        };
        let requests = vec![
            line(page, RequestsRunning, "succeeded", "running", false),
            line(page, RequestsWaiting, "failed", "waiting", false),
        ];
        [
            chart(title("Requests at the server"), three_digits, requests),
            mean_and_max("KV cache use", whole_percent, KvCacheUse),
            mean_and_max("GPU use", whole_percent, GpuUse),
            mean_and_max("GPU memory in GiB", gibibytes, GpuMemoryUsed),
            mean_and_max("GPU power in watts", three_digits, GpuPower),
            mean_and_max("CPU use", whole_percent, CpuUse),
            mean_and_max("Memory in GiB", gibibytes, MemoryUsed),
        ]
    };
    route.observed.iter().flat_map(of_page).flatten().collect()
}
