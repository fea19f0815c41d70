//! What is going on, as `/api/v1/status` tells it.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use crate::course::{Course, State};
use crate::generator::Generator;
use crate::incidents::Incidents;
use crate::ledger::Ledger;

/// One stream of load, as it can be looked at while it runs.
#[derive(Debug)]
pub struct Stream {
    /// `scenarios.NAME`.
    pub scenario: String,
    /// `targets.NAME`.
    pub target: String,
    /// Whether that is the built-in simulator.
    pub simulated: bool,
    /// The base URL, once it is known.
    pub address: String,
    /// The model, once it is known.
    pub model: OnceLock<String>,
    /// `max_concurrency`.
    pub max_concurrency: u32,
    /// The books.
    pub ledger: Arc<Ledger>,
    /// Where the schedule stands.
    pub course: Arc<Course>,
    /// What failed last.
    pub incidents: Arc<Incidents>,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    revision: &'static str,
    /// `serving` or `draining`.
    state: &'static str,
    /// Unix time.
    started: f64,
    /// Unix time of this answer.
    now: f64,
    measurement: Measurement,
    scenarios: Vec<Scenario>,
}

/// Whether the figures can be believed, and what speaks against it.
#[derive(Debug, Serialize)]
struct Measurement {
    valid: bool,
    distortions: Vec<Distorted>,
}

#[derive(Debug, Serialize)]
struct Distorted {
    kind: &'static str,
    meaning: &'static str,
    message: String,
    /// Unix time.
    last: f64,
}

#[derive(Debug, Serialize)]
struct Scenario {
    #[serde(rename = "scenario")]
    name: String,
    target: String,
    address: String,
    simulated: bool,
    model: Option<String>,
    /// `waiting`, `running` or `ended`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    cycle: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    rate_per_second: f64,
    concurrency: u32,
    max_concurrency: u32,
    ledger: Totals,
    failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Phase {
    name: String,
    /// Left out where the phase never ends: the only one of a schedule repeated for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Totals {
    arrivals: u64,
    dropped: Vec<Counted>,
    started: u64,
    in_flight: u64,
    finished: u64,
    succeeded: u64,
    failed: u64,
    aborted: Vec<Counted>,
    balanced: bool,
}

#[derive(Debug, Serialize)]
struct Counted {
    reason: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    reason: &'static str,
    blame: &'static str,
    meaning: &'static str,
    count: u64,
    last_message: String,
    /// Unix time.
    last: f64,
}

impl Status {
    /// Everything as it is now.
    pub fn of(streams: &[Arc<Stream>], generator: &Generator, draining: bool, started: SystemTime) -> Status {
        let now = Instant::now();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("LLMLOAD_REVISION"),
            state: if draining { "draining" } else { "serving" },
            started: unix(started),
            now: unix(SystemTime::now()),
            measurement: measurement(generator, now),
            scenarios: streams.iter().map(|stream| scenario(stream, now)).collect(),
        }
    }
}

fn measurement(generator: &Generator, now: Instant) -> Measurement {
    let distorted = generator.claims().into_iter().map(|claim| Distorted {
        kind: claim.kind.as_str(),
        meaning: claim.kind.meaning(),
        message: claim.message,
        last: unix(SystemTime::now() - now.saturating_duration_since(claim.last)),
    });
    let distortions: Vec<_> = distorted.collect();
    Measurement { valid: distortions.is_empty(), distortions }
}

fn scenario(stream: &Stream, now: Instant) -> Scenario {
    let standing = stream.course.standing(now);
    let (state, waiting_for) = match stream.course.state() {
        State::Waiting(what) => ("waiting", Some(what)),
        State::Running(..) => ("running", None),
        State::Ended => ("ended", None),
    };
    let phase = standing.phase.and_then(|index| stream.course.schedule().phases().get(index));
    let books = stream.ledger.read();
    let count_of = |failure| books.failures().find(|f| f.0 == failure).map_or(0, |f| f.1);
    let failures = stream.incidents.last().into_iter().map(|incident| Failed {
        reason: incident.failure.as_str(),
        blame: incident.failure.blame().as_str(),
        meaning: incident.failure.meaning().trim(),
        count: count_of(incident.failure),
        last_message: incident.message,
        last: unix(incident.at),
    });
    Scenario {
        name: stream.scenario.clone(),
        target: stream.target.clone(),
        address: stream.address.clone(),
        simulated: stream.simulated,
        model: stream.model.get().cloned(),
        state,
        waiting_for,
        cycle: standing.cycle,
        phase: phase.map(|phase| Phase {
            name: phase.name.clone(),
            remaining_seconds: (!stream.course.is_endless()).then_some(standing.remaining.as_secs_f64()),
        }),
        rate_per_second: standing.rate,
        concurrency: standing.concurrency,
        max_concurrency: stream.max_concurrency,
        failures: failures.collect(),
        ledger: Totals {
            arrivals: books.arrivals,
            dropped: counted(books.dropped().map(|(reason, count)| (reason.as_str(), count))),
            started: books.started,
            in_flight: books.in_flight,
            finished: books.finished,
            succeeded: books.succeeded,
            failed: books.failures().map(|f| f.1).sum(),
            aborted: counted(books.aborted().map(|(reason, count)| (reason.as_str(), count))),
            balanced: books.imbalance().is_none(),
        },
    }
}

fn counted(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<Counted> {
    counts.filter(|c| c.1 > 0).map(|(reason, count)| Counted { reason, count }).collect()
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
