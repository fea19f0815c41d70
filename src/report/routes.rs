//! The report of one route (one scenario on one target).

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::shard::{self, PlannedPhase, RouteSums};
use super::statistics::TokensPerChunk;
use super::{
    Connections, Distributions, FailureClass, LedgerReport, Level, LevelKind, MeanDifference,
    PairedDifference, PhaseReport, PromptProfile, ReplayReport, RouteReport, RunInfo, SearchReport,
    SessionReport, Statistics, Summary, TailReport, TimelineReport, WindowReport, objectives,
    server, without_fraction,
};
use crate::calendar::rfc3339;
use crate::capacity::Ending;
use crate::event::{AbortReason, DropReason};
use crate::ledger::LedgerCounts;
use crate::measurement::Failure;
use crate::pairing::{DifferenceSums, PairedSnapshot};
use crate::plan::Scenario;
use crate::remedy::DiagnosedTarget;
use crate::schedule::{Arrivals, Load, Shard};
use crate::schedule_state::SearchState;
use crate::status::RouteMonitor;
use crate::tally::{PhaseTally, RawStatistics, TallySnapshot};

/// The load of a name that several phases with different loads share.
pub(super) const SEVERAL_LOADS: &str = "several loads";

/// Returns the report of a route, and its sums if the process is a shard. Returns `None` for a
/// route without a tally, or of an unknown scenario.
pub(super) fn report(
    monitor: &RouteMonitor,
    run: &RunInfo<'_>,
) -> Option<(RouteReport, Option<RouteSums>)> {
    let tally = monitor.tally.as_deref()?.read(Instant::now());
    let scenario = run.scenarios.iter().find(|scenario| scenario.name == monitor.scenario)?;
    let report = route_report(monitor, scenario, &tally, run.shard.map(|shard| shard.0));
    let sums = run.shard.map(|_| RouteSums {
        planned: tally
            .phases
            .iter()
            .map(|phase| planned(phase, scenario).of_all_shards())
            .collect(),
        difference: monitor.difference.snapshot(),
        phase_differences: tally
            .phases
            .iter()
            .map(|phase| monitor.difference.snapshot_of(&phase.positions))
            .collect(),
        tally,
    });
    Some((report, sums))
}

fn route_report(
    monitor: &RouteMonitor,
    scenario: &Scenario,
    tally: &TallySnapshot,
    shard: Option<Shard>,
) -> RouteReport {
    let (info, counts) = (monitor.info(), monitor.state.ledger.counts());
    let TallySnapshot {
        arrived,
        window,
        tail,
        peak_chunks_per_second,
        phases,
        origin,
        timeline,
        replay,
        turns,
    } = tally;
    let sessions = turns.as_ref().map(|turns| {
        let counts = monitor.state.session_state.ledger.counts();
        SessionReport::new(&counts).measured(window.length.as_secs_f64(), turns)
    });
    let per_chunk = TokensPerChunk::new(arrived);
    let prices = info.configured.prices.as_ref();
    let has_objectives = phases.iter().any(|phase| phase.slo.is_some());
    let searches = monitor.schedule_state.searches.states();
    let names: Vec<_> = phases.iter().map(|phase| phase.name.as_str()).collect();
    let observed = server::observed(&monitor.observed, &names, timeline);
    let objectives = phases.iter().filter_map(|phase| phase.slo.as_ref()?.ttft_quantile());
    let ttft_quantile = objectives.reduce(f64::max);
    let phases = phases.iter().map(|phase| {
        let has_objectives = phase.slo.is_some();
        let statistics =
            Statistics::new(&phase.arrived, &phase.window, per_chunk, prices, has_objectives);
        PhaseReport {
            difference: paired_difference(monitor.difference.snapshot_of(&phase.positions)),
            ..phase_report(phase, scenario, statistics, &searches, shard)
        }
    });
    RouteReport {
        scenario: monitor.scenario.clone(),
        target: monitor.target.clone(),
        model: monitor.model.get().cloned().unwrap_or_default(),
        address: info.address.clone(),
        api: info.configured.dialect.api.as_str().to_owned(),
        simulated: info.simulated,
        server_version: monitor.server_version.get().cloned(),
        prompts: PromptProfile::new(&scenario.prompts),
        max_tokens: Some(scenario.request.max_tokens.get())
            .filter(|_| info.configured.dialect.api.generates_text()),
        gaps: gaps(scenario.arrivals),
        total: Statistics::new(arrived, window, per_chunk, prices, has_objectives),
        peak_output_tokens_per_second: peak_chunks_per_second
            .map(|chunks| per_chunk.tokens(chunks)),
        tail: TailReport {
            seconds: tail.length.as_secs_f64(),
            window: WindowReport::new(tail, per_chunk),
        },
        phases: phases.collect(),
        failures: failures(monitor, &counts),
        replay: replay.as_ref().map(|counts| Box::new(ReplayReport::new(counts))),
        connections: connections(arrived),
        timeline: TimelineReport::new(timeline, *origin, per_chunk, ttft_quantile),
        sessions,
        observed,
        difference: paired_difference(monitor.difference.snapshot()),
        distributions: distributions(arrived),
        ledger: ledger_report(&counts),
    }
}

