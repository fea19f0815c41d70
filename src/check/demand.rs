//! Counts the requests that a schedule sends in a given time, with their rates and tokens.
//!
//! For evenly spaced arrivals, the count equals the number of arrivals of the pacer. For random
//! arrivals, it is the expected number.

use std::iter::Sum;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::planned_runs::CycleRun;
use crate::plan::{RequestParameters, Scenario};
use crate::schedule::{Arrivals, Lengths, PhaseSpan, Schedule, Shard, TraceRow};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DemandTotals {
    /// The expected number of arrivals: the integral of the rate.
    pub expected: f64,
    /// The number of requests, including the requests of phases that count them.
    pub requests: f64,
    /// Input tokens of all prompts.
    pub input: f64,
    /// Output tokens, if every response has its longest permitted length.
    pub output: f64,
}

impl Add for DemandTotals {
    type Output = DemandTotals;

    fn add(self, other: DemandTotals) -> DemandTotals {
        DemandTotals {
            expected: self.expected + other.expected,
            requests: self.requests + other.requests,
            input: self.input + other.input,
            output: self.output + other.output,
        }
    }
}

impl Sub for DemandTotals {
    type Output = DemandTotals;

    fn sub(self, other: DemandTotals) -> DemandTotals {
        DemandTotals {
            expected: self.expected - other.expected,
            requests: self.requests - other.requests,
            input: self.input - other.input,
            output: self.output - other.output,
        }
    }
}

impl Sum for DemandTotals {
    fn sum<I: Iterator<Item = DemandTotals>>(all: I) -> DemandTotals {
        all.fold(DemandTotals::default(), Add::add)
    }
}

/// The lowest and the highest load in a span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extremes {
    /// The lowest rate in requests per second. Infinite if no phase has a rate.
    pub rate_min: f64,
    /// The highest rate in requests per second. For a replay, the most rows of the trace within a
    /// second.
    pub rate_max: f64,
    /// The highest number of requests that a closed loop keeps in flight.
    pub slots: u32,
}

impl Extremes {
    /// The extremes of no time at all, so that `merge` ignores them.
    pub const NONE: Extremes = Extremes { rate_min: f64::INFINITY, rate_max: 0.0, slots: 0 };

    #[must_use]
    pub fn merge(self, other: Extremes) -> Extremes {
        Extremes {
            rate_min: self.rate_min.min(other.rate_min),
            rate_max: self.rate_max.max(other.rate_max),
            slots: self.slots.max(other.slots),
        }
    }
}

/// The requests of one scenario that one shard sends.
pub struct Demand<'a> {
    schedule: &'a Schedule,
    shard: Shard,
    /// True if arrivals are evenly spaced, so their exact number is known.
    is_even: bool,
    /// The mean requests of an arrival: the turns of a session, or 1.
    turns: f64,
    /// Input and output tokens of a request, unless a trace row sets its lengths.
    tokens: (f64, f64),
    /// The phases that end after a number of requests: the start in the cycle, and the number of
    /// requests of this shard.
    counted: Vec<(Duration, f64)>,
    replays: Vec<Replay<'a>>,
    full_cycle: Extremes,
}

struct Replay<'a> {
    start: Duration,
    rows: &'a [TraceRow],
    /// At index n: the sums of the input tokens and of the output tokens of the first n rows.
    tokens_before: Vec<(f64, f64)>,
}

