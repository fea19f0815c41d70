//! The findings that follow from the metrics pages of the server. Each one has a threshold, and
//! needs enough pages.

#[cfg(test)]
mod tests;

use super::{Code, Draft};
use crate::check::numbers::three_digits;
use crate::observe::Quantity;
use crate::report::RouteReport;
use crate::report::server::{ObservedPhase, ObservedReport, whole_percent};

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

impl ObservedReport {
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

pub(super) fn drafts(route: &RouteReport, is_alone: bool) -> Vec<Draft> {
    let mut drafts = missing_pages(route);
    drafts.extend(server_findings(route, is_alone));
    drafts
}

/// Returns a finding if a page gave no values.
fn missing_pages(route: &RouteReport) -> Vec<Draft> {
    let text = |page: &ObservedReport| {
        let ObservedReport { program, page, reads, failed_reads, last_failed_read, .. } = page;
        let reason = last_failed_read.as_deref();
        Some(match (*reads, reason) {
            (0, reason) => {
                let reason = reason.unwrap_or("the page did not arrive before the end of the run");
                format!("the metrics of {program} at {page} are missing: {reason}")
            }
            (_, Some(reason)) => format!(
                "{failed_reads} of {} reads of the metrics of {program} at {page} failed: {reason}",
                reads + failed_reads
            ),
            (_, None) => return None,
        })
    };
    let texts = route.observed.iter().filter_map(text);
    texts.map(|text| Draft::new(Code::MissingServerMetrics, text)).collect()
}

/// Returns the findings that follow from the metrics pages. `is_alone` is true if no other route
/// of the run sends requests to the server.
fn server_findings(route: &RouteReport, is_alone: bool) -> Vec<Draft> {
    let loads = route
        .phases
        .iter()
        .filter(|_| is_alone)
        .filter_map(|phase| Some((phase.name.as_str(), phase.statistics.requests_in_flight?)));
    let loads: Vec<_> = loads.collect();
    let found = route.observed.iter().flat_map(|page| of_page(page, &loads));
    let draft = |(code, phase, text): (Code, &str, String)| {
        let text = if route.phases.len() > 1 { format!("{phase}: {text}") } else { text };
        Draft { phase: Some(phase.to_owned()), ..Draft::new(code, text) }
    };
    found.map(draft).collect()
}

/// Returns the findings that follow from one page. `loads` contains phases and the mean number of
/// requests that llmload had in flight.
fn of_page<'a>(page: &'a ObservedReport, loads: &[(&'a str, f64)]) -> Vec<(Code, &'a str, String)> {
    let all = [
        waiting(page),
        full_cache(page),
        preemptions(page),
        prefix_cache(page),
        in_flight(page, loads),
    ];
    all.into_iter().flatten().collect()
}

/// A phase and a sentence about it.
type OfPhase<'a> = Option<(Code, &'a str, String)>;

fn waiting(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::RequestsWaiting, |phase| phase.mean)?;
    (phase.mean >= MANY_WAITING).then(|| {
        let text = format!(
            "on average, {} requests waited in the queue of {} (at most {}); a wait adds to TTFT",
            three_digits(phase.mean),
            page.program,
            three_digits(phase.max)
        );
        (Code::ServerQueue, phase.phase.as_str(), text)
    })
}

fn full_cache(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::KvCacheUse, |phase| phase.max)?;
    (phase.max >= FULL_CACHE).then(|| {
        let text = format!(
            "the KV cache of {} was full: {} in use at most, {} on average",
            page.program,
            whole_percent(phase.max),
            whole_percent(phase.mean)
        );
        (Code::KvCacheFull, phase.phase.as_str(), text)
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
        (Code::Preemptions, phase.phase.as_str(), text)
    })
}

fn prefix_cache(page: &ObservedReport) -> OfPhase<'_> {
    let phase = page.highest(Quantity::PrefixCacheHitRate, |phase| phase.mean)?;
    (phase.mean >= HIGH_HIT_RATE).then(|| {
        let text = format!(
            "{} found {} of the prompt tokens in its prefix cache, so TTFT is lower than for new \
             prompts",
            page.program,
            whole_percent(phase.mean)
        );
        (Code::ServerPrefixCache, phase.phase.as_str(), text)
    })
}

/// Compares the requests at the server with the requests that llmload had in flight.
fn in_flight<'a>(page: &ObservedReport, loads: &[(&'a str, f64)]) -> OfPhase<'a> {
    let mean = |quantity, name: &str| {
        page.phases(quantity).find(|phase| phase.phase == name).map(|phase| phase.mean)
    };
    let compared = loads.iter().filter_map(|(name, in_flight)| {
        let at_server = mean(Quantity::RequestsRunning, name)?
            + mean(Quantity::RequestsWaiting, name).unwrap_or_default();
        (*in_flight >= MIN_IN_FLIGHT).then_some((*name, at_server, *in_flight))
    });
    let (name, at_server, in_flight) = compared.max_by(|one, other| one.2.total_cmp(&other.2))?;
    let numbers = format!(
        "{} had {} requests on average, and llmload had {} in flight",
        page.program,
        three_digits(at_server),
        three_digits(in_flight)
    );
    if at_server > OTHER_CLIENTS * in_flight {
        let text = format!("{numbers}, so other clients used the server too");
        Some((Code::OtherClients, name, text))
    } else if at_server < MISSING_AT_SERVER * in_flight {
        let text = format!(
            "{numbers}, so the others waited before the server, for example in a gateway, or other \
             replicas served them"
        );
        Some((Code::WaitBeforeServer, name, text))
    } else {
        None
    }
}
