//! The server's side of a run in a report: the values of the metrics pages, the findings that
//! follow from them, and their tables.

mod tables;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::observe::{Level, Levels, ObservedPage, PageState, Quantity};
use crate::tally::Timeline;
pub(super) use tables::{tables, whole_percent};

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
pub(super) fn observed(
    pages: &[Arc<ObservedPage>],
    phases: &[&str],
    timeline: &Timeline,
) -> Vec<ObservedReport> {
    pages.iter().map(|page| page_report(page, phases, timeline)).collect()
}

fn page_report(page: &ObservedPage, phases: &[&str], timeline: &Timeline) -> ObservedReport {
    let PageState { series, read, failed, last_failure } = page.read();
    let intervals = timeline.origin().map_or_else(Vec::new, |origin| {
        series.timeline(origin, timeline.width(), timeline.intervals().len())
    });
    let quantities = series.quantities().enumerate().filter_map(|(index, quantity)| {
        let at = |levels: &Levels| levels.get(index).copied().flatten();
        let phases: Vec<_> = phases
            .iter()
            .filter_map(|name| {
                let phase = series.phase(name)?;
                let level = at(&phase.levels)?;
                let (mean, max) = (level.mean(), level.max());
                Some(ObservedPhase { phase: (*name).to_owned(), pages: phase.pages, mean, max })
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
    pub(super) fn quantity(&self, quantity: Quantity) -> Option<&ObservedQuantity> {
        self.quantities.iter().find(|known| known.quantity == quantity.as_str())
    }
}
