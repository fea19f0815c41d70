//! The report that `llmload run` writes. It is stored as JSON, and rendered as a table, as Markdown
//! and as an HTML page. `llmload compare` reads the JSON of two reports.
//!
//! The report has one part for each route (one scenario on one target). The values are from
//! [`tally`](crate::tally). The field names are the names of the metrics. If there are too few
//! requests for a quantile, the report contains no value instead of a guess. `docs/report.md`
//! explains every field.

mod chart;
pub mod comparison;
mod figures;
mod findings;
mod layout;
mod render;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::calendar::rfc3339;
use crate::event::{AbortReason, DropReason};
use crate::generator::GeneratorMonitor;
use crate::ledger::LedgerCounts;
use crate::measurement::Failure;
use crate::pairing::DifferenceSums;
use crate::remedy::DiagnosedTarget;
use crate::status::RouteMonitor;
use crate::tally::{Tally, TimelineInterval};
pub use figures::{Statistics, Summary};
pub use findings::Severity;
pub use layout::{Block, blocks};
pub use render::{RenderError, html, markdown, text};
pub use verdict::{ObjectiveResult, Verdict};

/// The version of the JSON format. It rises if programs for the previous version would misread a
/// report.
pub const FORMAT_VERSION: u32 = 1;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format: [`FORMAT_VERSION`].
    pub llmload_report: u32,
    /// The version of llmload.
    pub version: String,
    /// The start time, in the format of RFC 3339.
    pub started: String,
    /// The length of the run, including the wait for the target and the warm-up.
    pub seconds: f64,
    /// True if the run was stopped before its schedules ended.
    pub interrupted: bool,
    /// The seed of all random choices.
    pub seed: u64,
    pub verdict: Verdict,
    /// All distortions of the measurement during the run.
    pub distortions: Vec<Distortion>,
    /// Facts that the reader of the report should know.
    pub findings: Vec<findings::Finding>,
    /// The JSON key is `streams`, because a rename would break the format.
    #[serde(rename = "streams")]
    pub routes: Vec<RouteReport>,
    /// The configuration with masked secrets.
    pub config: String,
}

/// A way in which llmload itself spoiled the measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distortion {
    /// A value of the label `kind` of `llmload_generator_distortion`.
    pub kind: String,
    pub message: String,
}

/// The report of one scenario on one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteReport {
    pub scenario: String,
    pub target: String,
    pub model: String,
    /// The base URL of the target.
    pub address: String,
    /// True if the target is the built-in simulator.
    pub simulated: bool,
    pub ledger: LedgerReport,
    /// The statistics of the complete run.
    pub total: Statistics,
    /// One entry per phase, in the order of the schedule. Phases with the same name share an entry.
    pub phases: Vec<PhaseReport>,
    /// One entry per objective.
    pub slo: Vec<ObjectiveResult>,
    /// One entry per class of failure that occurred.
    pub failures: Vec<FailureClass>,
    pub timeline: TimelineReport,
    /// The difference between this target and the first target of the scenario, over paired
    /// requests. `None` for the first target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<PairedDifference>,
    /// The distributions behind the quantiles: pairs of a value and its count. The values have
    /// three significant digits.
    pub distributions: BTreeMap<String, Vec<(f64, u64)>>,
}

/// The outcome of every arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReport {
    pub arrivals: u64,
    /// The number of arrivals that llmload did not send, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The number of requests that llmload sent.
    pub started: u64,
    /// The number of requests that succeeded or failed.
    pub finished: u64,
    pub succeeded: u64,
    /// The number of failed requests, by class of failure.
    pub failed: BTreeMap<String, u64>,
    /// The number of requests that llmload ended itself, by reason.
    pub aborted: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    pub name: String,
    /// The JSON key is `figures`, because a rename would break the format.
    #[serde(rename = "figures")]
    pub statistics: Statistics,
}

