//! The answer of `/api/v1/status`: everything there is to see, at one instant.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use super::{RouteMonitor, StatusBoard};
use crate::generator::Generator;
use crate::incidents::Incident;
use crate::pairing::Sums;
use crate::recent::{Counts, WINDOW};
use crate::remedy::DiagnosedTarget;
use crate::schedule::{Load, Shard};
use crate::schedule_state::{Activity, SchedulePosition};

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    revision: &'static str,
    /// `serving`, `paused` or `draining`.
    state: &'static str,
    /// Which of how many shards this is, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    /// Unix time.
    started: f64,
    /// Unix time of this answer.
    now: f64,
    /// Why the last reload was refused; left out where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_refused: Option<String>,
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
    /// `waiting`, `running`, `paused` (what comes due is dropped), `idle` or `ended`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    /// Unix time at which an idle one goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_until: Option<f64>,
    /// Unix time until which a rate holds that was set by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_set_until: Option<f64>,
    /// What would say that nothing is due now and then, and does not while that rate holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_set_ignores: Option<&'static str>,
    cycle: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    rate_per_second: f64,
    concurrency: u32,
    max_concurrency: u32,
    /// The cycle as it is planned; left out where it is one rate, or nobody knows how long it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
    recent: Recently,
    ledger: Totals,
    failures: Vec<Failed>,
    /// Of the pairs that this target and the scenario's first both finished, this one's less the
    /// first's.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Paired>,
}

/// What the schedule asks for over one cycle, at the middle of equal parts.
#[derive(Debug, Serialize)]
struct Curve {
    length_seconds: f64,
    /// How far the cycle is; left out while none is on, or a rate is set by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    position_seconds: Option<f64>,
    rates_per_second: Vec<f64>,
    concurrencies: Vec<u32>,
}

/// What requests took in the last minutes.
#[derive(Debug, Serialize)]
struct Recently {
    window_seconds: u64,
    time_to_first_token_seconds: Quantiles,
    output_tokens_per_second: Quantiles,
}

/// Read from a histogram: good to a twentieth, and told in three digits. Those that so few values
/// cannot tell are left out.
#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p10: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p90: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
}

impl Quantiles {
    fn of(counts: &Counts) -> Quantiles {
        let [p10, p50, p90, p99] =
            [0.1, 0.5, 0.9, 0.99].map(|share| counts.quantile(share).map(three_digits));
        Quantiles { count: counts.count(), p10, p50, p90, p99 }
    }
}

#[derive(Debug, Serialize)]
struct Paired {
    /// The scenario's first target, which it is held against.
    baseline: String,
    time_to_first_token: Option<MeanDifference>,
    duration: Option<MeanDifference>,
}

#[derive(Debug, Serialize)]
struct MeanDifference {
    pairs: u64,
    mean_seconds: f64,
    /// The true mean lies within this of it with a probability of 95 %; from 30 pairs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_seconds: Option<f64>,
}

impl MeanDifference {
    fn of(sums: Sums) -> Option<MeanDifference> {
        let margin_seconds = sums.margin().map(three_digits);
        let mean_seconds = three_digits(sums.mean()?);
        Some(MeanDifference { pairs: sums.count, mean_seconds, margin_seconds })
    }
}

/// The phase that is on; a rate that was set by hand stands in its place.
#[derive(Debug, Serialize)]
struct Phase {
    name: String,
    /// Left out where the phase never ends, or nobody knows when.
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
    remedy: String,
    /// Unix time.
    last: f64,
}

impl Status {
    /// Everything as it is now.
    pub fn of(
        board: &StatusBoard,
        generator: &Generator,
        (draining, paused): (bool, bool),
        shard: Shard,
        started: SystemTime,
    ) -> Status {
        let (now, monitors) = (Instant::now(), board.monitors());
        let first = |of: &RouteMonitor| monitors.iter().find(|other| other.scenario == of.scenario);
        let baseline =
            |of: &RouteMonitor| first(of).map(|first| first.target.clone()).unwrap_or_default();
        let state = match (draining, paused) {
            (true, _) => "draining",
            (false, true) => "paused",
            (false, false) => "serving",
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("LLMLOAD_REVISION"),
            state,
            shard: (shard != Shard::ALL).then(|| shard.to_string()),
            started: unix(started),
            now: unix(SystemTime::now()),
            reload_refused: board.refused(),
            measurement: measurement(generator, now),
            scenarios: monitors
                .iter()
                .map(|stream| scenario(stream, baseline(stream), now, paused))
                .collect(),
        }
    }
}

/// How fast a scenario is asked to send: by its schedule, or by hand.
#[derive(Debug, Serialize)]
pub struct RateNow {
    scenario: String,
    rate_per_second: f64,
    /// Unix time until which a rate holds that was set by hand.
    rate_set_until: Option<f64>,
    /// What would say that nothing is due now and then, and does not while that rate holds.
    rate_set_ignores: Option<&'static str>,
    /// What the schedule asks for at this instant; none where it is not looked up while a rate is set.
    schedule_rate_per_second: Option<f64>,
}

impl RateNow {
    /// That of a scenario, if there is one of this name.
    pub fn of(board: &StatusBoard, scenario: &str) -> Option<RateNow> {
        let stream = board.monitors().into_iter().find(|stream| stream.scenario == scenario)?;
        let now = Instant::now();
        let position = stream.schedule_state.position(now);
        Some(RateNow {
            scenario: scenario.to_owned(),
            rate_per_second: position.rate,
            rate_set_until: position.set_until.map(unix),
            rate_set_ignores: stream.info().hours.filter(|_| position.set_until.is_some()),
            schedule_rate_per_second: stream.schedule_state.scheduled_rate(now),
        })
    }
}

