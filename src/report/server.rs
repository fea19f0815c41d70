//! The server's side of a run in a report: the values of the metrics pages, and the findings that
//! follow from them.

use serde::{Deserialize, Serialize};

use super::RouteReport;
use super::chart::{self, Line};
use super::layout::Block;
use crate::check::numbers::{percent, three_digits};
use crate::observe::{Level, Levels, ObservedPage, PageState, Quantity, Series};
use crate::tally::Timeline;

/// A phase needs this many pages for a finding about it.
const ENOUGH_PAGES: u64 = 5;
/// A KV cache is full from this use on. Engines keep a small part free.
const FULL_CACHE: f64 = 0.95;
/// From this mean number of waiting requests on, there is a finding.
const MANY_WAITING: f64 = 1.0;
/// From this prefix cache hit rate on, there is a finding.
const HIGH_HIT_RATE: f64 = 0.5;
/// If the server has more requests than llmload has in flight by this factor, other clients send
/// requests too.
const OTHER_CLIENTS: f64 = 1.5;
/// If the server has less than this part of the requests that llmload has in flight, the others
/// wait elsewhere.
const MISSING_AT_SERVER: f64 = 0.5;
/// With fewer requests in flight, the two numbers are not compared.
const MIN_IN_FLIGHT: f64 = 4.0;

/// The values of one metrics page of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservedReport {
    /// The key of `observe` in the file, such as `vllm`.
    pub source: String,
    /// The name of the program, such as `vLLM`.
    pub program: String,
    /// The URL of the page, without user, password and query.
    pub page: String,
    /// The number of reads of the page that gave values.
    pub reads: u64,
    /// The number of other reads.
    pub failed_reads: u64,
    /// The reason of the last failed read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_read: Option<String>,
    /// One entry per quantity that has values.
    pub quantities: Vec<ObservedQuantity>,
}

/// A quantity of a metrics page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservedQuantity {
    pub quantity: String,
    pub unit: String,
    /// One entry per phase with values, in the order of the schedule.
    pub phases: Vec<ObservedPhase>,
    /// The mean in each interval of the timeline of the route.
    pub timeline_mean: Vec<Option<f64>>,
    /// The highest value in each interval of the timeline of the route.
    pub timeline_max: Vec<Option<f64>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservedPhase {
    pub phase: String,
    /// The number of pages that were read during the phase.
    pub pages: u64,
    pub mean: f64,
    pub max: f64,
}

/// Returns the values of all metrics pages of a route. `phases` are the names of its phases, and
/// `timeline` is its timeline.
pub(super) fn observed<'a>(
    pages: &[std::sync::Arc<ObservedPage>],
    phases: impl Iterator<Item = &'a str> + Clone,
    timeline: &Timeline,
) -> Vec<ObservedReport> {
    pages.iter().map(|page| page_report(page, phases.clone(), timeline)).collect()
}

fn page_report<'a>(
    page: &ObservedPage,
    phases: impl Iterator<Item = &'a str> + Clone,
    timeline: &Timeline,
) -> ObservedReport {
    let PageState { series, read, failed, last_failure } = page.read();
    let intervals = timeline.origin().map_or_else(Vec::new, |origin| {
        series.timeline(origin, timeline.width(), timeline.intervals().len())
    });
    let quantities = series.quantities().enumerate().filter_map(|(index, quantity)| {
        let at = |levels: &Levels| levels.get(index).copied().flatten();
        let phases: Vec<_> = phases
            .clone()
            .filter_map(|name| {
                let phase = series.phase(name)?;
                let level = at(&phase.levels)?;
                let (mean, max) = (level.mean(), level.max());
                Some(ObservedPhase { phase: name.to_owned(), pages: phase.pages, mean, max })
            })
            .collect();
        let each = |value: fn(&Level) -> f64| -> Vec<Option<f64>> {
            intervals.iter().map(|levels| at(levels).as_ref().map(value)).collect()
        };
        let (timeline_mean, timeline_max) = (each(Level::mean), each(Level::max));
        let has_values = !phases.is_empty() || timeline_mean.iter().any(Option::is_some);
        has_values.then(|| ObservedQuantity {
            quantity: quantity.as_str().to_owned(),
            unit: quantity.unit().to_owned(),
            phases,
            timeline_mean,
            timeline_max,
        })
    });
    ObservedReport {
        source: page.source.as_str().to_owned(),
        program: page.source.to_string(),
        page: page.address.clone(),
        reads: read,
        failed_reads: failed,
        last_failed_read: last_failure,
        quantities: quantities.collect(),
    }
}

impl ObservedReport {
    fn quantity(&self, quantity: Quantity) -> Option<&ObservedQuantity> {
        self.quantities.iter().find(|known| known.quantity == quantity.as_str())
    }

    /// Returns the values of a quantity in each phase with enough pages.
    fn phases(&self, quantity: Quantity) -> impl Iterator<Item = &ObservedPhase> {
        let phases = self.quantity(quantity).map_or(&[][..], |known| &known.phases);
        phases.iter().filter(|phase| phase.pages >= ENOUGH_PAGES)
    }

    /// Returns the phase in which this value of a quantity is highest.
    fn highest(
        &self,
        quantity: Quantity,
        value: fn(&ObservedPhase) -> f64,
    ) -> Option<&ObservedPhase> {
        self.phases(quantity).max_by(|one, other| value(one).total_cmp(&value(other)))
    }
}

// ---- Findings ----------------------------------------------------------------------------------

