//! Forecasts the requests of a plan in the coming day. The result depends only on the plan and on
//! the start time.
//!
//! `PlannedRuns` are the times at which a schedule runs, and `Demand` counts the requests in these
//! times. The input tokens are estimates, because a server can count them differently. The output
//! tokens and the cost are upper bounds, because a response can be shorter.
//!
//! `llmload check --json` prints these types, so their serialised names are a public interface.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::budgets::{BudgetForecast, Usage};
use super::demand::{Demand, DemandTotals, Extremes, mean_tokens, round_to_micro};
use super::planned_runs::{CycleRun, PlannedRuns};
use super::sessions::SessionForecast;
use super::succession::highest_sum;
use crate::calendar::rfc3339;
use crate::guard::SavedAccount;
use crate::plan::{Plan, Scenario, Start, Target};
use crate::schedule::{Lengths, PhaseSpan, Repeat, SearchRange, Shard};
use crate::timetable::Timetable;

/// The length of a forecast. It is shorter if all schedules end earlier.
pub const DAY: Duration = Duration::from_hours(24);

/// The number of buckets of a forecast. For a day, a bucket has 15 minutes.
pub const BUCKETS: u32 = 96;

/// The number of upcoming cron firings that a forecast lists.
const FIRINGS: usize = 3;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The start of the forecast. All targets are assumed to be ready then.
    #[serde(serialize_with = "rfc3339_time")]
    pub from: SystemTime,
    #[serde(serialize_with = "rfc3339_time")]
    pub to: SystemTime,
    /// The time from `from` to `to`.
    #[serde(rename = "span_seconds", serialize_with = "seconds")]
    pub span: Duration,
    #[serde(rename = "bucket_seconds", serialize_with = "seconds")]
    pub bucket: Duration,
    /// The shard and the number of shards, such as `0/1` for a single daemon.
    pub shard: String,
    /// One entry per scenario, in the order of the file.
    pub scenarios: Vec<ScenarioForecast>,
    pub sum: Sum,
    /// The number of time series on `/metrics` after every phase has begun.
    pub series: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScenarioForecast {
    pub scenario: String,
    /// The target, or the first of several.
    pub target: String,
    /// The other targets. Each gets the same requests as the first target. All other fields are for
    /// one target, not sums. The JSON key is `further`.
    #[serde(rename = "further")]
    pub other_targets: Vec<OtherTarget>,
    /// True if the load never changes. The length of a cycle is then internal, and the text does
    /// not show it.
    pub endless: bool,
    /// The length of one pass through the schedule.
    #[serde(rename = "cycle_seconds", serialize_with = "seconds")]
    pub cycle: Duration,
    /// The number of passes through the schedule, for each cron firing if there is a cron. `None`
    /// if the schedule repeats forever.
    pub cycles: Option<u32>,
    /// The time in which the schedule runs during the forecast.
    #[serde(rename = "on_seconds", serialize_with = "seconds")]
    pub active_time: Duration,
    /// The next cron firings. Empty without a cron.
    #[serde(serialize_with = "rfc3339_times")]
    pub next_firings: Vec<SystemTime>,
    /// The cron firings that llmload skips, because the schedule is still running.
    pub firings_skipped: u64,
    /// True if the schedule has phases that end after a number of requests. Their length is
    /// unknown, so the forecast uses zero. In reality the next phases begin later, and the load can
    /// be lower.
    pub counts_requests: bool,
    /// `None` if each arrival is a single request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionForecast>,
    /// The totals of open-loop phases and of phases that end after a number of requests.
    pub amounts: Amounts,
    /// The highest possible cost, if the target has prices.
    pub cost_at_most: Option<Cost>,
    /// The highest rate to each target, in requests per second, even if it lasts only for an
    /// instant. For a replay, the most rows of the trace within a second.
    pub peak_rate: f64,
    /// The first phase that reaches `peak_rate`.
    pub peak_phase: Option<String>,
    /// The most requests that closed-loop phases keep in flight. `amounts` does not contain the
    /// requests of a closed loop with a fixed duration, because their number depends on the
    /// response times.
    pub closed_loop_slots: u32,
    pub in_flight: InFlight,
    /// One entry for each limit of each budget.
    pub budgets: Vec<BudgetForecast>,
    pub phases: Vec<PhaseForecast>,
    pub buckets: Vec<Bucket>,
}

