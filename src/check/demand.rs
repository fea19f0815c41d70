//! What a schedule asks for: how many requests up to some time, at which rates, with how many tokens.
//!
//! Evenly spread arrivals are counted as the pacer counts them, each mark one; of random ones only the
//! expectation is known.

use std::iter::Sum;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

use super::itinerary::Run;
use crate::plan::{RequestParameters, Scenario};
use crate::schedule::{Arrivals, Lengths, Load, PhaseSpan, Schedule, Shard, TraceRow};

/// A burst is what comes within so long: the unit of all rates.
const BURST: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// The integral of the rate.
    pub expected: f64,
    /// Requests, those of phases that count theirs among them.
    pub requests: f64,
    /// Tokens of their prompts.
    pub input: f64,
    /// Tokens of their answers, if each were as long as it may be.
    pub output: f64,
}

impl Add for Sent {
    type Output = Sent;

    fn add(self, other: Sent) -> Sent {
        Sent {
            expected: self.expected + other.expected,
            requests: self.requests + other.requests,
            input: self.input + other.input,
            output: self.output + other.output,
        }
    }
}

impl Sub for Sent {
    type Output = Sent;

    fn sub(self, other: Sent) -> Sent {
        Sent {
            expected: self.expected - other.expected,
            requests: self.requests - other.requests,
            input: self.input - other.input,
            output: self.output - other.output,
        }
    }
}

impl Sum for Sent {
    fn sum<I: Iterator<Item = Sent>>(all: I) -> Sent {
        all.fold(Sent::default(), Add::add)
    }
}

/// What is asked for between two times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extremes {
    /// The lowest rate.
    pub rate_min: f64,
    /// The highest; of a replay, the most that come within a second.
    pub rate_max: f64,
    /// The most requests that a closed loop keeps in flight.
    pub slots: u32,
}

impl Extremes {
    /// In no time at all.
    pub const NOTHING: Extremes = Extremes { rate_min: f64::INFINITY, rate_max: 0.0, slots: 0 };

    /// In both of two stretches.
    #[must_use]
    pub fn and(self, other: Extremes) -> Extremes {
        Extremes {
            rate_min: self.rate_min.min(other.rate_min),
            rate_max: self.rate_max.max(other.rate_max),
            slots: self.slots.max(other.slots),
        }
    }
}

/// Measures the schedule of a scenario, as far as it is this shard's.
pub struct Meter<'a> {
    schedule: &'a Schedule,
    shard: Shard,
    /// Whether arrivals stand evenly, so that each is known.
    even: bool,
    /// Tokens of a request whose lengths no trace tells.
    tokens: (f64, f64),
    /// When a phase begins that counts its requests, and how many of them are ours.
    counted: Vec<(Duration, f64)>,
    replays: Vec<Replay<'a>>,
    whole: Extremes,
}

struct Replay<'a> {
    start: Duration,
    rows: &'a [TraceRow],
    /// The tokens of all rows before each.
    before: Vec<(f64, f64)>,
}

