//! What a finite run amounted to: a value that is written as JSON and read again to be compared, and
//! from which the table, the Markdown and the page are laid out.
//!
//! Figures are those of [`tally`](crate::tally); names are those of the metrics. A quantile that too few
//! requests stand for is left out rather than guessed.

mod chart;
pub mod comparison;
mod figures;
mod findings;
mod layout;
mod verdict;
mod written;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::calendar::rfc3339;
use crate::event::{AbortReason, DropReason};
use crate::generator::Generator;
use crate::ledger::LedgerCounts;
use crate::measurement::Failure;
use crate::pairing::Sums;
use crate::remedy::DiagnosedTarget;
use crate::status::RouteMonitor;
use crate::tally::{Interval, Tally};
pub use figures::{Figures, Summary};
pub use findings::Severity;
pub use layout::{Block, layout};
pub use verdict::{Objective, Verdict};
pub use written::{Broken, html, markdown, text};

/// The version of the form: it rises when a reader of the one before would misread it.
pub const FORM: u32 = 1;

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form: [`FORM`].
    pub llmload_report: u32,
    /// The version of llmload.
    pub version: String,
    /// When it began, by RFC 3339.
    pub started: String,
    /// From its beginning to its end, waiting and warm-up included.
    pub seconds: f64,
    /// Whether a signal ended it before its schedules had.
    pub interrupted: bool,
    /// What everything random followed from.
    pub seed: u64,
    /// Whether it passed, and if not, why.
    pub verdict: Verdict,
    /// What spoke against the generator at any time of the run.
    pub distortions: Vec<Distorted>,
    /// What a reader should know.
    pub findings: Vec<findings::Finding>,
    /// One for each scenario and target.
    pub streams: Vec<Load>,
    /// The configuration, secrets masked.
    pub config: String,
}

/// A way in which the generator distorted what it measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distorted {
    /// As in the label of `llmload_measurement_distorted`.
    pub kind: String,
    /// What was seen.
    pub message: String,
}

/// One stream of load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its scenario.
    pub scenario: String,
    /// Its target.
    pub target: String,
    /// Its model.
    pub model: String,
    /// The target's address.
    pub address: String,
    /// Whether that is the built-in simulator.
    pub simulated: bool,
    /// Where every arrival went.
    pub ledger: Ledger,
    /// All of it.
    pub total: Figures,
    /// By phase, in the order of the schedule; repeats of a phase stand together.
    pub phases: Vec<Phase>,
    /// What was held against each objective.
    pub slo: Vec<Objective>,
    /// The classes of failure that occurred.
    pub failures: Vec<Failed>,
    /// How it went over time.
    pub timeline: Timeline,
    /// How it differs from the first target of its scenario, request by request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<PairedDifference>,
    /// The values behind the quantiles, three digits of each: value and count.
    pub distributions: BTreeMap<String, Vec<(f64, u64)>>,
}

/// Where every arrival went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Those that were due.
    pub arrivals: u64,
    /// Those that were not sent, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Those that were.
    pub started: u64,
    /// Those that ended by themselves.
    pub finished: u64,
    /// Those of them that succeeded.
    pub succeeded: u64,
    /// Those that failed, by class.
    pub failed: BTreeMap<String, u64>,
    /// Those that llmload cut off, by reason.
    pub aborted: BTreeMap<String, u64>,
}

/// The figures of a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// They.
    pub figures: Figures,
}

/// A class of failure that occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The class.
    pub reason: String,
    /// Whom it speaks against.
    pub blame: String,
    /// How often.
    pub count: u64,
    /// The words that came with the last one.
    pub last_message: String,
    /// What mends it.
    pub remedy: String,
}

/// By intervals of one length, from the first that something was due in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// How long each is.
    pub interval_seconds: f64,
    /// Arrivals that were due.
    pub arrivals: Vec<u64>,
    /// Those that were not sent.
    pub dropped: Vec<u64>,
    /// Requests that succeeded then.
    pub succeeded: Vec<u64>,
    /// Requests that failed then.
    pub failed: Vec<u64>,
    /// The median of the times to the first token that came then, to a digit.
    pub time_to_first_token_p50_seconds: Vec<Option<f64>>,
    /// The greatest of them.
    pub time_to_first_token_max_seconds: Vec<Option<f64>>,
}

/// How a target differs from the first of its scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Pairs that both finished.
    pub pairs: u64,
    /// Of the times to the first token.
    pub time_to_first_token: Option<MeanDifference>,
    /// Of the times to the end.
    pub request_duration: Option<MeanDifference>,
}

/// The mean of the differences of pairs, less the first target's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanDifference {
    /// It.
    pub mean_seconds: f64,
    /// Half of the interval in which it lies with a probability of 95 %; from 30 pairs on.
    pub margin_seconds: Option<f64>,
}

