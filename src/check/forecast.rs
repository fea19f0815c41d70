//! What a plan sends in its coming day, as numbers: a pure function of the plan.
//!
//! The schedule is asked only for areas, rates and phases. How the time since the start becomes a
//! cycle and a time in it is decided in one function, `place`; whatever stops or moves a schedule
//! belongs there. What is said about tokens and money is an upper bound or a stated estimate, never
//! a promise: a server may answer in fewer tokens, and count those of a prompt differently.
//!
//! The types are serialised as they stand: their names are what `llmload check --json` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::plan::{Plan, RequestParameters, Scenario, Target};
use crate::schedule::{Load, Placed, Repeat, Schedule};

/// How far ahead is looked.
pub const DAY: Duration = Duration::from_hours(24);

/// Into how many parts the time ahead is cut: quarters of an hour, where it is a day.
pub const BUCKETS: u32 = 96;

/// What a plan sends in the coming day, or until the last schedule has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// How far it looks: a day, or less if every schedule ends sooner.
    #[serde(rename = "span_seconds", serialize_with = "seconds")]
    pub span: Duration,
    /// The length of each bucket.
    #[serde(rename = "bucket_seconds", serialize_with = "seconds")]
    pub bucket: Duration,
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
    /// The name of its target.
    pub target: String,
    /// One pass of its schedule.
    #[serde(rename = "cycle_seconds", serialize_with = "seconds")]
    pub cycle: Duration,
    /// How many passes; nothing where it goes on for ever.
    pub cycles: Option<u32>,
    /// What its open-loop phases send.
    pub amounts: Amounts,
    /// What its tokens cost at most, where the target has prices.
    pub cost_at_most: Option<Cost>,
    /// The highest rate, in requests per second.
    pub peak_rate: f64,
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
    /// Requests, as an expectation: a fraction of one is a request that may come or not.
    pub requests: f64,
    /// Tokens of their prompts and system messages, at four bytes a token.
    pub input_tokens_estimated: f64,
    /// Tokens of their answers, if each were as long as `max_tokens` allows.
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
    /// What it sends, where it is open-loop.
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
    /// From the start of the schedule.
    pub start_seconds: f64,
    /// What is sent in it.
    pub requests: f64,
    /// The lowest rate in it, in requests per second.
    pub rate_min: f64,
    /// On the average.
    pub rate_mean: f64,
    /// The highest.
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
    /// Of a plan that makes so many series.
    pub fn of(plan: &Plan, series: usize) -> Forecast {
        let span = plan.scenarios.iter().map(|scenario| end(scenario).min(DAY)).max().unwrap_or(DAY);
        let scenarios: Vec<Stream> = plan.scenarios.iter().map(|scenario| stream(scenario, span)).collect();
        let sum = sum(&scenarios);
        Forecast { span, bucket: span / BUCKETS, scenarios, sum, series }
    }
}

/// The cycle a scenario is in, and the time in it, so long after its start. Never falls; once the
/// schedule has ended it stays at the end.
fn place(scenario: &Scenario, since_start: Duration) -> (u32, Duration) {
    let length = scenario.schedule.length().as_nanos().max(1);
    let cycle = u32::try_from(since_start.as_nanos() / length).unwrap_or(u32::MAX);
    match scenario.repeat {
        Repeat::Times(times) if cycle >= times.get() => (times.get(), Duration::ZERO),
        _ => (cycle, since_start.saturating_sub(scenario.schedule.length().saturating_mul(cycle))),
    }
}

/// When its last cycle is over.
fn end(scenario: &Scenario) -> Duration {
    match scenario.repeat {
        Repeat::Forever => Duration::MAX,
        Repeat::Times(times) => scenario.schedule.length().saturating_mul(times.get()),
    }
}

/// What a scenario asks for between two places of its schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    rate_min: f64,
    rate_max: f64,
    slots: u32,
}

impl Asked {
    /// In no time at all.
    const NOTHING: Asked = Asked { rate_min: f64::INFINITY, rate_max: 0.0, slots: 0 };

