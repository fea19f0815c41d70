//! The report that `llmload run` writes. It is stored as JSON, and rendered as a table, as Markdown
//! and as an HTML page. `llmload compare` reads the JSON of two reports.
//!
//! The report has one part for each route (one scenario on one target). The values are from
//! [`tally`](crate::tally). The field names are the names of the metrics. If there are too few
//! requests for a quantile, the report contains no value instead of a guess. `docs/report.md`
//! explains every field.

mod archive;
mod charts;
pub mod comparison;
mod csv;
mod findings;
mod headline;
mod junit;
mod layout;
mod markdown;
mod merge;
mod objectives;
mod page;
mod render;
mod replay;
mod routes;
mod search;
mod server;
mod sessions;
mod shard;
mod statistics;
mod tables;
mod tested;
mod timeline;
mod totals;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::calendar::rfc3339;
use crate::generator::GeneratorMonitor;
use crate::plan::Scenario;
use crate::protocol::Api;
use crate::schedule::{Load, Shard};
use crate::status::RouteMonitor;
pub use archive::ArchiveReport;
pub use comparison::SideBySide;
pub use csv::csv;
pub use findings::{Code as FindingCode, Finding, Severity};
pub use junit::junit;
pub use layout::{Block, Fact, blocks};
pub use markdown::markdown;
pub use merge::{MergeError, ShardRun, merge};
pub use objectives::ObjectiveResult;
pub use page::{RenderError, html};
pub use render::{styled_text, text};
pub use replay::ReplayReport;
pub use search::{QuantileReport, SearchReport, StepObjective, StepReport};
pub use server::{ObservedPhase, ObservedQuantity, ObservedReport};
pub use sessions::{SessionReport, TurnReport};
pub use shard::ShardReport;
pub use statistics::{Cost, Statistics, Summary, WindowReport};
pub use tested::{PromptProfile, Tested, shell_quoted};
pub use timeline::TimelineReport;
pub use verdict::{Outcome, Reason, ReasonCode, Verdict};

/// The version of the JSON format. It rises if programs for the previous version would misread a
/// report.
pub const FORMAT_VERSION: u32 = 2;

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
    /// The title, the command and the machine of the run.
    pub tested: Tested,
    pub verdict: Verdict,
    /// All distortions of the measurement during the run.
    pub distortions: Vec<Distortion>,
    /// Facts that the reader of the report should know.
    pub findings: Vec<Finding>,
    pub routes: Vec<RouteReport>,
    /// One entry per scenario with several targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub side_by_side: Vec<SideBySide>,
    /// `None` if the run has no archive of failed requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveReport>,
    /// The number of shards, if `llmload merge` has joined their reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// The part of the run that this report covers. `None` for a complete run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardReport>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteReport {
    pub scenario: String,
    pub target: String,
    pub model: String,
    /// The base URL of the target.
    pub address: String,
    /// The key `api` of the target. Empty in older reports, which are about text.
    #[serde(default)]
    pub api: String,
    /// True if the target is the built-in simulator.
    pub simulated: bool,
    /// The version of the server, if the server reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    pub prompts: PromptProfile,
    /// The highest number of output tokens of a request. `None` without text.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The distribution of the gaps between open-loop arrivals.
    pub gaps: String,
    pub ledger: LedgerReport,
    /// The statistics of the complete run. The rates are over the time in which any phase was on.
    pub total: Statistics,
    /// The highest number of output tokens that arrived in one second, estimated as in
    /// [`WindowReport::output_tokens`]. `None` without streaming.
    pub peak_output_tokens_per_second: Option<f64>,
    /// The events after the last phase. They are in no rate.
    pub tail: TailReport,
    /// Every phase of the schedule, in its order. Phases with the same name share an entry.
    pub phases: Vec<PhaseReport>,
    /// One entry per class of failure that occurred, in descending order of the count.
    pub failures: Vec<FailureClass>,
    pub connections: Connections,
    /// `None` without a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Box<ReplayReport>>,
    pub timeline: TimelineReport,
    /// `None` if the prompts have no turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionReport>,
    /// One entry per metrics page of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<ObservedReport>,
    /// The difference between this target and the first target of the scenario, over paired
    /// requests. `None` for the first target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<PairedDifference>,
    /// The distributions behind the quantiles of `total`.
    pub distributions: Distributions,
}

/// Distributions by name: pairs of a value and its count. The values have three significant digits.
pub type Distributions = BTreeMap<String, Vec<(f64, u64)>>;

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

/// The events after the last phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TailReport {
    /// The time from the end of the last phase to the end of the last request.
    pub seconds: f64,
    pub window: WindowReport,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    pub name: String,
    /// The load as text: `constant 5/s`, `concurrency 35`.
    pub load: String,
    /// The level of the load. `None` for a load that has no single level, such as a ramp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The length in the schedule. `None` for a phase that ends after a number of requests, and for
    /// a load without an end.
    pub planned_seconds: Option<f64>,
    /// The number of arrivals in the schedule. `None` if the schedule does not determine it.
    pub planned_arrivals: Option<u64>,
    /// True if the phase began.
    pub sent: bool,
    /// True if the phase began and ended early.
    pub cut: bool,
    /// True if the phase decides nothing.
    pub explore: bool,
    /// The start and the end of each occurrence, in seconds from the start of the schedule. At most
    /// 100 occurrences.
    pub spans: Vec<(f64, f64)>,
    pub statistics: Statistics,
    /// One entry per objective. Empty for a search, because each of its steps is judged separately.
    pub slo: Vec<ObjectiveResult>,
    /// The result of a search. `None` for other phases, and for a search that has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// The same as [`RouteReport::difference`], over the pairs that arrived in the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<PairedDifference>,
    /// The distributions behind the quantiles of `statistics`.
    pub distributions: Distributions,
}