fn measurement(generator: &Generator, now: Instant) -> Measurement {
    let distorted = generator.active_distortions().into_iter().map(|claim| Distorted {
        kind: claim.kind.as_str(),
        meaning: claim.kind.effect(),
        message: claim.message,
        last: unix(SystemTime::now() - now.saturating_duration_since(claim.last)),
    });
    let distortions: Vec<_> = distorted.collect();
    Measurement { valid: distortions.is_empty(), distortions }
}

fn scenario(stream: &RouteMonitor, baseline: String, now: Instant, paused: bool) -> Scenario {
    let position = stream.schedule_state.position(now);
    let (rate_per_second, concurrency) = (position.rate, position.concurrency);
    let running = if paused { "paused" } else { "running" };
    let (state, waiting_for, idle_until) = match stream.schedule_state.state() {
        _ if position.set_until.is_some() => (running, None, None),
        Activity::Waiting(what) => ("waiting", Some(what), None),
        Activity::Running { .. } => (running, None, None),
        Activity::Idle(until) => ("idle", None, Some(unix(until))),
        Activity::Ended => ("ended", None, None),
    };
    let info = stream.info();
    let patient = DiagnosedTarget { target: &info.configured, address: &info.address };
    let counts = stream.state.ledger.read();
    let count_of = |failure| counts.failures().find(|f| f.0 == failure).map_or(0, |f| f.1);
    let failed = |incident: Incident| Failed {
        reason: incident.failure.as_str(),
        blame: incident.failure.blame().as_str(),
        meaning: incident.failure.meaning().trim(),
        count: count_of(incident.failure),
        remedy: patient.remedy(incident.failure, &incident.message),
        last_message: incident.message,
        last: unix(incident.at),
    };
    let failures = stream.incidents.last().into_iter().map(failed).collect();
    Scenario {
        name: stream.scenario.clone(),
        target: stream.target.clone(),
        address: info.address,
        simulated: info.simulated,
        model: stream.model.get().cloned(),
        state,
        waiting_for,
        idle_until,
        rate_set_until: position.set_until.map(unix),
        rate_set_ignores: info.hours.filter(|_| position.set_until.is_some()),
        cycle: position.cycle,
        phase: phase(position),
        rate_per_second,
        concurrency,
        max_concurrency: info.max_concurrency,
        curve: curve(stream, now),
        recent: recently(stream, now),
        failures,
        difference: paired(stream, baseline),
        ledger: Totals {
            arrivals: counts.arrivals,
            dropped: counted(counts.dropped().map(|(reason, count)| (reason.as_str(), count))),
            started: counts.started,
            in_flight: counts.in_flight,
            finished: counts.finished,
            succeeded: counts.succeeded,
            failed: counts.failures().map(|f| f.1).sum(),
            aborted: counted(counts.aborted().map(|(reason, count)| (reason.as_str(), count))),
            balanced: counts.imbalance().is_none(),
        },
    }
}

fn phase(position: SchedulePosition) -> Option<Phase> {
    let (name, remaining) = match position.set_until {
        Some(until) => ("set by hand".to_owned(), until.duration_since(SystemTime::now()).ok()),
        None => (position.phase?, position.remaining),
    };
    Some(Phase { name, remaining_seconds: remaining.map(|remaining| remaining.as_secs_f64()) })
}

fn curve(stream: &RouteMonitor, now: Instant) -> Option<Curve> {
    const POINTS: u32 = 120;
    let (schedule, share) = (stream.schedule_state.schedule(), stream.schedule_state.shard());
    let length = schedule.length();
    let flat = matches!(schedule.phases(), [only] if matches!(only.load, Load::Constant(_) | Load::Concurrency(_)));
    if length.is_zero() || flat {
        return None;
    }
    let middle = |point: u32| length * (2 * point + 1) / (2 * POINTS);
    let slots = |point| match schedule.phase_at(middle(point)).map(|placed| &placed.phase.load) {
        Some(Load::Concurrency(slots)) => {
            share.part(slots.get().into()).try_into().unwrap_or(u32::MAX)
        }
        _ => 0,
    };
    Some(Curve {
        length_seconds: length.as_secs_f64(),
        position_seconds: stream
            .schedule_state
            .cycle_elapsed(now)
            .map(|cycle_elapsed| cycle_elapsed.as_secs_f64()),
        rates_per_second: (0..POINTS)
            .map(|point| schedule.rate(middle(point)) / f64::from(share.count()))
            .collect(),
        concurrencies: (0..POINTS).map(slots).collect(),
    })
}

fn recently(stream: &RouteMonitor, now: Instant) -> Recently {
    let (first_token, tokens_per_second) = stream.recent.read(now);
    Recently {
        window_seconds: WINDOW.as_secs(),
        time_to_first_token_seconds: Quantiles::of(&first_token),
        output_tokens_per_second: Quantiles::of(&tokens_per_second),
    }
}

/// There are none of the first target, nor before the first pair.
fn paired(stream: &RouteMonitor, baseline: String) -> Option<Paired> {
    let all = stream.difference.read();
    let paired = Paired {
        baseline,
        time_to_first_token: MeanDifference::of(all.first_token),
        duration: MeanDifference::of(all.duration),
    };
    paired.duration.is_some().then_some(paired)
}

fn counted(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<Counted> {
    counts.filter(|c| c.1 > 0).map(|(reason, count)| Counted { reason, count }).collect()
}

/// What more digits would say is not known.
fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