/// Returns a sentence if a page gave no values.
pub(super) fn missing_pages(route: &RouteReport) -> Vec<String> {
    let text = |page: &ObservedReport| {
        let ObservedReport { program, page, reads, failed_reads, last_failed_read, .. } = page;
        let reason = last_failed_read.as_deref()?;
        Some(match reads {
            0 => format!("the metrics of {program} at {page} are missing: {reason}"),
            _ => format!(
                "{failed_reads} of {} reads of the metrics of {program} at {page} failed: {reason}",
                reads + failed_reads
            ),
        })
    };
    route.observed.iter().filter_map(text).collect()
}

/// Returns the sentences that follow from the metrics pages. `is_alone` is true if no other route
/// of the run sends requests to the server.
pub(super) fn server_findings(route: &RouteReport, is_alone: bool) -> Vec<String> {
    let of_page = |page| {
        let compared = if is_alone { in_flight(route, page) } else { None };
        [waiting(page), full_cache(page), preemptions(page), prefix_cache(page), compared]
    };
    let texts = route.observed.iter().flat_map(of_page).flatten();
    let prefix = |(phase, text): (&str, String)| {
        if route.phases.len() > 1 { format!("{phase}: {text}") } else { text }
    };
    texts.map(prefix).collect()
}

/// A phase and a sentence about it.
type OfPhase<'a> = Option<(&'a str, String)>;

fn waiting(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::RequestsWaiting, |phase| phase.mean)?;
    (phase.mean >= MANY_WAITING).then(|| {
        let text = format!(
            "on average, {} requests waited in the queue of {} (at most {}); a wait adds to TTFT",
            three_digits(phase.mean),
            page.program,
            three_digits(phase.max)
        );
        (phase.phase.as_str(), text)
    })
}

fn full_cache(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::KvCacheUse, |phase| phase.max)?;
    (phase.max >= FULL_CACHE).then(|| {
        let text = format!(
            "the KV cache of {} was full: {} in use at most, {} on average",
            page.program,
            percent(phase.max),
            percent(phase.mean)
        );
        (phase.phase.as_str(), text)
    })
}

fn preemptions(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::Preemptions, |phase| phase.mean)?;
    (phase.mean > 0.0).then(|| {
        let text = format!(
            "{} preempted {} requests per second, because its KV cache was full; a preempted \
             request is computed again, which adds to TPOT",
            page.program,
            three_digits(phase.mean)
        );
        (phase.phase.as_str(), text)
    })
}

fn prefix_cache(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::PrefixCacheHitRate, |phase| phase.mean)?;
    (phase.mean >= HIGH_HIT_RATE).then(|| {
        let text = format!(
            "{} found {} of the prompt tokens in its prefix cache, so TTFT is lower than for new \
             prompts",
            page.program,
            percent(phase.mean)
        );
        (phase.phase.as_str(), text)
    })
}

/// Compares the requests at the server with the requests that llmload had in flight.
fn in_flight<'a>(route: &'a RouteReport, page: &ObservedReport) -> OfPhase<'a> {
    let mean = |quantity, name: &str| {
        page.phases(quantity).find(|phase| phase.phase == name).map(|phase| phase.mean)
    };
    let compared = route.phases.iter().filter_map(|phase| {
        let name = phase.name.as_str();
        let at_server = mean(Quantity::RequestsRunning, name)?
            + mean(Quantity::RequestsWaiting, name).unwrap_or_default();
        let in_flight = phase.statistics.requests_in_flight?;
        (in_flight >= MIN_IN_FLIGHT).then_some((name, at_server, in_flight))
    });
    let (name, at_server, in_flight) = compared.max_by(|one, other| one.2.total_cmp(&other.2))?;
    let numbers = format!(
        "{} had {} requests on average, and llmload had {} in flight",
        page.program,
        three_digits(at_server),
        three_digits(in_flight)
    );
    if at_server > OTHER_CLIENTS * in_flight {
        Some((name, format!("{numbers}, so other clients used the server too")))
    } else if at_server < MISSING_AT_SERVER * in_flight {
        let text = format!(
            "{numbers}, so the others waited before the server, for example in a gateway, or other \
             replicas served them"
        );
        Some((name, text))
    } else {
        None
    }
}

// ---- Tables and charts -------------------------------------------------------------------------

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
fn whole_percent(fraction: f64) -> String {
    if fraction > 0.0 && fraction < 0.01 {
        return percent(fraction);
    }
    format!("{:.0} %", fraction * 100.0)
}

fn gibibytes(bytes: f64) -> String {
    three_digits(bytes / f64::from(1 << 30))
}

/// Returns one table for each metrics page: a row for each phase, and a column for each quantity.
pub(super) fn tables(route: &RouteReport) -> Vec<Block> {
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
                |phase| match has_max {
                    true => format!("{} / {}", show(phase.mean), show(phase.max)),
                    false => show(phase.mean),
                },
            )
        };
        Some((head.to_owned(), cell))
    });
    let (heads, cells): (Vec<_>, Vec<_>) = columns.unzip();
    let rows = route.phases.iter().map(|phase| {
        let cells = cells.iter().map(|cell| cell(&phase.name));
        std::iter::once(phase.name.clone()).chain(cells).collect()
    });
    (!heads.is_empty()).then(|| Block::Table {
        title: format!("Server: {}, mean / maximum", page.program),
        columns: std::iter::once("phase".to_owned()).chain(heads).collect(),
        rows: rows.collect(),
    })
}

/// Returns the charts of all metrics pages, on the time axis of the other charts.
pub(super) fn charts(route: &RouteReport) -> Vec<Block> {
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
