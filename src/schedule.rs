//! The load over time: phases, the integral Λ of their rate, and its inverse.
//!
//! A schedule is a pure function of time. All arithmetic is in integers, except for the swing of a
//! sine, so a year of uptime is as exact as the first second. No clock ticks and no error
//! accumulates.
//!
//! [`Area`] counts the area under the rate in units of 1/(7.2·10¹⁸) of an arrival. This unit makes
//! the area of every whole phase a whole number: a rate is in millionths of an arrival per hour, a
//! time is in nanoseconds (3.6·10¹² to the hour), and the area of a ramp has a divisor of 2.

mod gaps;
mod rate;
mod shard;
mod trace;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

pub use gaps::{ArrivalGaps, ArrivalSpec, Arrivals, MEAN_GAP};
pub use rate::{Area, ParseRateError, Rate};
pub use shard::Shard;
pub use trace::{Lengths, Trace, TraceRow};

/// What a phase asks for while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// Open loop at one rate.
    Constant(Rate),
    /// Open loop at a rate that moves in a straight line.
    Ramp {
        /// Rate at the start.
        from: Rate,
        /// Rate at the end.
        to: Rate,
    },
    /// Open loop at a rate that swings about a mean: mean + amplitude · sin(2πt/period).
    Sine {
        /// The rate at the start, and on the average of a period.
        mean: Rate,
        /// How far it swings; at most the mean.
        amplitude: Rate,
        /// How long one swing takes.
        period: Duration,
    },
    /// Open loop at the instants of a recorded trace.
    Replay(Trace),
    /// No load.
    Pause,
    /// Closed loop: this many requests in flight, each replaced as it ends.
    Concurrency(NonZeroU32),
    /// The same until so many requests have ended. In the time of the schedule it takes none: the
    /// schedule stands still until it is over.
    Requests {
        /// Requests in flight.
        slots: NonZeroU32,
        /// Requests in all.
        count: NonZeroU64,
    },
}

impl Load {
    /// Λ: the arrivals expected in the first `time` of a phase that lasts `length`. A trace has its first
    /// at 0 already.
    fn area(&self, time: u64, length: u64) -> Area {
        match *self {
            Load::Constant(rate) => Area::constant(rate, time),
            Load::Ramp { from, to } => Area::ramp(from, to, time, length),
            Load::Sine { mean, amplitude, period } => {
                Area::sine(mean, amplitude, rate::nanos(period), time)
            }
            Load::Replay(ref trace) => trace.area(time),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } => Area::ZERO,
        }
    }

    /// Λ⁻¹: the first nanosecond at which `area` is reached, which the phase must hold.
    fn due(&self, area: Area, length: u64) -> u64 {
        match *self {
            Load::Constant(rate) => area.over(rate),
            Load::Ramp { from, to } => {
                let guess = straight_line_inverse(from, to, area, length);
                first_reached(guess, length, |time| self.area(time, length) >= area)
            }
            Load::Sine { mean, .. } => {
                let guess = area.over(mean).min(length);
                first_reached(guess, length, |time| self.area(time, length) >= area)
            }
            Load::Replay(ref trace) => trace.due(area),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } => 0,
        }
    }

    /// λ: arrivals per second asked for at a time of a phase that lasts `length`.
    fn rate(&self, time: Duration, length: Duration) -> f64 {
        match *self {
            Load::Constant(rate) => rate.per_second(),
            Load::Ramp { from, to } => {
                let share = time.as_secs_f64() / length.as_secs_f64();
                from.per_second() + (to.per_second() - from.per_second()) * share
            }
            Load::Sine { mean, amplitude, period } => {
                let turns = time.as_secs_f64() / period.as_secs_f64();
                let rate = mean.per_second()
                    + amplitude.per_second() * (std::f64::consts::TAU * turns).sin();
                rate.max(0.0)
            }
            Load::Replay(ref trace) => trace.rate(rate::nanos(time), rate::nanos(length)),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } => 0.0,
        }
    }
}