/// Another target of the scenario, with its values that can differ from the first target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherTarget {
    pub target: String,
    /// The highest possible cost, if this target has prices.
    pub cost_at_most: Option<Cost>,
    pub in_flight: InFlight,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    pub amount: f64,
    pub currency: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Amounts {
    /// Exact for evenly spaced arrivals; the expected number for random arrivals.
    pub requests: f64,
    /// Tokens of prompts and system messages. If their number is not configured and not in a trace,
    /// 4 bytes count as one token.
    pub input_tokens_estimated: f64,
    /// Output tokens, if every response has its longest permitted length.
    pub output_tokens_at_most: f64,
}

/// The highest possible number of requests in flight. By Little's law, it is the rate times the
/// duration of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InFlight {
    /// The smaller of `by_littles_law` and `max_concurrency`.
    pub at_most: u32,
    /// The highest rate times `timeouts.total`, plus the slots of closed-loop phases.
    pub by_littles_law: f64,
    /// `timeouts.total`, because no request lasts longer.
    #[serde(rename = "longest_request_seconds", serialize_with = "seconds")]
    pub longest_request: Duration,
    pub max_concurrency: u32,
    /// The response time with which the highest rate reaches `max_concurrency`. `None` without
    /// open-loop phases.
    pub seconds_to_fill: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseForecast {
    pub name: String,
    /// From the start of the cycle.
    #[serde(rename = "start_seconds", serialize_with = "seconds")]
    pub start: Duration,
    #[serde(rename = "length_seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// Zero for a closed loop with a fixed duration, because the number then depends on the
    /// response times.
    pub requests: f64,
    /// In requests per second.
    pub rate_min: f64,
    /// In requests per second.
    pub rate_max: f64,
    /// The requests that a closed loop keeps in flight.
    pub closed_loop_slots: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bucket {
    /// From the start of the forecast.
    pub start_seconds: f64,
    pub requests: f64,
    /// In requests per second.
    pub rate_min: f64,
    pub rate_mean: f64,
    /// In requests per second. For a replay, the most rows of the trace within a second.
    pub rate_max: f64,
    /// The most requests that closed loops keep in flight.
    pub closed_loop_slots: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sum {
    pub amounts: Amounts,
    /// By currency. Targets without prices are not included.
    pub cost_at_most: BTreeMap<String, f64>,
    /// The highest total rate in requests per second. The forecast assumes that the peaks of all
    /// scenarios in a bucket are at the same instant.
    pub peak_rate: f64,
    /// The highest total of closed-loop slots, under the same assumption.
    pub closed_loop_slots: u32,
    /// The sum of `in_flight.at_most` over the targets of all scenarios that can run at the same
    /// time.
    pub in_flight_at_most: u64,
    pub buckets: Vec<Bucket>,
}

impl Forecast {
    /// `series` is the number of time series of the plan. Each budget starts at 0.
    pub fn new(plan: &Plan, now: SystemTime, series: usize) -> Forecast {
        Forecast::after(plan, now, series, &[])
    }

    /// As [`Forecast::new`], after the spending that `state_dir` has.
    pub fn after(plan: &Plan, now: SystemTime, series: usize, saved: &[SavedAccount]) -> Forecast {
        let planned = PlannedRuns::of_plan(plan, now, DAY);
        let end = |planned: &PlannedRuns| if planned.is_complete { planned.end() } else { DAY };
        let span = planned.iter().map(end).max().unwrap_or(DAY);
        let around = (now, span, saved);
        let scenarios: Vec<ScenarioForecast> = std::iter::zip(&plan.scenarios, &planned)
            .map(|(scenario, planned)| scenario_forecast(scenario, plan.shard, planned, around))
            .collect();
        let sum = sum(&scenarios, &plan.predecessors());
        Forecast {
            from: now,
            to: now + span,
            span,
            bucket: span / BUCKETS,
            shard: plan.shard.to_string(),
            scenarios,
            sum,
            series,
        }
    }
}

fn scenario_forecast(
    scenario: &Scenario,
    shard: Shard,
    planned: &PlannedRuns,
    (now, span, saved): (SystemTime, Duration, &[SavedAccount]),
) -> ScenarioForecast {
    let schedule = &scenario.schedule;
    let demand = Demand::new(scenario, shard);
    let placed = (0..schedule.phases().len()).filter_map(|index| schedule.phase_span(index));
    let phases: Vec<PhaseForecast> = placed.map(|placed| phase(&demand, &placed)).collect();
    let buckets = buckets(&demand, &planned.runs, span);
    let totals = planned.runs.iter().map(|run| demand.totals(run, run.begin, run.end));
    let totals: DemandTotals = totals.sum();
    let extremes = planned.runs.iter().map(|run| demand.extremes(run, run.begin, run.end));
    let extremes = extremes.fold(Extremes::NONE, Extremes::merge);
    let (peak_rate, closed_loop_slots) = (extremes.rate_max, extremes.slots);
    let amounts = Amounts {
        requests: round_to_micro(totals.requests),
        input_tokens_estimated: round_to_micro(totals.input),
        output_tokens_at_most: round_to_micro(totals.output),
    };
    let other_targets = scenario.other_targets.iter().map(|target| OtherTarget {
        target: target.name.clone(),
        cost_at_most: cost(target, amounts),
        in_flight: in_flight(scenario, target, peak_rate, closed_loop_slots),
    });
    ScenarioForecast {
        scenario: scenario.name.clone(),
        target: scenario.target.name.clone(),
        other_targets: other_targets.collect(),
        endless: is_endless(scenario),
        cycle: schedule.length(),
        cycles: match (&scenario.start, scenario.repeat) {
            (Start::WallClock(_), _) | (_, Repeat::Forever) => None,
            (_, Repeat::Times(times)) => Some(times.get()),
        },
        active_time: planned.active_time(),
        next_firings: next_firings(scenario, now),
        firings_skipped: planned.skipped,
        counts_requests: !schedule.is_timed(),
        sessions: SessionForecast::new(scenario, totals.requests, peak_rate),
        amounts,
        cost_at_most: cost(&scenario.target, amounts),
        peak_rate,
        peak_phase: phases
            .iter()
            .find(|phase| phase.rate_max > 0.0 && phase.rate_max >= peak_rate)
            .map(|phase| phase.name.clone()),
        closed_loop_slots,
        in_flight: in_flight(scenario, &scenario.target, peak_rate, closed_loop_slots),
        budgets: Usage { scenario, demand: &demand, runs: &planned.runs, saved, now, span }
            .budgets(),
        phases,
        buckets,
    }
}

fn next_firings(scenario: &Scenario, now: SystemTime) -> Vec<SystemTime> {
    let Start::Cron(cron) = &scenario.start else { return Vec::new() };
    std::iter::successors(cron.next_after(now), |last| cron.next_after(*last))
        .take(FIRINGS)
        .collect()
}

fn is_endless(scenario: &Scenario) -> bool {
    scenario.schedule.phases().iter().all(|phase| phase.load.is_flat())
        && Timetable::for_scenario(scenario).is_endless()
}

pub fn tokens_per_request(scenario: &Scenario, forecast: &ScenarioForecast) -> (f64, f64) {
    let Amounts { requests, input_tokens_estimated, output_tokens_at_most } = forecast.amounts;
    if requests > 0.0 {
        (input_tokens_estimated / requests, output_tokens_at_most / requests)
    } else {
        mean_tokens(scenario, Lengths::default())
    }
}

fn phase(demand: &Demand<'_>, placed: &PhaseSpan<'_>) -> PhaseForecast {
    let (extremes, requests) = demand.phase(placed);
    PhaseForecast {
        name: placed.phase.name.clone(),
        start: placed.start,
        length: placed.phase.length,
        requests: round_to_micro(requests),
        rate_min: lowest(extremes),
        rate_max: extremes.rate_max,
        closed_loop_slots: extremes.slots,
    }
}

pub fn buckets_of_one_pass(scenario: &Scenario, shard: Shard) -> Vec<Bucket> {
    let demand = Demand::new(scenario, shard);
    buckets(&demand, &[demand.one_pass()], scenario.schedule.length())
}

/// Returns no bucket if the span is zero.
fn buckets(demand: &Demand<'_>, runs: &[CycleRun], span: Duration) -> Vec<Bucket> {
    let edge = |index: u32| span * index / BUCKETS;
    let count = if span.is_zero() { 0 } else { BUCKETS };
    (0..count).map(|index| bucket(demand, runs, edge(index), edge(index + 1))).collect()
}

fn bucket(demand: &Demand<'_>, runs: &[CycleRun], from: Duration, to: Duration) -> Bucket {
    let first = runs.partition_point(|run| run.end <= from && run.begin < from);
    let (mut extremes, mut totals) = (Extremes::NONE, DemandTotals::default());
    let mut active_time = Duration::ZERO;
    for run in runs.iter().skip(first).take_while(|run| run.begin < to) {
        let (begin, end) = (run.begin.max(from), run.end.min(to));
        extremes = extremes.merge(demand.extremes(run, begin, end));
        totals = totals + demand.totals(run, begin, end);
        active_time += end.saturating_sub(begin);
    }
    let length = to.saturating_sub(from);
    Bucket {
        start_seconds: from.as_secs_f64(),
        requests: round_to_micro(totals.requests),
        // The rate is zero while the schedule does not run.
        rate_min: if active_time < length { 0.0 } else { lowest(extremes) },
        rate_mean: round_to_micro(totals.expected / length.as_secs_f64()),
        rate_max: extremes.rate_max,
        closed_loop_slots: extremes.slots,
    }
}

fn lowest(extremes: Extremes) -> f64 {
    if extremes.rate_min.is_finite() { extremes.rate_min } else { 0.0 }
}

fn cost(target: &Target, amounts: Amounts) -> Option<Cost> {
    let prices = target.prices.as_ref()?;
    let amount = prices.cost(amounts.input_tokens_estimated, amounts.output_tokens_at_most);
    Some(Cost { amount, currency: prices.currency.clone() })
}

/// The most requests that the searches of a scenario keep in flight.
fn most_in_search(scenario: &Scenario) -> u32 {
    let searches = scenario.schedule.phases().iter().filter_map(|phase| phase.load.search());
    let most = searches.map(|spec| match spec.range {
        // An overloaded target does not respond until this limit is reached.
        SearchRange::Rate { .. } => scenario.max_concurrency.get(),
        SearchRange::Concurrency { to, .. } => to.get(),
    });
    most.max().unwrap_or(0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn in_flight(scenario: &Scenario, target: &Target, peak_rate: f64, slots: u32) -> InFlight {
    let cap = scenario.max_concurrency.get();
    let longest_request = target.timeouts.total;
    let slots = slots.max(most_in_search(scenario));
    let by_littles_law = peak_rate * longest_request.as_secs_f64() + f64::from(slots);
    InFlight {
        // Even a very low rate can have one request in flight.
        at_most: (by_littles_law.ceil() as u32).min(cap),
        by_littles_law,
        longest_request,
        max_concurrency: cap,
        seconds_to_fill: (peak_rate > 0.0).then(|| f64::from(cap) / peak_rate),
    }
}

fn sum(scenarios: &[ScenarioForecast], predecessors: &[Option<usize>]) -> Sum {
    let mut sum = Sum {
        amounts: Amounts::default(),
        cost_at_most: BTreeMap::new(),
        peak_rate: 0.0,
        closed_loop_slots: 0,
        in_flight_at_most: 0,
        buckets: scenarios
            .first()
            .map_or_else(Vec::new, |first| vec![Bucket::default(); first.buckets.len()]),
    };
    let mut in_flight_at_most = Vec::new();
    for scenario in scenarios {
        let costs = scenario.other_targets.iter().map(|other| &other.cost_at_most);
        for cost in costs.chain([&scenario.cost_at_most]).flatten() {
            *sum.cost_at_most.entry(cost.currency.clone()).or_default() += cost.amount;
        }
        let in_flight = scenario.other_targets.iter().map(|other| &other.in_flight);
        let mut at_most = 0;
        for in_flight in in_flight.chain([&scenario.in_flight]) {
            at_most += u64::from(in_flight.at_most);
            // Every target gets all requests.
            sum.amounts.requests += scenario.amounts.requests;
            sum.amounts.input_tokens_estimated += scenario.amounts.input_tokens_estimated;
            sum.amounts.output_tokens_at_most += scenario.amounts.output_tokens_at_most;
        }
        in_flight_at_most.push(at_most);
        let number = u32::try_from(1 + scenario.other_targets.len()).unwrap_or(u32::MAX);
        let targets = f64::from(number);
        for (all, one) in sum.buckets.iter_mut().zip(&scenario.buckets) {
            all.start_seconds = one.start_seconds;
            all.requests += targets * one.requests;
            all.rate_min += targets * one.rate_min;
            all.rate_mean += targets * one.rate_mean;
            all.rate_max += targets * one.rate_max;
            all.closed_loop_slots += number * one.closed_loop_slots;
        }
    }
    sum.in_flight_at_most = highest_sum(predecessors, &in_flight_at_most);
    sum.peak_rate = sum.buckets.iter().map(|bucket| bucket.rate_max).fold(0.0, f64::max);
    sum.closed_loop_slots =
        sum.buckets.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
    sum
}

fn rfc3339_time<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*at))
}

fn rfc3339_times<S: Serializer>(all: &[SystemTime], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(|at| rfc3339(*at)))
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
