//! What a plan sends in its coming day, as numbers: a function of the plan and of the time at which it
//! begins.
//!
//! When which part of a schedule is on stands in its `Itinerary`, what that part sends in its
//! `Meter`; here the two are put together. What is said about tokens and money is an upper bound or a
//! stated estimate, never a promise: a server may answer in fewer tokens, and count those of a prompt
//! differently.
//!
//! The types are serialised as they stand: their names are what `llmload check --json` prints.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::demand::{Extremes, Meter, Sent, mean_tokens, tidy};
use super::itinerary::{Itinerary, Run};
use crate::calendar::rfc3339;
use crate::plan::{Plan, Scenario, Start, Target};
use crate::schedule::{Lengths, Load, Phase, PhaseSpan, Repeat, Shard};
use crate::timetable::Timetable;

/// How far ahead is looked.
pub const DAY: Duration = Duration::from_hours(24);

/// Into how many parts the time ahead is cut: quarters of an hour, where it is a day.
pub const BUCKETS: u32 = 96;

/// How many firings of a cron are told.
const FIRINGS: usize = 3;

/// What a plan sends in the coming day, or until the last schedule has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The time at which it looks; everything is foretold as if the targets were ready by then.
    #[serde(serialize_with = "absolute")]
    pub from: SystemTime,
    /// Until when.
    #[serde(serialize_with = "absolute")]
    pub to: SystemTime,
    /// How far it looks: a day, or less if every schedule ends sooner.
    #[serde(rename = "span_seconds", serialize_with = "seconds")]
    pub span: Duration,
    /// The length of each bucket.
    #[serde(rename = "bucket_seconds", serialize_with = "seconds")]
    pub bucket: Duration,
    /// Whose part it is, of how many: `0/1` is all of it.
    pub shard: String,
    /// In the order of the file.
    pub scenarios: Vec<Stream>,
    /// All of them together.
    pub sum: Sum,
    /// The time series that the plan makes on `/metrics` once every phase has begun.
    pub series: usize,
}

/// One scenario's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stream {
    /// Its name.
    pub scenario: String,
    /// The name of its target, the first where it has several.
    pub target: String,
    /// Those to which the same goes again; all other figures are of the one target, not of all.
    pub further: Vec<Further>,
    /// Whether it is one load for ever: then its cycle says only how often arithmetic starts anew.
    pub endless: bool,
    /// One pass of its schedule.
    #[serde(rename = "cycle_seconds", serialize_with = "seconds")]
    pub cycle: Duration,
    /// How many passes, from each firing where a cron starts it; nothing where it goes on for ever.
    pub cycles: Option<u32>,
    /// For how much of the time ahead it is on.
    #[serde(rename = "on_seconds", serialize_with = "seconds")]
    pub on: Duration,
    /// When its cron fires next.
    #[serde(serialize_with = "absolutes")]
    pub next_firings: Vec<SystemTime>,
    /// Firings in the time ahead that come while it is still on.
    pub firings_skipped: u64,
    /// Whether some of its phases last until so many requests have ended. Nobody knows how long that
    /// takes; the schedule is foretold as if it took no time, and so sends less than this or later.
    pub counts_requests: bool,
    /// What its open-loop phases send, and those that count their requests.
    pub amounts: Amounts,
    /// What its tokens cost at most, where the target has prices.
    pub cost_at_most: Option<Cost>,
    /// The highest rate, in requests per second, to each target: exactly, however short it is. Of a replay,
    /// the most that come within a second.
    pub peak_rate: f64,
    /// The first phase with that rate.
    pub peak_phase: Option<String>,
    /// The most requests that closed-loop phases keep in flight; how many they send depends on the
    /// answers, and no total holds them.
    pub closed_loop_slots: u32,
    /// How many requests are in flight at worst.
    pub in_flight: InFlight,
    /// One pass, phase by phase.
    pub phases: Vec<PhaseForecast>,
    /// The time ahead, in equal parts.
    pub buckets: Vec<Bucket>,
}

/// Another target of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Further {
    /// Its name.
    pub target: String,
    /// What the tokens cost there, where it has prices.
    pub cost_at_most: Option<Cost>,
    /// How many requests are in flight there at worst.
    pub in_flight: InFlight,
}