fn phase_report(
    tally: &PhaseTally,
    scenario: &Scenario,
    statistics: Statistics,
    searches: &[SearchState],
    shard: Option<Shard>,
) -> PhaseReport {
    let planned = planned(tally, scenario);
    let Planned { load, level, seconds, arrivals, count } =
        shard.map_or(planned.clone(), |shard| planned.of_shard(shard));
    let sent = tally.window.length.as_nanos() > 0;
    // The end of a `requests` phase is not planned, but its number of requests is.
    let is_incomplete = match (seconds, count) {
        (_, Some(count)) => statistics.arrivals < count,
        // A microsecond is more than the error of a sum of seconds.
        (Some(seconds), None) => statistics.seconds + 1e-6 < seconds,
        (None, None) => false,
    };
    let is_pause = load == Load::Pause.kind();
    let search = searches.iter().rfind(|search| tally.positions.contains(&search.phase));
    let search = search.map(SearchReport::new);
    let is_interrupted =
        search.as_ref().is_some_and(|search| search.has_ended(Ending::Interrupted));
    let slo = tally.slo.as_ref().filter(|_| !is_pause);
    let results = slo.map(|slo| objectives::results(slo, &tally.arrived)).unwrap_or_default();
    PhaseReport {
        name: tally.name.clone(),
        load,
        level,
        planned_seconds: seconds,
        planned_arrivals: arrivals,
        sent,
        cut: sent && (is_incomplete || is_interrupted),
        explore: tally.explore,
        spans: tally
            .window
            .spans
            .iter()
            .map(|(from, to)| (from.as_secs_f64(), to.as_secs_f64()))
            .collect(),
        slo: results,
        search,
        difference: None,
        distributions: if statistics.sent > 0 {
            distributions(&tally.arrived)
        } else {
            Distributions::new()
        },
        statistics,
    }
}

/// The facts about a phase that follow from the schedule.
#[derive(Clone)]
struct Planned {
    load: String,
    level: Option<Level>,
    seconds: Option<f64>,
    arrivals: Option<u64>,
    /// The number of requests of a phase that ends after a number of requests.
    count: Option<u64>,
}

impl Planned {
    /// The facts about the part of one shard. Its number of arrivals depends on the arrivals before
    /// the phase, so it is unknown.
    fn of_shard(self, shard: Shard) -> Planned {
        let level = self.level.map(|level| shard::level_of_shard(level, shard));
        Planned { level, arrivals: None, ..self }
    }

    fn of_all_shards(self) -> PlannedPhase {
        PlannedPhase { level: self.level, arrivals: self.arrivals }
    }
}