/// What a report is made of beside the streams.
#[derive(Debug)]
pub struct Run<'a> {
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// What broke it, if something did.
    pub broken: Option<String>,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// What everything random followed from.
    pub seed: u64,
    /// What watched the process.
    pub generator: &'a Generator,
    /// The configuration, secrets masked.
    pub config: String,
}

impl Report {
    /// That of a run that has ended.
    pub fn of(run: Run<'_>, streams: &[std::sync::Arc<RouteMonitor>]) -> Report {
        let streams: Vec<Load> = streams.iter().filter_map(|stream| load(stream)).collect();
        let claims = run.generator.all_distortions().into_iter();
        let distortions: Vec<_> = claims
            .map(|claim| Distorted { kind: claim.kind.as_str().to_owned(), message: claim.message })
            .collect();
        Report {
            llmload_report: FORM,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(to_the_second(run.started)),
            seconds: run.took.as_secs_f64(),
            interrupted: run.interrupted,
            seed: run.seed,
            verdict: verdict::of(&streams, &distortions, run.interrupted, run.broken),
            findings: findings::of(&streams),
            distortions,
            streams,
            config: run.config,
        }
    }
}

impl Load {
    /// What tells it from the others of a report.
    pub fn stream(&self) -> String {
        format!("{} → {}", self.scenario, self.target)
    }
}

fn to_the_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn load(stream: &RouteMonitor) -> Option<Load> {
    let tally: &Tally = stream.tally.as_deref()?;
    let (whole, rows, timeline) = tally.read();
    let (books, info) = (stream.state.ledger.read(), stream.info());
    let patient = DiagnosedTarget { target: &info.configured, address: &info.address };
    let failures = stream.incidents.last().into_iter().map(|incident| Failed {
        reason: incident.failure.as_str().to_owned(),
        blame: incident.failure.blame().as_str().to_owned(),
        count: books
            .failures()
            .find(|(failure, _)| *failure == incident.failure)
            .map_or(0, |f| f.1),
        remedy: patient.remedy(incident.failure, &incident.message),
        last_message: incident.message,
    });
    let failures = failures.collect();
    let distributions = [
        ("time_to_first_token_seconds", &whole.time_to_first_token),
        ("time_per_output_token_seconds", &whole.time_per_output_token),
        ("request_duration_seconds", &whole.request_duration),
        ("output_tokens_per_second", &whole.output_tokens_per_second),
    ];
    let slo = tally.slo().map(|slo| verdict::objectives(slo, &whole)).unwrap_or_default();
    Some(Load {
        scenario: stream.scenario.clone(),
        target: stream.target.clone(),
        model: stream.model.get().cloned().unwrap_or_default(),
        address: info.address.clone(),
        simulated: info.simulated,
        ledger: ledger(&books),
        total: Figures::of(&whole),
        phases: rows
            .into_iter()
            .map(|row| Phase { name: row.name, figures: Figures::of(&row.figures) })
            .collect(),
        slo,
        failures,
        timeline: Timeline::of(timeline.width().as_secs_f64(), timeline.intervals()),
        difference: difference(stream),
        distributions: distributions
            .into_iter()
            .map(|(name, values)| (name.to_owned(), values.values().collect()))
            .collect(),
    })
}

fn ledger(books: &LedgerCounts) -> Ledger {
    fn counts<R>(
        all: impl Iterator<Item = (R, u64)>,
        name: impl Fn(R) -> &'static str,
    ) -> BTreeMap<String, u64> {
        let some = all.filter(|(_, count)| *count > 0);
        some.map(|(reason, count)| (name(reason).to_owned(), count)).collect()
    }
    Ledger {
        arrivals: books.arrivals,
        dropped: counts(books.dropped(), DropReason::as_str),
        started: books.started,
        finished: books.finished,
        succeeded: books.succeeded,
        failed: counts(books.failures(), Failure::as_str),
        aborted: counts(books.aborted(), AbortReason::as_str),
    }
}

fn difference(stream: &RouteMonitor) -> Option<PairedDifference> {
    let all = stream.difference.read();
    let of = |sums: Sums| {
        Some(MeanDifference { mean_seconds: sums.mean()?, margin_seconds: sums.margin() })
    };
    (all.duration.count > 0).then(|| PairedDifference {
        pairs: all.duration.count,
        time_to_first_token: of(all.first_token),
        request_duration: of(all.duration),
    })
}

impl Timeline {
    fn of(interval_seconds: f64, intervals: &[Interval]) -> Timeline {
        fn each<T>(intervals: &[Interval], of: impl Fn(&Interval) -> T) -> Vec<T> {
            intervals.iter().map(of).collect()
        }
        let times = |interval: &Interval| interval.time_to_first_token.clone();
        Timeline {
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

impl Ledger {
    /// Those that were not sent.
    pub fn not_sent(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Those that failed.
    pub fn not_succeeded(&self) -> u64 {
        self.failed.values().sum()
    }
}