/// Money.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// How much.
    pub amount: f64,
    /// Of what.
    pub currency: String,
}

/// What is sent, and what comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Amounts {
    /// Requests: as many as there will be, or of random arrivals the expectation.
    pub requests: f64,
    /// Tokens of their prompts and system messages: as drawn or recorded, else at four bytes a token.
    pub input_tokens_estimated: f64,
    /// Tokens of their answers, if each were as long as its bound allows: its own, or `max_tokens`.
    pub output_tokens_at_most: f64,
}

/// By Little's law, requests in flight are the rate times the duration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InFlight {
    /// The most there can be: what the law says, within the cap.
    pub at_most: u32,
    /// What the law says of the highest rate and of answers that take `timeouts.total`, and the slots
    /// of closed-loop phases.
    pub by_littles_law: f64,
    /// `timeouts.total`: no request lasts longer.
    #[serde(rename = "longest_request_seconds", serialize_with = "seconds")]
    pub longest_request: Duration,
    /// `max_concurrency`: an arrival that meets it is dropped.
    pub max_concurrency: u32,
    /// How long answers may take at the highest rate before the cap is reached; nothing without
    /// open-loop phases.
    pub seconds_to_fill: Option<f64>,
}

/// A phase of a cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseForecast {
    /// Its name.
    pub name: String,
    /// When it begins, from the start of the cycle.
    #[serde(rename = "start_seconds", serialize_with = "seconds")]
    pub start: Duration,
    /// How long it lasts.
    #[serde(rename = "length_seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// What it sends, where it is open-loop or counts its requests.
    pub requests: f64,
    /// The lowest rate in it.
    pub rate_min: f64,
    /// The highest.
    pub rate_max: f64,
    /// What it keeps in flight, where it is closed-loop.
    pub closed_loop_slots: u32,
}

/// A part of the time ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bucket {
    /// From now.
    pub start_seconds: f64,
    /// What is sent in it.
    pub requests: f64,
    /// The lowest rate in it, in requests per second.
    pub rate_min: f64,
    /// On the average.
    pub rate_mean: f64,
    /// The highest; of a replay, the most that come within a second.
    pub rate_max: f64,
    /// The most requests that a closed loop keeps in flight in it.
    pub closed_loop_slots: u32,
}

/// All scenarios together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sum {
    /// What their open-loop phases send.
    pub amounts: Amounts,
    /// What their tokens cost at most, by currency; nothing of targets without prices.
    pub cost_at_most: BTreeMap<String, f64>,
    /// The highest rate, if the peaks of a bucket fell on one instant.
    pub peak_rate: f64,
    /// Likewise of the slots of closed loops.
    pub closed_loop_slots: u32,
    /// The most requests in flight: every scenario's worst case at once.
    pub in_flight_at_most: u64,
    /// The time ahead, in equal parts.
    pub buckets: Vec<Bucket>,
}

impl Forecast {
    /// Of a plan that makes so many series, from `now` on.
    pub fn of(plan: &Plan, now: SystemTime, series: usize) -> Forecast {
        let itineraries: Vec<Itinerary> =
            plan.scenarios.iter().map(|scenario| Itinerary::of(scenario, now, DAY)).collect();
        let until = |itinerary: &Itinerary| if itinerary.is_over { itinerary.end() } else { DAY };
        let span = itineraries.iter().map(until).max().unwrap_or(DAY);
        let pairs = plan.scenarios.iter().zip(&itineraries);
        let scenarios: Vec<Stream> = pairs
            .map(|(scenario, itinerary)| stream(scenario, plan.shard, itinerary, now, span))
            .collect();
        let sum = sum(&scenarios);
        let shard = plan.shard.to_string();
        Forecast {
            from: now,
            to: now + span,
            span,
            bucket: span / BUCKETS,
            shard,
            scenarios,
            sum,
            series,
        }
    }
}

