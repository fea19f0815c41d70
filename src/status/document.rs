//! The JSON documents of `/api/v1/status` and `/api/v1/scenarios/NAME/rate`. `docs/status.md`
//! explains each field.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::time::Instant;

use super::budgets::{self, BudgetStatus};
use super::sessions::SessionStatus;
use super::{RouteMonitor, StatusBoard};
use crate::generator::GeneratorMonitor;
use crate::guard::{Accounts, Breaker};
use crate::ledger::LedgerCounts;
use crate::pairing::DifferenceSums;
use crate::recent::{LogHistogram, WINDOW};
use crate::remedy::DiagnosedTarget;
use crate::schedule::Shard;
use crate::schedule_state::{Activity, SchedulePosition};

#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    revision: &'static str,
    /// `serving`, `paused` or `draining`.
    state: &'static str,
    /// `I/N`: this daemon is shard I (from 0) of N.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    /// Unix time.
    started: f64,
    /// The Unix time of this document.
    now: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_refused: Option<String>,
    measurement: Measurement,
    /// One entry for each limit of each budget.
    budgets: Vec<BudgetStatus>,
    scenarios: Vec<RouteStatus>,
}

#[derive(Debug, Serialize)]
struct Measurement {
    valid: bool,
    distortions: Vec<ActiveDistortion>,
}

#[derive(Debug, Serialize)]
struct ActiveDistortion {
    kind: &'static str,
    meaning: &'static str,
    message: String,
    /// Unix time.
    last: f64,
}