    /// In both of two stretches.
    fn and(self, other: Asked) -> Asked {
        Asked {
            rate_min: self.rate_min.min(other.rate_min),
            rate_max: self.rate_max.max(other.rate_max),
            slots: self.slots.max(other.slots),
        }
    }

    fn bucket(self, from: Duration, to: Duration, requests: f64) -> Bucket {
        Bucket {
            start_seconds: from.as_secs_f64(),
            requests: tidy(requests),
            rate_min: self.rate_min,
            rate_mean: tidy(requests / to.saturating_sub(from).as_secs_f64()),
            rate_max: self.rate_max,
            closed_loop_slots: self.slots,
        }
    }
}

fn stream(scenario: &Scenario, span: Duration) -> Stream {
    let schedule = &scenario.schedule;
    let phases: Vec<PhaseForecast> = (0..schedule.phases().len())
        .filter_map(|index| Some(phase(schedule, schedule.placed(index)?)))
        .collect();
    let whole = within(schedule, Duration::ZERO, schedule.length());
    let edge = |index: u32| span * index / BUCKETS;
    let buckets: Vec<Bucket> =
        (0..BUCKETS).map(|index| bucket(scenario, whole, edge(index), edge(index + 1))).collect();
    let requests = tidy(sent(scenario, span) - sent(scenario, Duration::ZERO));
    let peak_rate = buckets.iter().map(|bucket| bucket.rate_max).fold(0.0, f64::max);
    let closed_loop_slots = buckets.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
    let amounts = Amounts {
        requests,
        input_tokens_estimated: requests * input_tokens(scenario),
        output_tokens_at_most: requests * most_output_tokens(&scenario.request),
    };
    Stream {
        scenario: scenario.name.clone(),
        target: scenario.target.name.clone(),
        cycle: schedule.length(),
        cycles: match scenario.repeat {
            Repeat::Forever => None,
            Repeat::Times(times) => Some(times.get()),
        },
        amounts,
        cost_at_most: cost(&scenario.target, amounts),
        peak_rate,
        closed_loop_slots,
        in_flight: in_flight(scenario, peak_rate, closed_loop_slots),
        phases,
        buckets,
    }
}

fn phase(schedule: &Schedule, placed: Placed<'_>) -> PhaseForecast {
    let asked = within(schedule, placed.start, placed.end);
    PhaseForecast {
        name: placed.phase.name.clone(),
        start: placed.start,
        length: placed.phase.length,
        requests: tidy(placed.total.as_f64()),
        rate_min: asked.rate_min,
        rate_max: asked.rate_max,
        closed_loop_slots: asked.slots,
    }
}

/// The requests expected so long after the start.
fn sent(scenario: &Scenario, since_start: Duration) -> f64 {
    let (cycle, time) = place(scenario, since_start);
    f64::from(cycle) * scenario.schedule.total().as_f64() + scenario.schedule.area(time).as_f64()
}

fn bucket(scenario: &Scenario, whole: Asked, from: Duration, to: Duration) -> Bucket {
    let schedule = &scenario.schedule;
    let ((first, a), (last, b)) = (place(scenario, from), place(scenario, to));
    let mut asked = match last - first {
        0 => within(schedule, a, b),
        1 if b < a => within(schedule, a, schedule.length()).and(within(schedule, Duration::ZERO, b)),
        _ => whole,
    };
    // Where the schedule did not move for a while, nothing was asked for.
    let moved = (schedule.length().saturating_mul(last - first) + b).saturating_sub(a);
    if moved < to.saturating_sub(from) {
        asked.rate_min = 0.0;
    }
    asked.bucket(from, to, sent(scenario, to) - sent(scenario, from))
}

/// One pass of a schedule, in equal parts.
pub fn one_pass(schedule: &Schedule) -> Vec<Bucket> {
    let edge = |index: u32| schedule.length() * index / BUCKETS;
    let part = |index: u32| {
        let (from, to) = (edge(index), edge(index + 1));
        within(schedule, from, to).bucket(from, to, (schedule.area(to) - schedule.area(from)).as_f64())
    };
    (0..BUCKETS).map(part).collect()
}