fn stream(
    scenario: &Scenario,
    shard: Shard,
    itinerary: &Itinerary,
    now: SystemTime,
    span: Duration,
) -> Stream {
    let schedule = &scenario.schedule;
    let meter = Meter::new(scenario, shard);
    let placed = (0..schedule.phases().len()).filter_map(|index| schedule.phase_span(index));
    let phases: Vec<PhaseForecast> = placed.map(|placed| phase(&meter, &placed)).collect();
    let buckets = in_buckets(&meter, &itinerary.runs, span);
    let all = || {
        itinerary
            .runs
            .iter()
            .map(|run| (meter.sent(run, run.begin, run.end), meter.asked(run, run.begin, run.end)))
    };
    let sent: Sent = all().map(|(sent, _)| sent).sum();
    let asked = all().map(|(_, asked)| asked).fold(Extremes::NOTHING, Extremes::and);
    let (peak_rate, closed_loop_slots) = (asked.rate_max, asked.slots);
    let amounts = Amounts {
        requests: tidy(sent.requests),
        input_tokens_estimated: tidy(sent.input),
        output_tokens_at_most: tidy(sent.output),
    };
    let cron = match &scenario.start {
        Start::Cron(cron) => Some(cron),
        _ => None,
    };
    let firings = std::iter::successors(cron.and_then(|cron| cron.next_after(now)), |last| {
        cron?.next_after(*last)
    });
    let further = scenario.other_targets.iter().map(|target| Further {
        target: target.name.clone(),
        cost_at_most: cost(target, amounts),
        in_flight: in_flight(scenario, target, peak_rate, closed_loop_slots),
    });
    Stream {
        scenario: scenario.name.clone(),
        target: scenario.target.name.clone(),
        further: further.collect(),
        endless: is_endless(scenario),
        cycle: schedule.length(),
        cycles: match (&scenario.start, scenario.repeat) {
            (Start::WallClock(_), _) | (_, Repeat::Forever) => None,
            (_, Repeat::Times(times)) => Some(times.get()),
        },
        on: itinerary.on(),
        next_firings: firings.take(FIRINGS).collect(),
        firings_skipped: itinerary.skipped,
        counts_requests: !schedule.is_timed(),
        amounts,
        cost_at_most: cost(&scenario.target, amounts),
        peak_rate,
        peak_phase: phases
            .iter()
            .find(|phase| phase.rate_max > 0.0 && phase.rate_max >= peak_rate)
            .map(|phase| phase.name.clone()),
        closed_loop_slots,
        in_flight: in_flight(scenario, &scenario.target, peak_rate, closed_loop_slots),
        phases,
        buckets,
    }
}

fn is_endless(scenario: &Scenario) -> bool {
    let even = |phase: &Phase| matches!(phase.load, Load::Constant(_) | Load::Concurrency(_));
    scenario.schedule.phases().iter().all(even) && Timetable::for_scenario(scenario).is_endless()
}

/// Tokens of a request: of its prompt, and the most of its answer, on the average.
pub fn tokens_each(scenario: &Scenario, stream: &Stream) -> (f64, f64) {
    let Amounts { requests, input_tokens_estimated, output_tokens_at_most } = stream.amounts;
    if requests > 0.0 {
        (input_tokens_estimated / requests, output_tokens_at_most / requests)
    } else {
        mean_tokens(scenario, Lengths::default())
    }
}

fn phase(meter: &Meter<'_>, placed: &PhaseSpan<'_>) -> PhaseForecast {
    let (asked, requests) = meter.phase(placed);
    PhaseForecast {
        name: placed.phase.name.clone(),
        start: placed.start,
        length: placed.phase.length,
        requests: tidy(requests),
        rate_min: lowest(asked),
        rate_max: asked.rate_max,
        closed_loop_slots: asked.slots,
    }
}

/// One pass of a schedule, in equal parts.
pub fn one_pass(scenario: &Scenario, shard: Shard) -> Vec<Bucket> {
    let meter = Meter::new(scenario, shard);
    in_buckets(&meter, &[meter.one_pass()], scenario.schedule.length())
}

/// A span of time in equal parts; none, where there is no time.
fn in_buckets(meter: &Meter<'_>, runs: &[Run], span: Duration) -> Vec<Bucket> {
    let edge = |index: u32| span * index / BUCKETS;
    let count = if span.is_zero() { 0 } else { BUCKETS };
    (0..count).map(|index| bucket(meter, runs, edge(index), edge(index + 1))).collect()
}