/// Adds up the facts of all phases that share an entry.
fn planned(tally: &PhaseTally, scenario: &Scenario) -> Planned {
    let schedule = &scenario.schedule;
    let spans = tally.positions.iter().filter_map(|position| schedule.phase_span(*position));
    let spans: Vec<_> = spans.collect();
    let passes = scenario.passes();
    let mut loads: Vec<String> = spans.iter().map(|span| span.phase.load.to_string()).collect();
    loads.dedup();
    let (load, level) = match (loads.as_slice(), spans.first()) {
        ([only], Some(first)) => (only.clone(), level(&first.phase.load)),
        _ => (SEVERAL_LOADS.to_owned(), None),
    };
    let counts: Option<u64> =
        spans.iter().map(|span| span.phase.load.count().map(|count| count.get() * passes)).sum();
    let has_length = !scenario.endless && spans.iter().all(|span| span.phase.load.is_timed());
    #[allow(clippy::cast_precision_loss)]
    let seconds = has_length.then(|| {
        spans.iter().map(|span| span.phase.length.as_secs_f64()).sum::<f64>() * passes as f64
    });
    let is_open = spans.iter().all(|span| span.phase.load.slots().is_none());
    // The number of random arrivals is random too.
    let is_exact = has_length && is_open && scenario.arrivals.is_even();
    let arrivals = is_exact.then(|| {
        let millionths = spans.iter().map(|span| span.total.micro()).sum::<u128>();
        let all = millionths.saturating_mul(passes.into()) / 1_000_000;
        u64::try_from(all).unwrap_or(u64::MAX)
    });
    // The schedule determines the number of sessions, not of their turns.
    let is_known = scenario.sessions.is_none();
    let (arrivals, count) = (arrivals.or(counts).filter(|_| is_known), counts.filter(|_| is_known));
    Planned { load, level, seconds, arrivals, count }
}

fn level(load: &Load) -> Option<Level> {
    match load {
        Load::Constant(rate) => Some(Level { kind: LevelKind::Rate, value: rate.per_second() }),
        Load::Concurrency(slots) | Load::Requests { slots, .. } => {
            Some(Level { kind: LevelKind::Concurrency, value: slots.get().into() })
        }
        Load::Ramp { .. } | Load::Sine { .. } | Load::Replay(_) | Load::Pause | Load::Search(_) => {
            None
        }
    }
}

fn gaps(arrivals: Arrivals) -> String {
    match arrivals {
        Arrivals::Constant => "constant".to_owned(),
        Arrivals::Poisson => "poisson".to_owned(),
        Arrivals::Burstiness(shape) => format!("burstiness {shape}"),
    }
}

#[allow(clippy::cast_precision_loss)]
fn failures(monitor: &RouteMonitor, counts: &LedgerCounts) -> Vec<FailureClass> {
    let info = monitor.info();
    let diagnosed = DiagnosedTarget { target: &info.configured, address: &info.address };
    let count_of = |class: Failure| {
        counts.failures().find(|(failure, _)| *failure == class).map_or(0, |found| found.1)
    };
    let classes = monitor.incidents.last_failures().into_iter().map(|incident| {
        let count = count_of(incident.detail.failure);
        FailureClass {
            reason: incident.detail.failure.as_str().to_owned(),
            blame: incident.detail.failure.blame().as_str().to_owned(),
            count,
            share: count as f64 / counts.finished.max(1) as f64,
            first: rfc3339(without_fraction(incident.first_at)),
            last: rfc3339(without_fraction(incident.at)),
            remedy: diagnosed.remedy(&incident.detail),
            last_message: incident.detail.message,
        }
    });
    let mut classes: Vec<_> = classes.collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.count));
    classes
}

pub(super) fn connections(arrived: &RawStatistics) -> Connections {
    let opened = arrived.connect.count();
    Connections {
        opened,
        reused: arrived.response_heads.saturating_sub(opened),
        retries: arrived.connection_retries,
        connect_seconds: Summary::new(&arrived.connect),
    }
}

pub(super) fn distributions(arrived: &RawStatistics) -> Distributions {
    let distributions = [
        ("time_to_first_token_seconds", &arrived.time_to_first_token),
        ("time_to_first_answer_token_seconds", &arrived.time_to_first_answer_token),
        ("time_per_output_token_seconds", &arrived.time_per_output_token),
        ("inter_chunk_latency_seconds", &arrived.inter_chunk_latency),
        ("request_duration_seconds", &arrived.request_duration),
        ("output_tokens_per_second", &arrived.output_tokens_per_second),
    ];
    distributions
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values.values().collect()))
        .collect()
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

pub(super) fn paired_difference(all: PairedSnapshot) -> Option<PairedDifference> {
    let mean = |sums: DifferenceSums| {
        Some(MeanDifference { mean_seconds: sums.mean()?, margin_seconds: sums.margin() })
    };
    (all.duration.count > 0).then(|| PairedDifference {
        pairs: all.duration.count,
        time_to_first_token: mean(all.first_token),
        time_per_output_token: mean(all.time_per_output_token),
        request_duration: mean(all.duration),
    })
}