/// The level of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub kind: LevelKind,
    /// Arrivals per second, or the number of requests in flight.
    pub value: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelKind {
    #[default]
    Rate,
    Concurrency,
}

impl LevelKind {
    /// The value in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            LevelKind::Rate => "rate",
            LevelKind::Concurrency => "concurrency",
        }
    }
}

/// A class of failure that occurred.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureClass {
    /// The name of the class.
    pub reason: String,
    /// The party to blame: `target`, `network`, `client` or `policy`.
    pub blame: String,
    pub count: u64,
    /// `count` / the number of finished requests.
    pub share: f64,
    /// The time of the first failure, in the format of RFC 3339.
    pub first: String,
    /// The time of the most recent failure.
    pub last: String,
    /// The message of the most recent failure.
    pub last_message: String,
    pub remedy: String,
}

/// The connections of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// The number of responses on a connection that was opened for the request.
    pub opened: u64,
    /// The number of other responses.
    pub reused: u64,
    /// The number of requests that llmload sent once more on a new connection.
    pub retries: u64,
    /// The time to open a connection, with the DNS lookup and TLS.
    pub connect_seconds: Summary,
}

/// The difference between a target and the first target of its scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// The number of pairs in which both requests succeeded.
    pub pairs: u64,
    pub time_to_first_token: Option<MeanDifference>,
    #[serde(default)]
    pub time_per_output_token: Option<MeanDifference>,
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
    pub error: Option<Reason>,
    /// True if the run was stopped before its schedules ended.
    pub interrupted: bool,
    /// The value of `--for`.
    pub time_limit: Option<Duration>,
    /// The seed of all random choices.
    pub seed: u64,
    /// The shard of this process, and the start that all shards share.
    pub shard: Option<(Shard, SystemTime)>,
    pub generator: &'a GeneratorMonitor,
    /// The scenarios as planned.
    pub scenarios: &'a [Scenario],
    pub tested: Tested,
    pub archive: Option<ArchiveReport>,
    /// The path of the configuration file. `None` if options defined the load.
    pub config_file: Option<String>,
    /// The configuration with masked secrets.
    pub config: String,
}

impl Report {
    /// Creates the report after the run has ended.
    pub fn new(run: RunInfo<'_>, monitors: &[std::sync::Arc<RouteMonitor>]) -> Report {
        let of_routes = monitors.iter().filter_map(|monitor| routes::report(monitor, &run));
        let (routes, sums): (Vec<_>, Vec<_>) = of_routes.unzip();
        let shard = run.shard.map(|(shard, start)| ShardReport::new(shard, start, &run, sums));
        let claims = run.generator.first_distortions().into_iter();
        let distortions: Vec<_> = claims
            .map(|claim| Distortion {
                kind: claim.kind.as_str().to_owned(),
                message: claim.message,
            })
            .collect();
        let end = verdict::End {
            error: run.error,
            interrupted: run.interrupted,
            time_limit: run.time_limit,
        };
        Report {
            llmload_report: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(without_fraction(run.started)),
            seconds: run.duration.as_secs_f64(),
            interrupted: run.interrupted,
            seed: run.seed,
            tested: run.tested,
            findings: findings::find(
                &routes,
                findings::Circumstances {
                    distortions: &distortions,
                    time_limit: run.time_limit,
                    config_file: run.config_file.as_deref(),
                },
            ),
            verdict: verdict::judge(&routes, &distortions, end),
            distortions,
            side_by_side: comparison::side_by_side(&routes),
            routes,
            archive: run.archive,
            shards: None,
            shard,
            config: run.config,
        }
    }
}

impl RouteReport {
    /// False if the responses contain vectors instead of text.
    pub fn generates_text(&self) -> bool {
        self.api != Api::Embeddings.as_str()
    }

    /// The name of the route: its scenario and its target.
    pub fn route(&self) -> String {
        format!("{} → {}", self.scenario, self.target)
    }

    /// The phases that send load. A pause is not one of them.
    pub fn levels(&self) -> impl Iterator<Item = &PhaseReport> {
        self.phases.iter().filter(|phase| !phase.is_pause())
    }

    /// True if a phase has objectives that decide.
    pub fn has_objectives(&self) -> bool {
        self.judged_phases().next().is_some()
    }
}

impl PhaseReport {
    /// Returns `sent`, `cut` or `not sent`.
    pub fn state(&self) -> &'static str {
        match (self.sent, self.cut) {
            (false, _) => "not sent",
            (true, true) => "cut",
            (true, false) => "sent",
        }
    }

    /// True if the phase sends nothing.
    pub fn is_pause(&self) -> bool {
        self.load == Load::Pause.kind()
    }
}

/// Removes the fraction of a second.
fn without_fraction(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
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
}