fn bucket(meter: &Meter<'_>, runs: &[Run], from: Duration, to: Duration) -> Bucket {
    let first = runs.partition_point(|run| run.end <= from && run.begin < from);
    let (mut asked, mut sent, mut on) = (Extremes::NOTHING, Sent::default(), Duration::ZERO);
    for run in runs.iter().skip(first).take_while(|run| run.begin < to) {
        let (a, b) = (run.begin.max(from), run.end.min(to));
        asked = asked.and(meter.asked(run, a, b));
        sent = sent + meter.sent(run, a, b);
        on += b.saturating_sub(a);
    }
    let length = to.saturating_sub(from);
    Bucket {
        start_seconds: from.as_secs_f64(),
        requests: tidy(sent.requests),
        // Where the schedule did not move for a while, nothing was asked for.
        rate_min: if on < length { 0.0 } else { lowest(asked) },
        rate_mean: tidy(sent.expected / length.as_secs_f64()),
        rate_max: asked.rate_max,
        closed_loop_slots: asked.slots,
    }
}

/// The lowest rate, also of what has none.
fn lowest(asked: Extremes) -> f64 {
    if asked.rate_min.is_finite() { asked.rate_min } else { 0.0 }
}

fn cost(target: &Target, amounts: Amounts) -> Option<Cost> {
    let prices = target.prices.as_ref()?;
    let amount = prices.cost(amounts.input_tokens_estimated, amounts.output_tokens_at_most);
    Some(Cost { amount, currency: prices.currency.clone() })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn in_flight(scenario: &Scenario, target: &Target, peak_rate: f64, slots: u32) -> InFlight {
    let cap = scenario.max_concurrency.get();
    let longest_request = target.timeouts.total;
    let by_littles_law = peak_rate * longest_request.as_secs_f64() + f64::from(slots);
    InFlight {
        // One alone is in flight too, however rare.
        at_most: (by_littles_law.ceil() as u32).min(cap),
        by_littles_law,
        longest_request,
        max_concurrency: cap,
        seconds_to_fill: (peak_rate > 0.0).then(|| f64::from(cap) / peak_rate),
    }
}

fn sum(streams: &[Stream]) -> Sum {
    let mut sum = Sum {
        amounts: Amounts::default(),
        cost_at_most: BTreeMap::new(),
        peak_rate: 0.0,
        closed_loop_slots: 0,
        in_flight_at_most: 0,
        buckets: streams
            .first()
            .map_or_else(Vec::new, |first| vec![Bucket::default(); first.buckets.len()]),
    };
    for stream in streams {
        let costs = stream.further.iter().map(|further| &further.cost_at_most);
        for cost in costs.chain([&stream.cost_at_most]).flatten() {
            *sum.cost_at_most.entry(cost.currency.clone()).or_default() += cost.amount;
        }
        let in_flight = stream.further.iter().map(|further| &further.in_flight);
        for in_flight in in_flight.chain([&stream.in_flight]) {
            sum.in_flight_at_most += u64::from(in_flight.at_most);
            // The same again for each target.
            sum.amounts.requests += stream.amounts.requests;
            sum.amounts.input_tokens_estimated += stream.amounts.input_tokens_estimated;
            sum.amounts.output_tokens_at_most += stream.amounts.output_tokens_at_most;
        }
        let number = u32::try_from(1 + stream.further.len()).unwrap_or(u32::MAX);
        let targets = f64::from(number);
        for (all, one) in sum.buckets.iter_mut().zip(&stream.buckets) {
            all.start_seconds = one.start_seconds;
            all.requests += targets * one.requests;
            all.rate_min += targets * one.rate_min;
            all.rate_mean += targets * one.rate_mean;
            all.rate_max += targets * one.rate_max;
            all.closed_loop_slots += number * one.closed_loop_slots;
        }
    }
    sum.peak_rate = sum.buckets.iter().map(|bucket| bucket.rate_max).fold(0.0, f64::max);
    sum.closed_loop_slots =
        sum.buckets.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
    sum
}

fn absolute<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*at))
}

fn absolutes<S: Serializer>(all: &[SystemTime], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(|at| rfc3339(*at)))
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
