//! Joins the parts of one route.

use std::collections::BTreeMap;

use super::super::shard::RouteSums;
use super::super::statistics::{Cost, TokensPerChunk};
use super::super::{
    Distributions, FailureClass, LedgerReport, ObservedReport, PhaseReport, ReplayReport,
    RouteReport, Statistics, TailReport, TimelineReport, WindowReport, objectives, routes,
};
use crate::tally::{PhaseTally, TallySnapshot};

/// Joins the parts of a route, in the order of the shards.
pub(super) fn merge(parts: &[(&RouteReport, &RouteSums)]) -> RouteReport {
    let Some((first, of_first)) = parts.first() else { return RouteReport::default() };
    let mut sums = (*of_first).clone();
    // The totals are not in the file.
    sums.tally.add_up_phases();
    for (_, others) in parts.iter().skip(1) {
        sums.add(others);
    }
    let TallySnapshot { arrived, window, tail, timeline, replay, turns, .. } = &sums.tally;
    let sessions = parts.iter().filter_map(|part| part.0.sessions.clone());
    let sessions = sessions.reduce(|sum, other| sum.add(&other));
    let sessions = sessions.zip(turns.as_ref());
    let per_chunk = TokensPerChunk::new(arrived);
    let ledger = ledger(parts);
    let quantile = first.timeline.time_to_first_token_quantile;
    let timeline = TimelineReport::new(timeline, None, per_chunk, quantile);
    RouteReport {
        // The model of a target that was never ready on one machine is unknown there.
        model: parts
            .iter()
            .map(|part| &part.0.model)
            .find(|model| !model.is_empty())
            .cloned()
            .unwrap_or_default(),
        server_version: versions(parts),
        total: with_cost(
            Statistics::new(arrived, window, per_chunk, None, has_goodput(parts, |one| &one.total)),
            parts.iter().map(|part| &part.0.total),
        ),
        peak_output_tokens_per_second: peak_output_tokens(&sums.tally, per_chunk),
        tail: TailReport {
            seconds: tail.length.as_secs_f64(),
            window: WindowReport::new(tail, per_chunk),
        },
        phases: (0..first.phases.len())
            .filter_map(|index| phase(parts, &sums, index, per_chunk))
            .collect(),
        failures: failures(parts, ledger.finished),
        connections: routes::connections(arrived),
        replay: replay.as_ref().map(|counts| Box::new(ReplayReport::new(counts))),
        observed: observed(parts, &timeline),
        timeline,
        difference: routes::paired_difference(sums.difference),
        distributions: routes::distributions(arrived),
        sessions: sessions
            .map(|(sessions, turns)| sessions.measured(window.length.as_secs_f64(), turns)),
        ledger,
        ..(*first).clone()
    }
}

/// Joins a phase.
fn phase(
    parts: &[(&RouteReport, &RouteSums)],
    sums: &RouteSums,
    index: usize,
    per_chunk: TokensPerChunk,
) -> Option<PhaseReport> {
    let PhaseTally { arrived, window, .. } = sums.tally.phases.get(index)?;
    let planned = sums.planned.get(index)?;
    let of_shards: Vec<&PhaseReport> =
        parts.iter().filter_map(|part| part.0.phases.get(index)).collect();
    let first = *of_shards.first()?;
    let has_goodput = of_shards.iter().any(|phase| phase.statistics.goodput_per_second.is_some());
    let statistics = with_cost(
        Statistics::new(arrived, window, per_chunk, None, has_goodput),
        of_shards.iter().map(|phase| &phase.statistics),
    );
    let sent = window.length.as_nanos() > 0;
    let spans = window.spans.iter().map(|(from, to)| (from.as_secs_f64(), to.as_secs_f64()));
    Some(PhaseReport {
        level: planned.level,
        planned_arrivals: planned.arrivals,
        sent,
        // A phase of a shard is incomplete if it is shorter than planned.
        cut: sent && of_shards.iter().any(|phase| phase.cut),
        spans: spans.collect(),
        slo: objectives::results_again(&first.slo, arrived),
        difference: routes::paired_difference(*sums.phase_differences.get(index)?),
        distributions: if statistics.sent > 0 {
            routes::distributions(arrived)
        } else {
            Distributions::new()
        },
        statistics,
        ..first.clone()
    })
}

