//! Facts that the reader of a report should know before reading the numbers, such as dropped
//! arrivals or a prefix cache.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::cut_phases;
use super::{RouteReport, server};
use crate::check::numbers::{count, duration};
use crate::event::DropReason;
use crate::measurement::Anomaly;
use crate::slo::Share;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A value of the report is misleading without this finding.
    Warning,
    Note,
}

/// One sentence about the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub text: String,
}

/// If the p99 of the dispatch lag exceeds this number of seconds, there is a finding. The number is
/// half of the default `max_lag`.
const HIGH_LAG_SECONDS: f64 = 0.1;
/// If TTFT from the due instant exceeds TTFT from sending by this factor, there is a finding. Then
/// requests wait in llmload or for a connection, and not only for the server.
const HIGH_WAITING_RATIO: f64 = 1.5;
/// If there are fewer sent requests than this for each connection retry, there is a finding.
const MANY_SENT_PER_RETRY: u64 = 100;

/// If more than this percentage of the successes has an anomaly, there is a finding.
const COMMON: Share = Share::percent(5);

/// `time_limit` is the value of `--for`.
pub(super) fn find(routes: &[RouteReport], time_limit: Option<Duration>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in routes {
        let prefix = route.prefix(routes);
        let mut add = |severity, texts: Vec<String>| {
            findings.extend(
                texts.into_iter().map(|text| Finding { severity, text: format!("{prefix}{text}") }),
            );
        };
        if route.simulated {
            let text = "the target is the built-in simulator, not a model";
            add(Severity::Note, vec![text.to_owned()]);
        }
        add(Severity::Warning, dropped(route));
        add(Severity::Warning, aborted(route));
        add(Severity::Warning, Vec::from_iter(high_lag(route)));
        add(Severity::Warning, Vec::from_iter(waiting_before_sending(route)));
        add(Severity::Warning, Vec::from_iter(missing_usage(route)));
        add(Severity::Warning, Vec::from_iter(coalesced(route)));
        add(Severity::Note, Vec::from_iter(retried_connections(route)));
        add(Severity::Note, Vec::from_iter(prefix_cache(route)));
        add(Severity::Note, Vec::from_iter(too_few_requests(route)));
        add(Severity::Warning, server::missing_pages(route));
        let is_alone = routes.iter().filter(|other| other.address == route.address).count() == 1;
        add(Severity::Note, server::server_findings(route, is_alone));
        let cut = time_limit.and_then(|limit| cut_phases(route, limit));
        add(Severity::Warning, Vec::from_iter(cut));
    }
    findings
}

fn dropped(route: &RouteReport) -> Vec<String> {
    let text = |(reason, dropped): (&String, &u64)| {
        let cause = match DropReason::ALL.into_iter().find(|known| known.as_str() == reason) {
            Some(DropReason::MaxConcurrency) => {
                "max_concurrency was reached, because the endpoint did not keep up with the rate"
            }
            Some(DropReason::Late) => "llmload itself was delayed for longer than max_lag",
            Some(DropReason::Paused) => "the load was paused",
            Some(DropReason::Draining) | None => "the run was stopping",
        };
        format!("{} arrivals were dropped ({reason}): {cause}", integer(*dropped))
    };
    route.ledger.dropped.iter().map(text).collect()
}

fn aborted(route: &RouteReport) -> Vec<String> {
    let text = |(reason, aborted): (&String, &u64)| {
        let aborted = integer(*aborted);
        format!(
            "llmload aborted {aborted} requests ({reason}); TTFT and inter-chunk latency include the part \
             that had arrived, durations and rates do not"
        )
    };
    route.ledger.aborted.iter().map(text).collect()
}

fn high_lag(route: &RouteReport) -> Option<String> {
    let lag = route.total.dispatch_lag_seconds.p99.filter(|lag| *lag > HIGH_LAG_SECONDS)?;
    Some(format!("1 % of the requests were sent more than {} late", duration(lag)))
}

fn waiting_before_sending(route: &RouteReport) -> Option<String> {
    let from_sending = route.total.time_to_first_token_seconds.p99?;
    let from_due = route.total.time_to_first_token_from_schedule_seconds.p99?;
    (from_due > from_sending * HIGH_WAITING_RATIO).then(|| {
        format!(
            "TTFT p99 is {} from the due instant, but {} from sending; a user waits for \
             the longer of the two times",
            duration(from_due),
            duration(from_sending)
        )
    })
}

fn missing_usage(route: &RouteReport) -> Option<String> {
    let statistics = &route.total;
    let (uncounted, chunks) = (integer(statistics.uncounted), integer(statistics.output_chunks));
    match statistics.uncounted {
        0 => None,
        all if all == statistics.succeeded => Some(format!(
            "the endpoint sent no valid count of output tokens (usage), so output tokens, TPOT and \
             TPS are unknown; llmload received {chunks} chunks with text"
        )),
        _ => Some(format!(
            "the endpoint sent no valid count of output tokens (usage) for {uncounted} of {} \
             successes; output tokens, TPOT and TPS do not include these successes",
            integer(statistics.succeeded)
        )),
    }
}

/// A few retries are normal. Many slow the load down, and each one adds to the TTFT of its request.
fn retried_connections(route: &RouteReport) -> Option<String> {
    let (retries, sent) = (route.total.connection_retries, route.total.sent);
    (retries.saturating_mul(MANY_SENT_PER_RETRY) > sent).then(|| {
        format!(
            "llmload sent {} of {} requests once more, because their connections ended before the \
             server could work on them; their TTFT includes the first attempt; if the server closes \
             each connection after its response, set `keep_alive: off`; if it closes idle \
             connections, set `keep_alive` below its idle timeout",
            integer(retries),
            integer(sent)
        )
    })
}

fn coalesced(route: &RouteReport) -> Option<String> {
    let RouteReport { total, .. } = route;
    let coalesced = *total.response_anomalies.get(Anomaly::Coalesced.as_str())?;
    COMMON.is_exceeded(coalesced, total.succeeded).then(|| {
        format!(
            "all tokens arrived at once in {} of {} successes, so these successes have no TPOT and \
             no TPS; check for a proxy that buffers the stream, and for a server that does not \
             stream",
            integer(coalesced),
            integer(total.succeeded)
        )
    })
}

fn prefix_cache(route: &RouteReport) -> Option<String> {
    let (cached, input) = (route.total.cached_input_tokens?, route.total.input_tokens?);
    (cached * 2 > input).then(|| {
        format!(
            "{} of {} input tokens were found in a prefix cache, so TTFT is lower than for new prompts",
            integer(cached),
            integer(input)
        )
    })
}

fn too_few_requests(route: &RouteReport) -> Option<String> {
    let first_token = &route.total.time_to_first_token_seconds;
    (first_token.count > 0 && first_token.p99.is_none())
        .then(|| format!("{} requests are too few for a p99, which needs 100", first_token.count))
}

#[allow(clippy::cast_precision_loss)]
fn integer(number: u64) -> String {
    count(number as f64)
}