/// One route: one scenario on one target. The JSON calls the list of routes `scenarios`.
#[derive(Debug, Serialize)]
struct RouteStatus {
    scenario: String,
    target: String,
    address: String,
    simulated: bool,
    model: Option<String>,
    /// `waiting`, `running`, `paused`, `idle` or `ended`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    /// Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_until: Option<f64>,
    /// The Unix time at which a manual rate override ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_set_until: Option<f64>,
    /// The keys that the override ignores: see `RouteInfo::hours`.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_set_ignores: Option<&'static str>,
    cycle: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<CurrentPhase>,
    rate_per_second: f64,
    concurrency: u32,
    max_concurrency: u32,
    /// The remaining wait that the endpoint requested, if llmload obeys it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
    recent: RecentQuantiles,
    ledger: LedgerTotals,
    /// Absent if the prompts have no turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<SessionStatus>,
    failures: Vec<FailureClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

#[derive(Debug, Serialize)]
struct BreakerStatus {
    open: bool,
    /// The time until the next probe request.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_seconds: Option<f64>,
}

/// The scheduled load over one cycle, sampled in the middle of each of its equal parts. A constant
/// load and a cycle of unknown length have no curve.
#[derive(Debug, Serialize)]
struct Curve {
    length_seconds: f64,
    /// The elapsed time of the current cycle. Absent without a running cycle and during a manual
    /// rate override.
    #[serde(skip_serializing_if = "Option::is_none")]
    position_seconds: Option<f64>,
    rates_per_second: Vec<f64>,
    concurrencies: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct RecentQuantiles {
    window_seconds: u64,
    time_to_first_token_seconds: Quantiles,
    output_tokens_per_second: Quantiles,
}

/// Quantiles, accurate within 5 % and rounded to three digits. A quantile of too few values is
/// absent.
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

/// The value of a target minus the value of the baseline target, over all paired requests.
#[derive(Debug, Serialize)]
struct Difference {
    /// The first target of the scenario.
    baseline: String,
    time_to_first_token: Option<MeanDifference>,
    duration: MeanDifference,
}

#[derive(Debug, Serialize)]
struct MeanDifference {
    pairs: u64,
    mean_seconds: f64,
    /// Half of the 95 % confidence interval. Absent below 30 pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_seconds: Option<f64>,
}

/// The running phase, or a manual rate override.
#[derive(Debug, Serialize)]
struct CurrentPhase {
    name: String,
    /// Absent if the phase has no end, or an unknown end.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct LedgerTotals {
    arrivals: u64,
    dropped: Vec<ReasonCount>,
    started: u64,
    in_flight: u64,
    finished: u64,
    succeeded: u64,
    failed: u64,
    aborted: Vec<ReasonCount>,
    balanced: bool,
}

#[derive(Debug, Serialize)]
struct ReasonCount {
    reason: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct FailureClass {
    reason: &'static str,
    blame: &'static str,
    meaning: &'static str,
    count: u64,
    last_message: String,
    remedy: String,
    /// Unix time.
    last: f64,
}

/// The rate of a scenario, from its schedule or from a manual rate override.
#[derive(Debug, Serialize)]
pub struct CurrentRate {
    scenario: String,
    rate_per_second: f64,
    /// The Unix time at which a manual rate override ends.
    rate_set_until: Option<f64>,
    /// The keys that the override ignores: see `RouteInfo::hours`.
    rate_set_ignores: Option<&'static str>,
    /// The current rate of the schedule, which the override replaces. `None` if the cycle ended
    /// during the override.
    schedule_rate_per_second: Option<f64>,
}

impl Status {
    pub fn new(
        board: &StatusBoard,
        generator: &GeneratorMonitor,
        accounts: &Accounts,
        (draining, paused): (bool, bool),
        shard: Shard,
        started: SystemTime,
    ) -> Status {
        let (now, monitors) = (Instant::now(), board.monitors());
        let state = match (draining, paused) {
            (true, _) => "draining",
            (false, true) => "paused",
            (false, false) => "serving",
        };
        let route = |monitor: &Arc<RouteMonitor>| {
            let first = monitors.iter().find(|first| first.scenario == monitor.scenario);
            let baseline = first.map(|first| first.target.clone()).unwrap_or_default();
            RouteStatus::new(monitor, baseline, now, paused)
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("LLMLOAD_REVISION"),
            state,
            shard: (shard != Shard::ALL).then(|| shard.to_string()),
            started: unix_seconds(started),
            now: unix_seconds(SystemTime::now()),
            reload_refused: board.reload_error(),
            measurement: Measurement::new(generator, now),
            budgets: budgets::all(accounts),
            scenarios: monitors.iter().map(route).collect(),
        }
    }
}

impl CurrentRate {
    /// Returns `None` if no scenario has this name.
    pub fn find(board: &StatusBoard, scenario: &str) -> Option<CurrentRate> {
        let monitors = board.monitors();
        let monitor = monitors.iter().find(|monitor| monitor.scenario == scenario)?;
        let now = Instant::now();
        let position = monitor.schedule_state.position(now);
        Some(CurrentRate {
            scenario: scenario.to_owned(),
            rate_per_second: position.rate,
            rate_set_until: position.override_until.map(unix_seconds),
            rate_set_ignores: monitor.info().hours.filter(|_| position.override_until.is_some()),
            schedule_rate_per_second: monitor.schedule_state.scheduled_rate(now),
        })
    }
}

impl Measurement {
    fn new(generator: &GeneratorMonitor, now: Instant) -> Measurement {
        let active = generator.active_distortions().into_iter().map(|detected| ActiveDistortion {
            kind: detected.kind.as_str(),
            meaning: detected.kind.effect(),
            message: detected.message,
            last: unix_seconds(SystemTime::now() - now.saturating_duration_since(detected.last)),
        });
        let distortions: Vec<_> = active.collect();
        Measurement { valid: distortions.is_empty(), distortions }
    }
}

impl RouteStatus {
    fn new(monitor: &RouteMonitor, baseline: String, now: Instant, paused: bool) -> RouteStatus {
        let position = monitor.schedule_state.position(now);
        let (rate_per_second, concurrency) = (position.rate, position.concurrency);
        let running = if paused { "paused" } else { "running" };
        let (state, waiting_for, idle_until) = match monitor.schedule_state.activity() {
            _ if position.override_until.is_some() => (running, None, None),
            Activity::Waiting(reason) => ("waiting", Some(reason), None),
            Activity::Running { .. } => (running, None, None),
            Activity::Idle(until) => ("idle", None, Some(unix_seconds(until))),
            Activity::Ended => ("ended", None, None),
        };
        let (info, counts) = (monitor.info(), monitor.state.ledger.counts());
        let wait = monitor.state.rate_limiter().and_then(|limiter| limiter.retry_after(now));
        RouteStatus {
            scenario: monitor.scenario.clone(),
            target: monitor.target.clone(),
            model: monitor.model.get().cloned(),
            state,
            waiting_for,
            idle_until,
            rate_set_until: position.override_until.map(unix_seconds),
            rate_set_ignores: info.hours.filter(|_| position.override_until.is_some()),
            cycle: position.cycle,
            phase: CurrentPhase::new(position),
            rate_per_second,
            concurrency,
            max_concurrency: info.max_concurrency,
            retry_after_seconds: wait.map(|wait| wait.as_secs_f64()),
            breaker: monitor.state.breaker().map(|breaker| BreakerStatus::new(&breaker, now)),
            curve: Curve::new(monitor, now),
            recent: RecentQuantiles::new(monitor, now),
            ledger: LedgerTotals::new(&counts),
            sessions: SessionStatus::of(&monitor.state),
            failures: failure_classes(monitor, &counts),
            difference: Difference::new(monitor, baseline),
            simulated: info.simulated,
            address: info.address,
        }
    }
}

impl BreakerStatus {
    fn new(breaker: &Breaker, now: Instant) -> BreakerStatus {
        let open_for = breaker.open_for(now);
        let next_probe_seconds = open_for.map(|wait| wait.as_secs_f64());
        BreakerStatus { open: open_for.is_some(), next_probe_seconds }
    }
}

impl CurrentPhase {
    fn new(position: SchedulePosition) -> Option<CurrentPhase> {
        let (name, remaining) = match position.override_until {
            Some(until) => ("set by hand".to_owned(), until.duration_since(SystemTime::now()).ok()),
            None => (position.phase?, position.remaining),
        };
        let remaining_seconds = remaining.map(|remaining| remaining.as_secs_f64());
        Some(CurrentPhase { name, remaining_seconds })
    }
}

impl Curve {
    fn new(monitor: &RouteMonitor, now: Instant) -> Option<Curve> {
        const POINTS: u32 = 120;
        let state = &monitor.schedule_state;
        let (schedule, shard) = (state.schedule(), state.shard());
        let length = schedule.length();
        let is_constant = matches!(schedule.phases(), [only] if only.load.is_flat());
        if length.is_zero() || is_constant {
            return None;
        }
        let middle = |point: u32| length * (2 * point + 1) / (2 * POINTS);
        let rate = |point| schedule.rate(middle(point)) / f64::from(shard.count());
        let concurrency =
            |point| match schedule.phase_at(middle(point)).and_then(|span| span.phase.load.slots())
            {
                Some(slots) => shard.part(slots.get().into()).try_into().unwrap_or(u32::MAX),
                None => 0,
            };
        Some(Curve {
            length_seconds: length.as_secs_f64(),
            position_seconds: state.cycle_elapsed(now).map(|elapsed| elapsed.as_secs_f64()),
            rates_per_second: (0..POINTS).map(rate).collect(),
            concurrencies: (0..POINTS).map(concurrency).collect(),
        })
    }
}

impl RecentQuantiles {
    fn new(monitor: &RouteMonitor, now: Instant) -> RecentQuantiles {
        let recent = monitor.recent.read(now);
        RecentQuantiles {
            window_seconds: WINDOW.as_secs(),
            time_to_first_token_seconds: Quantiles::new(&recent.first_token),
            output_tokens_per_second: Quantiles::new(&recent.tokens_per_second),
        }
    }
}

impl Quantiles {
    fn new(histogram: &LogHistogram) -> Quantiles {
        let [p10, p50, p90, p99] =
            [0.1, 0.5, 0.9, 0.99].map(|fraction| histogram.quantile(fraction).map(three_digits));
        Quantiles { count: histogram.count(), p10, p50, p90, p99 }
    }
}

impl LedgerTotals {
    fn new(counts: &LedgerCounts) -> LedgerTotals {
        LedgerTotals {
            arrivals: counts.arrivals,
            dropped: non_zero(counts.dropped().map(|(reason, count)| (reason.as_str(), count))),
            started: counts.started,
            in_flight: counts.in_flight,
            finished: counts.finished,
            succeeded: counts.succeeded,
            failed: counts.failures().map(|(_, count)| count).sum(),
            aborted: non_zero(counts.aborted().map(|(reason, count)| (reason.as_str(), count))),
            balanced: counts.first_broken_equation().is_none(),
        }
    }
}

fn failure_classes(monitor: &RouteMonitor, counts: &LedgerCounts) -> Vec<FailureClass> {
    let info = monitor.info();
    let diagnosed = DiagnosedTarget { target: &info.configured, address: &info.address };
    let count_of = |failure| counts.failures().find(|f| f.0 == failure).map_or(0, |f| f.1);
    let failures = monitor.incidents.last_failures().into_iter().map(|last| FailureClass {
        reason: last.detail.failure.as_str(),
        blame: last.detail.failure.blame().as_str(),
        meaning: last.detail.failure.meaning().trim(),
        count: count_of(last.detail.failure),
        remedy: diagnosed.remedy(&last.detail),
        last_message: last.detail.message,
        last: unix_seconds(last.at),
    });
    failures.collect()
}

impl Difference {
    /// Returns `None` for the baseline target, and before the first pair.
    fn new(monitor: &RouteMonitor, baseline: String) -> Option<Difference> {
        let differences = monitor.difference.snapshot();
        let duration = MeanDifference::new(differences.duration)?;
        let time_to_first_token = MeanDifference::new(differences.first_token);
        Some(Difference { baseline, time_to_first_token, duration })
    }
}

impl MeanDifference {
    fn new(sums: DifferenceSums) -> Option<MeanDifference> {
        let margin_seconds = sums.margin().map(three_digits);
        let mean_seconds = three_digits(sums.mean()?);
        Some(MeanDifference { pairs: sums.count, mean_seconds, margin_seconds })
    }
}

fn non_zero(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<ReasonCount> {
    counts.filter(|c| c.1 > 0).map(|(reason, count)| ReasonCount { reason, count }).collect()
}

/// Rounds to three significant digits, the accuracy of quantiles and margins.
fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