/// A class of failure that occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureClass {
    /// The name of the class.
    pub reason: String,
    /// The party to blame: `target`, `network`, `client` or `policy`.
    pub blame: String,
    pub count: u64,
    /// The message of the most recent failure.
    pub last_message: String,
    pub remedy: String,
}

/// Counts and TTFT over time. The lists have one value per interval. All intervals have the same
/// length, and the first interval begins with the first arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimelineReport {
    /// The length of one interval.
    pub interval_seconds: f64,
    pub arrivals: Vec<u64>,
    pub dropped: Vec<u64>,
    pub succeeded: Vec<u64>,
    pub failed: Vec<u64>,
    /// The median TTFT of the requests whose first token arrived in the interval, with one
    /// significant digit.
    pub time_to_first_token_p50_seconds: Vec<Option<f64>>,
    /// The highest TTFT of the same requests.
    pub time_to_first_token_max_seconds: Vec<Option<f64>>,
}

/// The difference between a target and the first target of its scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// The number of pairs in which both requests succeeded.
    pub pairs: u64,
    pub time_to_first_token: Option<MeanDifference>,
    pub request_duration: Option<MeanDifference>,
}

/// The time at this target minus the time at the first target, as a mean over all pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanDifference {
    pub mean_seconds: f64,
    /// Half the width of the 95 % confidence interval. `None` for fewer than 30 pairs.
    pub margin_seconds: Option<f64>,
}

/// The parts of a report that belong to the run, not to a route.
#[derive(Debug)]
pub struct RunInfo<'a> {
    pub started: SystemTime,
    /// The length of the run, including the wait for the target and the warm-up.
    pub duration: Duration,
    /// The error that ended the run, if any.
    pub error: Option<String>,
    /// True if the run was stopped before its schedules ended.
    pub interrupted: bool,
    /// The seed of all random choices.
    pub seed: u64,
    pub generator: &'a GeneratorMonitor,
    /// The configuration with masked secrets.
    pub config: String,
}

impl Report {
    /// Creates the report after the run has ended.
    pub fn new(run: RunInfo<'_>, monitors: &[std::sync::Arc<RouteMonitor>]) -> Report {
        let routes: Vec<RouteReport> =
            monitors.iter().filter_map(|monitor| route_report(monitor)).collect();
        let claims = run.generator.first_distortions().into_iter();
        let distortions: Vec<_> = claims
            .map(|claim| Distortion {
                kind: claim.kind.as_str().to_owned(),
                message: claim.message,
            })
            .collect();
        Report {
            llmload_report: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(without_fraction(run.started)),
            seconds: run.duration.as_secs_f64(),
            interrupted: run.interrupted,
            seed: run.seed,
            verdict: verdict::judge(&routes, &distortions, run.interrupted, run.error),
            findings: findings::find(&routes),
            distortions,
            routes,
            config: run.config,
        }
    }
}

impl RouteReport {
    /// The name of the route: its scenario and its target.
    pub fn route(&self) -> String {
        format!("{} → {}", self.scenario, self.target)
    }
}