fn has_goodput(
    parts: &[(&RouteReport, &RouteSums)],
    statistics: impl Fn(&RouteReport) -> &Statistics,
) -> bool {
    parts.iter().any(|part| statistics(part.0).goodput_per_second.is_some())
}

/// Adds up the costs. The price of a token is the same on all shards.
fn with_cost<'a>(
    statistics: Statistics,
    shards: impl Iterator<Item = &'a Statistics>,
) -> Statistics {
    let costs = shards.filter_map(|shard| shard.cost.as_ref());
    let cost = costs.fold(None, |sum: Option<Cost>, cost| {
        let before = sum.map_or(0.0, |sum| sum.amount);
        Some(Cost { amount: before + cost.amount, currency: cost.currency.clone() })
    });
    Statistics { cost, ..statistics }
}

/// Returns the highest number of output tokens in one interval of a second. `None` if the intervals
/// are longer.
fn peak_output_tokens(tally: &TallySnapshot, per_chunk: TokensPerChunk) -> Option<f64> {
    let is_by_second = tally.timeline.width().as_secs() == 1;
    let chunks = tally.timeline.intervals().iter().map(|interval| interval.chunks);
    let highest = chunks.max().filter(|chunks| is_by_second && *chunks > 0);
    highest.map(|chunks| per_chunk.tokens(chunks))
}

fn ledger(parts: &[(&RouteReport, &RouteSums)]) -> LedgerReport {
    let mut sum = LedgerReport::default();
    let add = |sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>| {
        for (name, count) in counts {
            *sum.entry(name.clone()).or_default() += count;
        }
    };
    for (route, _) in parts {
        let ledger = &route.ledger;
        sum.arrivals += ledger.arrivals;
        sum.started += ledger.started;
        sum.finished += ledger.finished;
        sum.succeeded += ledger.succeeded;
        add(&mut sum.dropped, &ledger.dropped);
        add(&mut sum.failed, &ledger.failed);
        add(&mut sum.aborted, &ledger.aborted);
    }
    sum
}

#[allow(clippy::cast_precision_loss)]
fn failures(parts: &[(&RouteReport, &RouteSums)], finished: u64) -> Vec<FailureClass> {
    let mut classes: Vec<FailureClass> = Vec::new();
    for class in parts.iter().flat_map(|part| &part.0.failures) {
        let Some(known) = classes.iter_mut().find(|known| known.reason == class.reason) else {
            classes.push(class.clone());
            continue;
        };
        let latest = if class.last > known.last { class } else { &*known };
        *known = FailureClass {
            count: known.count + class.count,
            // Texts in the format of RFC 3339 have the order of their times.
            first: known.first.clone().min(class.first.clone()),
            ..latest.clone()
        };
    }
    for class in &mut classes {
        class.share = class.count as f64 / finished.max(1) as f64;
    }
    classes.sort_by_key(|class| std::cmp::Reverse(class.count));
    classes
}

/// Names all versions. Behind a load balancer, the shards can reach different servers.
fn versions(parts: &[(&RouteReport, &RouteSums)]) -> Option<String> {
    let mut versions: Vec<&str> = Vec::new();
    for version in parts.iter().filter_map(|part| part.0.server_version.as_deref()) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    (!versions.is_empty()).then(|| versions.join(", "))
}

/// Returns the values of the metrics pages as the first shard read them whose intervals have the
/// length of the timeline. All shards read the same pages.
fn observed(
    parts: &[(&RouteReport, &RouteSums)],
    timeline: &TimelineReport,
) -> Vec<ObservedReport> {
    #[allow(clippy::float_cmp)] // Both are whole numbers of seconds.
    let mut fitting =
        parts.iter().filter(|part| part.0.timeline.interval_seconds == timeline.interval_seconds);
    let mut observed = fitting.next().map(|part| part.0.observed.clone()).unwrap_or_default();
    for quantity in observed.iter_mut().flat_map(|page| &mut page.quantities) {
        quantity.timeline_mean.resize(timeline.arrivals.len(), None);
        quantity.timeline_max.resize(timeline.arrivals.len(), None);
    }
    observed
}