/// Between two times of a cycle.
fn within(schedule: &Schedule, from: Duration, to: Duration) -> Asked {
    let (mut asked, mut time) = (Asked::NOTHING, from);
    while let Some(placed) = schedule.at(time).filter(|_| time < to) {
        let until = placed.end.min(to);
        let (rate_min, rate_max) = extremes(schedule, &placed, time, until);
        let slots = match placed.phase.load {
            Load::Concurrency(slots) => slots.get(),
            _ => 0,
        };
        asked = asked.and(Asked { rate_min, rate_max, slots });
        time = until;
    }
    asked
}

/// The lowest and the highest rate of a part of a phase. A straight line has them at its ends, a sine
/// also where it turns.
fn extremes(schedule: &Schedule, placed: &Placed<'_>, from: Duration, to: Duration) -> (f64, f64) {
    let last = to.saturating_sub(Duration::from_nanos(1)).max(from);
    let mut look: Vec<Duration> = vec![from, last];
    match placed.phase.load {
        Load::Constant(_)
        | Load::Ramp { .. }
        | Load::Pause
        | Load::Concurrency(_)
        | Load::Requests { .. }
        | Load::Replay(_) => {}
        Load::Sine { period, .. } => {
            let half = (period / 2).max(Duration::from_nanos(1));
            let first = placed.start + period / 4;
            let skipped = from.saturating_sub(first).as_nanos().div_ceil(half.as_nanos());
            let next = first + half.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX));
            look.extend([next, next + half].into_iter().filter(|turn| *turn < to));
        }
    }
    let rates = look.into_iter().map(|time| schedule.rate(time));
    let (low, high) =
        rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    (tidy(low), tidy(high))
}

/// Tokens of a prompt and its system message, by and large; at least one.
pub fn input_tokens(scenario: &Scenario) -> f64 {
    let system = scenario.request.system.as_ref().map_or(0, String::len);
    #[allow(clippy::cast_precision_loss)]
    let system = system as f64 / 4.0;
    (scenario.prompts.mean_tokens() + system).ceil()
}

/// Tokens of the longest answer that a request allows, under whichever name the bound is sent.
pub fn most_output_tokens(request: &RequestParameters) -> f64 {
    let extra = request.extra.get("max_completion_tokens").and_then(serde_json::Value::as_f64);
    extra.unwrap_or(f64::from(request.max_tokens.get()))
}

fn cost(target: &Target, amounts: Amounts) -> Option<Cost> {
    let prices = target.prices.as_ref()?;
    let amount = prices.cost(amounts.input_tokens_estimated, amounts.output_tokens_at_most);
    Some(Cost { amount, currency: prices.currency.clone() })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn in_flight(scenario: &Scenario, peak_rate: f64, slots: u32) -> InFlight {
    let cap = scenario.max_concurrency.get();
    let longest_request = scenario.target.timeouts.total;
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
        buckets: streams.first().map_or_else(Vec::new, |first| vec![Bucket::default(); first.buckets.len()]),
    };
    for stream in streams {
        sum.amounts.requests += stream.amounts.requests;
        sum.amounts.input_tokens_estimated += stream.amounts.input_tokens_estimated;
        sum.amounts.output_tokens_at_most += stream.amounts.output_tokens_at_most;
        if let Some(cost) = &stream.cost_at_most {
            *sum.cost_at_most.entry(cost.currency.clone()).or_default() += cost.amount;
        }
        sum.in_flight_at_most += u64::from(stream.in_flight.at_most);
        for (all, one) in sum.buckets.iter_mut().zip(&stream.buckets) {
            all.start_seconds = one.start_seconds;
            all.requests += one.requests;
            all.rate_min += one.rate_min;
            all.rate_mean += one.rate_mean;
            all.rate_max += one.rate_max;
            all.closed_loop_slots += one.closed_loop_slots;
        }
    }
    sum.peak_rate = sum.buckets.iter().map(|bucket| bucket.rate_max).fold(0.0, f64::max);
    sum.closed_loop_slots = sum.buckets.iter().map(|bucket| bucket.closed_loop_slots).max().unwrap_or(0);
    sum
}

/// To a millionth, as finely as rates are written: a ramp ends a nanosecond before its last rate.
fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests;