/// Removes the fraction of a second.
fn without_fraction(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn route_report(monitor: &RouteMonitor) -> Option<RouteReport> {
    let tally: &Tally = monitor.tally.as_deref()?;
    let (total, phases, timeline) = tally.read();
    let (counts, info) = (monitor.state.ledger.counts(), monitor.info());
    let diagnosed = DiagnosedTarget { target: &info.configured, address: &info.address };
    let failures = monitor.incidents.last_failures().into_iter().map(|incident| FailureClass {
        reason: incident.detail.failure.as_str().to_owned(),
        blame: incident.detail.failure.blame().as_str().to_owned(),
        count: counts
            .failures()
            .find(|(failure, _)| *failure == incident.detail.failure)
            .map_or(0, |f| f.1),
        remedy: diagnosed.remedy(&incident.detail),
        last_message: incident.detail.message,
    });
    let failures = failures.collect();
    let distributions = [
        ("time_to_first_token_seconds", &total.time_to_first_token),
        ("time_per_output_token_seconds", &total.time_per_output_token),
        ("request_duration_seconds", &total.request_duration),
        ("output_tokens_per_second", &total.output_tokens_per_second),
    ];
    let slo = tally.slo().map(|slo| verdict::objective_results(slo, &total)).unwrap_or_default();
    Some(RouteReport {
        scenario: monitor.scenario.clone(),
        target: monitor.target.clone(),
        model: monitor.model.get().cloned().unwrap_or_default(),
        address: info.address.clone(),
        simulated: info.simulated,
        ledger: ledger_report(&counts),
        total: Statistics::new(&total),
        phases: phases
            .into_iter()
            .map(|phase| PhaseReport {
                name: phase.name,
                statistics: Statistics::new(&phase.statistics),
            })
            .collect(),
        slo,
        failures,
        timeline: TimelineReport::new(timeline.width().as_secs_f64(), timeline.intervals()),
        difference: paired_difference(monitor),
        distributions: distributions
            .into_iter()
            .map(|(name, values)| (name.to_owned(), values.values().collect()))
            .collect(),
    })
}

fn ledger_report(counts: &LedgerCounts) -> LedgerReport {
    fn by_reason<R>(
        all: impl Iterator<Item = (R, u64)>,
        name: impl Fn(R) -> &'static str,
    ) -> BTreeMap<String, u64> {
        let some = all.filter(|(_, count)| *count > 0);
        some.map(|(reason, count)| (name(reason).to_owned(), count)).collect()
    }
    LedgerReport {
        arrivals: counts.arrivals,
        dropped: by_reason(counts.dropped(), DropReason::as_str),
        started: counts.started,
        finished: counts.finished,
        succeeded: counts.succeeded,
        failed: by_reason(counts.failures(), Failure::as_str),
        aborted: by_reason(counts.aborted(), AbortReason::as_str),
    }
}

fn paired_difference(monitor: &RouteMonitor) -> Option<PairedDifference> {
    let all = monitor.difference.snapshot();
    let mean = |sums: DifferenceSums| {
        Some(MeanDifference { mean_seconds: sums.mean()?, margin_seconds: sums.margin() })
    };
    (all.duration.count > 0).then(|| PairedDifference {
        pairs: all.duration.count,
        time_to_first_token: mean(all.first_token),
        request_duration: mean(all.duration),
    })
}

impl TimelineReport {
    fn new(interval_seconds: f64, intervals: &[TimelineInterval]) -> TimelineReport {
        fn each<T>(
            intervals: &[TimelineInterval],
            value: impl Fn(&TimelineInterval) -> T,
        ) -> Vec<T> {
            intervals.iter().map(value).collect()
        }
        let times = |interval: &TimelineInterval| interval.time_to_first_token.clone();
        TimelineReport {
            interval_seconds,
            arrivals: each(intervals, |interval| interval.arrivals),
            dropped: each(intervals, |interval| interval.dropped),
            succeeded: each(intervals, |interval| interval.succeeded),
            failed: each(intervals, |interval| interval.failed),
            time_to_first_token_p50_seconds: each(intervals, |interval| {
                let times = times(interval)?;
                times.quantile(0.5).or(times.mean())
            }),
            time_to_first_token_max_seconds: each(intervals, |interval| {
                Some(times(interval)?.extremes()?.1)
            }),
        }
    }
}

impl LedgerReport {
    /// The number of dropped arrivals, for any reason.
    pub fn total_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// The number of failed requests, of any class.
    pub fn total_failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The number of requests that failed in llmload or its machine.
    pub fn total_failed_in_client(&self) -> u64 {
        let failed = self.failed.iter().filter(|(reason, _)| verdict::is_of_client(reason));
        failed.map(|(_, count)| count).sum()
    }
}