impl<'a> Meter<'a> {
    /// For the arrivals of this shard.
    pub fn new(scenario: &'a Scenario, shard: Shard) -> Meter<'a> {
        let schedule = &*scenario.schedule;
        let placed = || (0..schedule.phases().len()).filter_map(|index| schedule.phase_span(index));
        let counted = placed().filter_map(|placed| match placed.phase.load {
            Load::Requests { count, .. } => Some((placed.start, part(shard, count))),
            _ => None,
        });
        let replays = placed().filter_map(|placed| match &placed.phase.load {
            Load::Replay(trace) => Some(Replay::new(placed.start, trace.rows(), scenario)),
            _ => None,
        });
        let meter = Meter {
            schedule,
            shard,
            even: scenario.arrivals == Arrivals::Constant,
            tokens: mean_tokens(scenario, Lengths::default()),
            counted: counted.collect(),
            replays: replays.collect(),
            whole: Extremes::NOTHING,
        };
        let whole = meter.within(Duration::ZERO, schedule.length());
        Meter { whole, ..meter }
    }

    /// What a run sends between two times of it.
    pub fn sent(&self, run: &Run, from: Duration, to: Duration) -> Sent {
        let before = if from > run.begin { self.sent_until(run, from) } else { Sent::default() };
        self.sent_until(run, to) - before
    }

    fn sent_until(&self, run: &Run, to: Duration) -> Sent {
        // What was due before it was joined.
        let missed = |after| self.of_cycle(run.cycle, after, |begin| begin < after);
        let missed = run.after.map_or_else(Sent::default, missed);
        let (cycles, time) = self.place(run, to);
        let begun = if time.is_zero() && cycles >= run.cycles {
            // What the next cycle sends as it begins is not of this run.
            Sent::default()
        } else {
            self.of_cycle(run.cycle.wrapping_add(cycles), time, |begin| begin <= time)
        };
        self.of_cycles(run.cycle, cycles) + begun - missed
    }

    /// What is asked for between two times of a run.
    pub fn asked(&self, run: &Run, from: Duration, to: Duration) -> Extremes {
        let ((first, a), (last, b)) = (self.place(run, from), self.place(run, to));
        match last.saturating_sub(first) {
            0 => self.within(a, b),
            1 if b < a => {
                self.within(a, self.schedule.length()).and(self.within(Duration::ZERO, b))
            }
            _ => self.whole,
        }
    }

    /// What a phase asks for, and what it sends.
    pub fn phase(&self, placed: &PhaseSpan<'_>) -> (Extremes, f64) {
        let requests = match placed.phase.load {
            Load::Requests { count, .. } => part(self.shard, count),
            _ => placed.total.as_f64() / f64::from(self.shard.count()),
        };
        (self.part_of(placed, placed.start, placed.end), requests)
    }

    /// The rates of a phase, each the mean of its part.
    pub fn means(&self, placed: &PhaseSpan<'_>, parts: u32) -> Vec<f64> {
        let length = placed.end.saturating_sub(placed.start);
        let edge = |part: u32| match part {
            0 => self.schedule.area_before(placed.index),
            part if part == parts => self.schedule.area_before(placed.index) + placed.total,
            part => self.schedule.area(placed.start + length * part / parts),
        };
        let seconds = (length / parts).as_secs_f64() * f64::from(self.shard.count());
        let mean = |part| {
            if seconds > 0.0 { (edge(part + 1) - edge(part)).as_f64() / seconds } else { 0.0 }
        };
        (0..parts).map(mean).collect()
    }

    /// The run of one pass.
    pub fn one_pass(&self) -> Run {
        let (begin, end) = (Duration::ZERO, self.schedule.length());
        Run { begin, end, cycle: 0, from: Duration::ZERO, after: None, cycles: 1 }
    }

    /// How many cycles of a run have passed at some time of it, and the time of the next.
    fn place(&self, run: &Run, at: Duration) -> (u64, Duration) {
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

    /// What a cycle sends up to a time; of the phases that count theirs, those that have `begun`.
    fn of_cycle(&self, cycle: u64, time: Duration, begun: impl Fn(Duration) -> bool) -> Sent {
        let area = self.schedule.area(time);
        let (before, left_over) = self.schedule.arrivals_before(cycle);
        let arrived = self.mine(before, before.wrapping_add(low((left_over + area).arrivals())));
        let counted =
            self.counted.iter().filter(|(begin, _)| begun(*begin)).map(|(_, count)| count).sum();
        let replayed = self.replays.iter().map(|replay| replay.until(time)).sum();
        self.assembled(area.as_f64(), arrived, counted, replayed)
    }

    /// What so many whole cycles send.
    fn of_cycles(&self, first: u64, cycles: u64) -> Sent {
        let total = self.schedule.total();
        let mine = self.mine(
            self.schedule.arrivals_before(first).0,
            self.schedule.arrivals_before(first.wrapping_add(cycles)).0,
        );
        let times = as_f64(cycles);
        let counted: f64 = self.counted.iter().map(|(_, count)| count).sum();
        let replayed: Replayed =
            self.replays.iter().map(|replay| replay.until(Duration::MAX)).sum();
        self.assembled(total.as_f64() * times, mine, counted * times, replayed.times(times))
    }

    fn assembled(&self, area: f64, arrived: u64, counted: f64, replayed: Replayed) -> Sent {
        let expected = area / f64::from(self.shard.count());
        let requests = counted + if self.even { as_f64(arrived) } else { expected };
        let replayed = replayed.times(f64::from(self.shard.count()).recip());
        let (input, output) = self.tokens;
        Sent {
            expected,
            requests,
            input: replayed.input + (requests - replayed.rows) * input,
            output: replayed.output + (requests - replayed.rows) * output,
        }
    }

    /// Of the arrivals with these numbers, those of this shard.
    fn mine(&self, from: u64, to: u64) -> u64 {
        let first = from.wrapping_add(self.shard.arrivals_to_skip(from));
        to.saturating_sub(first).div_ceil(u64::from(self.shard.count()))
    }

    /// Between two times of a cycle.
    fn within(&self, from: Duration, to: Duration) -> Extremes {
        let here = self
            .schedule
            .phase_at(from)
            .map_or(self.schedule.phases().len(), |placed| placed.index);
        let begins =
            |index: usize| self.schedule.phase_span(index).is_some_and(|placed| placed.end >= from);
        // Phases that take no time of the schedule stand before the one that is on.
        let first = (0..here).rev().take_while(|index| begins(*index)).last().unwrap_or(here);
        let phases = (first..).map_while(|index| self.schedule.phase_span(index));
        let phases = phases.take_while(|placed| placed.start < to || placed.end <= to);
        let on = phases.filter(|placed| placed.end > from || placed.start == placed.end);
        on.map(|placed| self.part_of(&placed, from.max(placed.start), to.min(placed.end)))
            .fold(Extremes::NOTHING, Extremes::and)
    }

    /// In a part of a phase.
    fn part_of(&self, placed: &PhaseSpan<'_>, from: Duration, to: Duration) -> Extremes {
        let (rate_min, rate_max) = match &placed.phase.load {
            // It takes none of the time of the schedule, and so has no rate that could be the lowest.
            Load::Requests { .. } => (f64::INFINITY, 0.0),
            Load::Replay(trace) => {
                let inside = |time: Duration| time.saturating_sub(placed.start);
                bursts(trace.rows(), inside(from), inside(to))
            }
            _ => extremes(self.schedule, placed, from, to),
        };
        let slots = match placed.phase.load {
            Load::Concurrency(slots) | Load::Requests { slots, .. } => {
                u32::try_from(self.shard.part(slots.get().into())).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        let shards = f64::from(self.shard.count());
        Extremes { rate_min: tidy(rate_min / shards), rate_max: tidy(rate_max / shards), slots }
    }
}

/// What a replay sends.
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
        Replay { start, rows, before: std::iter::once((0.0, 0.0)).chain(sums).collect() }
    }

    /// Up to a time of the cycle.
    fn until(&self, time: Duration) -> Replayed {
        let rows = time
            .checked_sub(self.start)
            .map_or(0, |time| self.rows.partition_point(|row| row.at() <= time));
        let (input, output) = self.before.get(rows).copied().unwrap_or_default();
        Replayed { rows: as_f64(rows as u64), input, output }
    }
}

/// The fewest and the most rows within a second that begins in a part of a trace.
fn bursts(rows: &[TraceRow], from: Duration, to: Duration) -> (f64, f64) {
    let begun = |time: Duration| rows.partition_point(|row| row.at() < time);
    let (first, last) = (begun(from), rows.partition_point(|row| row.at() <= to));
    let (mut most, mut end) = (0, first);
    let mut fewest = if from + BURST <= to { begun(from + BURST) - first } else { 0 };
    for (index, row) in rows.iter().enumerate().take(last).skip(first) {
        while rows.get(end).is_some_and(|other| other.at() < row.at() + BURST) {
            end += 1;
        }
        most = most.max(end - index);
        // The second after a row begins without it.
        if row.at() + BURST <= to {
            let after = rows.get(end).is_some_and(|other| other.at() == row.at() + BURST);
            fewest = fewest.min(end + usize::from(after) - index - 1);
        }
    }
    (as_f64(fewest as u64), as_f64(most as u64))
}

/// The lowest and the highest rate of a part of a phase. A straight line has them at its ends, a sine
/// also where it turns.
fn extremes(
    schedule: &Schedule,
    placed: &PhaseSpan<'_>,
    from: Duration,
    to: Duration,
) -> (f64, f64) {
    let last = to.saturating_sub(Duration::from_nanos(1)).max(from);
    let mut look: Vec<Duration> = vec![from, last];
    if let Load::Sine { period, .. } = placed.phase.load {
        let half = (period / 2).max(Duration::from_nanos(1));
        let first = placed.start + period / 4;
        let skipped = from.saturating_sub(first).as_nanos().div_ceil(half.as_nanos());
        let next = first + half.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX));
        look.extend([next, next + half].into_iter().filter(|turn| *turn < to));
    }
    let rates = look.into_iter().map(|time| schedule.rate(time));
    rates.fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)))
}

/// Tokens of a prompt with its system message, and the most of an answer, by and large, where a trace
/// gives these lengths.
pub fn mean_tokens(scenario: &Scenario, lengths: Lengths) -> (f64, f64) {
    let system = scenario.request.system.as_ref().map_or(0, String::len);
    let limit = most_output_tokens(&scenario.request);
    let (input, output) = scenario.prompts.mean_tokens(lengths, limit);
    ((input + as_f64(system as u64) / 4.0).ceil(), output)
}

/// Tokens of the longest answer that a request allows, under whichever name the bound is sent.
pub fn most_output_tokens(request: &RequestParameters) -> f64 {
    let extra = request.extra.get("max_completion_tokens").and_then(serde_json::Value::as_f64);
    extra.unwrap_or(f64::from(request.max_tokens.get()))
}

/// This shard's part of a number of requests.
fn part(shard: Shard, count: NonZeroU64) -> f64 {
    as_f64(shard.part(count.get()))
}

/// To a millionth, as finely as rates are written: a ramp ends a nanosecond before its last rate.
pub fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn low(arrivals: u128) -> u64 {
    u64::try_from(arrivals).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(number: u64) -> f64 {
    number as f64
}