/// As it stands in the file: `constant 5/s`, `ramp 5/s to 50/s`, `replay trace.csv`, `pause`, `concurrency 10`.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Constant(rate) => write!(f, "constant {rate}"),
            Load::Ramp { from, to } => write!(f, "ramp {from} to {to}"),
            Load::Sine { mean, amplitude, .. } => write!(f, "sine {mean} ± {amplitude}"),
            Load::Replay(trace) => write!(f, "replay {}", trace.name()),
            Load::Pause => f.write_str("pause"),
            Load::Concurrency(slots) => write!(f, "concurrency {slots}"),
            Load::Requests { slots, count } => write!(f, "concurrency {slots}, {count} requests"),
        }
    }
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase {
    /// The name on dashboards; unique within a schedule.
    pub name: String,
    pub load: Load,
    /// From [`Phase::SHORTEST`] to [`Phase::LONGEST`]; zero if the phase counts requests.
    pub length: Duration,
}

impl Phase {
    /// A shorter phase would end before anybody could observe it.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// 366 days. The arithmetic of ramps stays within 128 bits up to this length.
    pub const LONGEST: Duration = Duration::from_hours(8784);
}

/// The number of cycles of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// Until the daemon ends.
    Forever,
    Times(NonZeroU32),
}

impl Repeat {
    /// Returns true if the cycle of this number, from 0, takes place.
    pub fn includes(self, cycle: u64) -> bool {
        match self {
            Repeat::Forever => true,
            Repeat::Times(times) => cycle < u64::from(times.get()),
        }
    }
}

/// A phase with its place in the cycle.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan<'a> {
    /// The position in [`Schedule::phases`].
    pub index: usize,
    pub phase: &'a Phase,
    /// The start of the phase, since the start of the cycle.
    pub start: Duration,
    /// The end of the phase, since the start of the cycle.
    pub end: Duration,
    /// The open-loop arrivals expected in the phase. This is not Λ(end) − Λ(start), because Λ(start)
    /// includes the rows that a trace sends at the very start.
    pub total: Area,
}

/// Phases in order. One pass through them is a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    phases: Vec<Phase>,
    /// For each phase: the time in nanoseconds and Λ at its end.
    ends: Vec<(u64, Area)>,
}