impl<'a> Demand<'a> {
    pub fn new(scenario: &'a Scenario, shard: Shard) -> Demand<'a> {
        let schedule = &*scenario.schedule;
        let spans = || (0..schedule.phases().len()).filter_map(|index| schedule.phase_span(index));
        let counted = spans().filter_map(|span| {
            let count = span.phase.load.count()?;
            Some((span.start, requests_of_shard(shard, count)))
        });
        let replays = spans().filter_map(|span| {
            let trace = span.phase.load.trace()?;
            Some(Replay::new(span.start, trace.rows(), scenario))
        });
        let demand = Demand {
            schedule,
            shard,
            is_even: scenario.arrivals == Arrivals::Constant,
            turns: mean_turns(scenario),
            tokens: mean_tokens(scenario, Lengths::default()),
            counted: counted.collect(),
            replays: replays.collect(),
            full_cycle: Extremes::NONE,
        };
        let full_cycle = demand.extremes_in_cycle(Duration::ZERO, schedule.length());
        Demand { full_cycle, ..demand }
    }

    /// Returns the requests and tokens of a run between two times since the start of the forecast.
    pub fn totals(&self, run: &CycleRun, from: Duration, to: Duration) -> DemandTotals {
        let before =
            if from > run.begin { self.totals_until(run, from) } else { DemandTotals::default() };
        self.totals_until(run, to) - before
    }

    fn totals_until(&self, run: &CycleRun, to: Duration) -> DemandTotals {
        // A run can begin in the middle of its first cycle, and then has missed the earlier
        // arrivals.
        let missed = match run.after {
            Some(after) => self.totals_in_cycle(run.cycle, after, |begin| begin < after),
            None => DemandTotals::default(),
        };
        let (cycles, time) = self.position(run, to);
        let last = if time.is_zero() && cycles >= run.cycles {
            // The arrivals at the first instant of the next cycle are not part of this run.
            DemandTotals::default()
        } else {
            self.totals_in_cycle(run.cycle.wrapping_add(cycles), time, |begin| begin <= time)
        };
        self.totals_of_cycles(run.cycle, cycles) + last - missed
    }

    pub fn extremes(&self, run: &CycleRun, from: Duration, to: Duration) -> Extremes {
        let ((first, begin), (last, end)) = (self.position(run, from), self.position(run, to));
        match last.saturating_sub(first) {
            0 => self.extremes_in_cycle(begin, end),
            1 if end < begin => self
                .extremes_in_cycle(begin, self.schedule.length())
                .merge(self.extremes_in_cycle(Duration::ZERO, end)),
            _ => self.full_cycle,
        }
    }

    /// Returns the lowest and highest load of a phase, and its number of requests.
    pub fn phase(&self, span: &PhaseSpan<'_>) -> (Extremes, f64) {
        let arrivals = match span.phase.load.count() {
            Some(count) => requests_of_shard(self.shard, count),
            None => span.total.as_f64() / f64::from(self.shard.count()),
        };
        (self.extremes_in_phase(span, span.start, span.end), arrivals * self.turns)
    }

    /// Cuts a phase into equal parts and returns the mean rate of each part.
    pub fn means(&self, span: &PhaseSpan<'_>, parts: u32) -> Vec<f64> {
        let length = span.end.saturating_sub(span.start);
        let edge = |part: u32| match part {
            0 => self.schedule.area_before(span.index),
            part if part == parts => self.schedule.area_before(span.index) + span.total,
            part => self.schedule.area(span.start + length * part / parts),
        };
        let seconds = (length / parts).as_secs_f64() * f64::from(self.shard.count()) / self.turns;
        let mean = |part| {
            if seconds > 0.0 { (edge(part + 1) - edge(part)).as_f64() / seconds } else { 0.0 }
        };
        (0..parts).map(mean).collect()
    }

    pub fn one_pass(&self) -> CycleRun {
        let (begin, end) = (Duration::ZERO, self.schedule.length());
        CycleRun { begin, end, cycle: 0, from: Duration::ZERO, after: None, cycles: 1 }
    }

    /// Returns the number of completed cycles at the time `at`, and the offset in the current
    /// cycle.
    fn position(&self, run: &CycleRun, at: Duration) -> (u64, Duration) {
        let length = self.schedule.length().as_nanos();
        if length == 0 {
            return (run.cycles, Duration::ZERO);
        }
        let passed = (run.from + at.saturating_sub(run.begin)).as_nanos();
        (
            u64::try_from(passed / length).unwrap_or(u64::MAX),
            Duration::from_nanos_u128(passed % length),
        )
    }

    /// Returns the totals of a cycle up to `time`. For a phase that counts requests, `has_begun`
    /// decides from its start whether all its requests are included.
    fn totals_in_cycle(
        &self,
        cycle: u64,
        time: Duration,
        has_begun: impl Fn(Duration) -> bool,
    ) -> DemandTotals {
        let area = self.schedule.area(time);
        let (before, left_over) = self.schedule.arrivals_before(cycle);
        let arrived = self
            .arrivals_of_shard(before, before.wrapping_add(to_u64((left_over + area).arrivals())));
        let counted = self
            .counted
            .iter()
            .filter(|(begin, _)| has_begun(*begin))
            .map(|(_, count)| count)
            .sum();
        let replayed = self.replays.iter().map(|replay| replay.until(time)).sum();
        self.combine(area.as_f64(), arrived, counted, replayed)
    }

    /// Returns the totals of complete cycles. `first` is the number of the first cycle.
    fn totals_of_cycles(&self, first: u64, cycles: u64) -> DemandTotals {
        let total = self.schedule.total();
        let arrived = self.arrivals_of_shard(
            self.schedule.arrivals_before(first).0,
            self.schedule.arrivals_before(first.wrapping_add(cycles)).0,
        );
        let times = as_f64(cycles);
        let counted: f64 = self.counted.iter().map(|(_, count)| count).sum();
        let replayed: Replayed =
            self.replays.iter().map(|replay| replay.until(Duration::MAX)).sum();
        self.combine(total.as_f64() * times, arrived, counted * times, replayed.times(times))
    }

    fn combine(&self, area: f64, arrived: u64, counted: f64, replayed: Replayed) -> DemandTotals {
        let expected = area / f64::from(self.shard.count());
        let arrivals = counted + if self.is_even { as_f64(arrived) } else { expected };
        let (requests, expected) = (arrivals * self.turns, expected * self.turns);
        let replayed = replayed.times(f64::from(self.shard.count()).recip());
        let (input, output) = self.tokens;
        DemandTotals {
            expected,
            requests,
            input: replayed.input + (requests - replayed.rows) * input,
            output: replayed.output + (requests - replayed.rows) * output,
        }
    }

    /// Returns how many of the arrivals `from..to` this shard sends. The numbers are from the
    /// common sequence of all shards.
    fn arrivals_of_shard(&self, from: u64, to: u64) -> u64 {
        let first = from.wrapping_add(self.shard.arrivals_to_skip(from));
        to.saturating_sub(first).div_ceil(u64::from(self.shard.count()))
    }

    fn extremes_in_cycle(&self, from: Duration, to: Duration) -> Extremes {
        let current =
            self.schedule.phase_at(from).map_or(self.schedule.phases().len(), |span| span.index);
        let is_at_from =
            |index: usize| self.schedule.phase_span(index).is_some_and(|span| span.end >= from);
        // Phases of length zero at `from` precede the current phase in the list.
        let first =
            (0..current).rev().take_while(|index| is_at_from(*index)).last().unwrap_or(current);
        let phases = (first..).map_while(|index| self.schedule.phase_span(index));
        let phases = phases.take_while(|span| span.start < to || span.end <= to);
        let touched = phases.filter(|span| span.end > from || span.start == span.end);
        touched
            .map(|span| self.extremes_in_phase(&span, from.max(span.start), to.min(span.end)))
            .fold(Extremes::NONE, Extremes::merge)
    }

    fn extremes_in_phase(&self, span: &PhaseSpan<'_>, from: Duration, to: Duration) -> Extremes {
        let load = &span.phase.load;
        let in_phase = |time: Duration| time.saturating_sub(span.start);
        // A phase of length zero has no rate, and must not count as the lowest rate.
        let (rate_min, rate_max) = load
            .rate_range(in_phase(from), in_phase(to), span.phase.length)
            .unwrap_or((f64::INFINITY, 0.0));
        let slots = load.slots().map_or(0, |slots| self.shard.part(slots.get().into()));
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let shards = f64::from(self.shard.count()) / self.turns;
        Extremes {
            rate_min: round_to_micro(rate_min / shards),
            rate_max: round_to_micro(rate_max / shards),
            slots,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Replayed {
    rows: f64,
    input: f64,
    output: f64,
}

impl Replayed {
    fn times(self, times: f64) -> Replayed {
        Replayed { rows: self.rows * times, input: self.input * times, output: self.output * times }
    }
}

impl Sum for Replayed {
    fn sum<I: Iterator<Item = Replayed>>(all: I) -> Replayed {
        all.fold(Replayed::default(), |sum, one| Replayed {
            rows: sum.rows + one.rows,
            input: sum.input + one.input,
            output: sum.output + one.output,
        })
    }
}

impl<'a> Replay<'a> {
    fn new(start: Duration, rows: &'a [TraceRow], scenario: &Scenario) -> Replay<'a> {
        let mut sum = (0.0, 0.0);
        let sums = rows.iter().map(|row| {
            let (input, output) = mean_tokens(scenario, row.lengths());
            sum = (sum.0 + input, sum.1 + output);
            sum
        });
        Replay { start, rows, tokens_before: std::iter::once((0.0, 0.0)).chain(sums).collect() }
    }

    /// Returns the rows that are due until `time`, and their tokens.
    fn until(&self, time: Duration) -> Replayed {
        let rows = time
            .checked_sub(self.start)
            .map_or(0, |time| self.rows.partition_point(|row| row.at() <= time));
        let (input, output) = self.tokens_before.get(rows).copied().unwrap_or_default();
        Replayed { rows: as_f64(rows as u64), input, output }
    }
}

/// Returns the mean number of input tokens of a request, with its system message, and its mean
/// limit of output tokens, which is 0 without text. `lengths` are from the trace row of the
/// request, if it has one.
pub fn mean_tokens(scenario: &Scenario, lengths: Lengths) -> (f64, f64) {
    let system = scenario.request.system.as_ref().map_or(0, String::len);
    let limit = most_output_tokens(&scenario.request);
    let (input, output) = scenario.prompts.mean_tokens(lengths, limit);
    let generates = scenario.target.dialect.api.generates_text();
    ((input + as_f64(system as u64) / 4.0).ceil(), if generates { output } else { 0.0 })
}

/// Returns the mean number of turns of a session, or 1 if each arrival is a single request.
pub fn mean_turns(scenario: &Scenario) -> f64 {
    let means = scenario.prompts.session_means(most_output_tokens(&scenario.request));
    means.map_or(1.0, |means| means.turns)
}

/// Returns the limit of output tokens of a request: `max_completion_tokens`, or else `max_tokens`.
pub fn most_output_tokens(request: &RequestParameters) -> f64 {
    let extra = request.extra.get("max_completion_tokens").and_then(serde_json::Value::as_f64);
    extra.unwrap_or(f64::from(request.max_tokens.get()))
}

fn requests_of_shard(shard: Shard, count: NonZeroU64) -> f64 {
    as_f64(shard.part(count.get()))
}

/// Rounds to a millionth, the precision of rates. The forecast reads the rate one nanosecond before
/// the end of a ramp, so a ramp to 50/s would show 49.999…/s without rounding.
pub fn round_to_micro(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn to_u64(arrivals: u128) -> u64 {
    u64::try_from(arrivals).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(number: u64) -> f64 {
    number as f64
}