impl Schedule {
    pub fn new(phases: Vec<Phase>) -> Schedule {
        let (mut time, mut area) = (0, Area::ZERO);
        let ends = phases
            .iter()
            .map(|phase| {
                let length = rate::nanos(phase.length);
                time += length;
                area = area + phase.load.area(length, length);
                (time, area)
            })
            .collect();
        Schedule { phases, ends }
    }

    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The length of one cycle.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.end().0)
    }

    /// The open-loop arrivals expected in one cycle.
    pub fn total(&self) -> Area {
        self.end().1
    }

    /// Returns the number of evenly spread arrivals in all cycles before this one, and the distance
    /// from the last of them to the start of this cycle.
    ///
    /// The first arrival is half an arrival after the start of cycle 0. So a phase with a whole number
    /// of arrivals has none on its edges.
    pub fn arrivals_before(&self, cycle: u64) -> (u64, Area) {
        let cycle = u128::from(cycle);
        let (whole, rest) = (self.total().0 / Area::ARRIVAL.0, self.total().0 % Area::ARRIVAL.0);
        // Number of cycles times a fraction of an arrival: below 2⁶⁴ · 2⁶³.
        let rest = cycle * rest + Area::ARRIVAL.0 / 2;
        let count = cycle.wrapping_mul(whole).wrapping_add(rest / Area::ARRIVAL.0);
        (low_bits(count), Area(rest % Area::ARRIVAL.0))
    }

    /// Λ at the start of the phase at this position, without the rows that a trace sends then.
    pub fn area_before(&self, index: usize) -> Area {
        index.checked_sub(1).and_then(|i| self.ends.get(i)).map_or(Area::ZERO, |end| end.1)
    }

    /// Returns true if the length of every phase is known in advance.
    pub fn is_timed(&self) -> bool {
        !self.phases.iter().any(|phase| matches!(phase.load, Load::Requests { .. }))
    }

    /// Λ(t): the arrivals expected up to and including a time of the cycle. A trace at the start of
    /// the cycle makes Λ(0) more than 0.
    pub fn area(&self, time: Duration) -> Area {
        let Some(span) = self.phase_at(time) else { return self.total() };
        let before = self.area_before(span.index);
        let within = rate::nanos(time) - rate::nanos(span.start);
        before + span.phase.load.area(within, rate::nanos(span.phase.length))
    }

    /// Λ⁻¹: the first nanosecond of a cycle at which Λ reaches `area`; `None` if the cycle does not
    /// reach it. If the rate is zero for a time, this is the first instant of that time.
    pub fn due(&self, area: Area) -> Option<Duration> {
        let (_, phase, (start, before)) = self.phase_reaching(area)?;
        let within = phase.load.due(area - before, rate::nanos(phase.length));
        Some(Duration::from_nanos(start + within))
    }

    /// The phase at a time of the cycle; `None` from the end of the cycle on.
    pub fn phase_at(&self, time: Duration) -> Option<PhaseSpan<'_>> {
        let index = self.ends.partition_point(|&(end, _)| end <= rate::nanos(time));
        self.phase_span(index)
    }

    /// The phase at this position; `None` beyond the last one.
    pub fn phase_span(&self, index: usize) -> Option<PhaseSpan<'_>> {
        let phase = self.phases.get(index)?;
        let (start, before) = index.checked_sub(1).map_or_else(Default::default, |i| self.ends[i]);
        let (end, area) = self.ends[index];
        Some(PhaseSpan {
            index,
            phase,
            start: Duration::from_nanos(start),
            end: Duration::from_nanos(end),
            total: area - before,
        })
    }

    /// λ(t) in arrivals per second at a time of the cycle. The rate of a trace is its mean over the
    /// ten seconds around that time.
    pub fn rate(&self, time: Duration) -> f64 {
        self.phase_at(time).map_or(0.0, |span| {
            span.phase.load.rate(time.saturating_sub(span.start), span.phase.length)
        })
    }

    /// Returns the position of the phase in which Λ reaches `area`, and the token counts that a trace
    /// gives for the arrival there.
    pub fn phase_and_lengths(&self, area: Area) -> Option<(usize, Option<Lengths>)> {
        let (index, phase, (_, before)) = self.phase_reaching(area)?;
        let lengths = match &phase.load {
            Load::Replay(trace) => trace.lengths(area - before),
            _ => None,
        };
        Some((index, lengths))
    }

    /// The phase in which Λ reaches an area, its position, and the time and Λ at its start.
    fn phase_reaching(&self, area: Area) -> Option<(usize, &Phase, (u64, Area))> {
        let index = self.ends.partition_point(|&(_, end)| end < area);
        let before = index.checked_sub(1).map_or_else(Default::default, |before| self.ends[before]);
        Some((index, self.phases.get(index)?, before))
    }

    fn end(&self) -> (u64, Area) {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// The lower 64 bits: numbers of arrivals wrap around.
#[allow(clippy::cast_possible_truncation)]
fn low_bits(count: u128) -> u64 {
    count as u64
}

/// Where a straight line of rates reaches an area, in floating point: right to some nanoseconds.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn straight_line_inverse(from: Rate, to: Rate, area: Area, length: u64) -> u64 {
    let (r0, r1, n) = (from.per_second(), to.per_second(), area.as_f64());
    let slope = (r1 - r0) / (length as f64 / 1e9);
    // 2n/(r0 + √(r0² + 2·slope·n)) is the root of r0·t + slope·t²/2 = n that stays exact at r0 = 0.
    let root = (r0 * r0 + 2.0 * slope * n).max(0.0).sqrt();
    let seconds = if r0 + root > 0.0 { 2.0 * n / (r0 + root) } else { 0.0 };
    ((seconds * 1e9) as u64).min(length)
}

/// The first time up to `end` at which a monotone `reached` holds, searched outwards from a guess:
/// floating point proposes, integers decide.
fn first_reached(guess: u64, end: u64, reached: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while !reached(high) && high < end {
        low = high + 1;
        high = high.saturating_add(step).min(end);
        step *= 2;
    }
    step = 1;
    while low > 0 && reached(low) {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    // The answer lies in low..=high.
    while low < high {
        let middle = low + (high - low) / 2;
        if reached(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests;
