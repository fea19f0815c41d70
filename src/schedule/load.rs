//! The shape of the load in a phase.
//!
//! A new shape is one variant of [`Load`] and one arm in each method here. Every method matches
//! exhaustively, so the compiler lists the arms that are missing. Other modules use these methods
//! instead of a match with a wildcard, which would misreport a new shape in silence.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::rate::{Area, Rate, nanos};
use super::trace::{Trace, TraceRow};

/// The window in which the arrivals of a replay are counted to give its lowest and highest rate.
const BURST_WINDOW: Duration = Duration::from_secs(1);

/// The load of a phase while it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// Open loop at one rate.
    Constant(Rate),
    /// Open loop at a rate that moves in a straight line.
    Ramp { from: Rate, to: Rate },
    /// Open loop at a rate that swings about a mean: mean + amplitude · sin(2πt/period).
    Sine {
        /// The rate at the start, and the average over a period.
        mean: Rate,
        /// The largest distance from the mean. At most the mean itself.
        amplitude: Rate,
        period: Duration,
    },
    /// Open loop at the instants of a recorded trace.
    Replay(Trace),
    /// No load.
    Pause,
    /// Closed loop: a fixed number of requests in flight. Each one that ends is replaced.
    Concurrency(NonZeroU32),
    /// Closed loop until a number of requests have ended. The phase takes no schedule time: the
    /// schedule is held while it runs.
    Requests {
        /// Requests in flight.
        slots: NonZeroU32,
        /// Total number of requests.
        count: NonZeroU64,
    },
}

/// Arithmetic of open-loop arrivals. Times are nanoseconds from the start of the phase; `length` is
/// the length of the phase.
impl Load {
    /// Λ: the arrivals expected in the first `time` of the phase. It can be above zero at time 0,
    /// because a trace can have a row there.
    pub(super) fn area(&self, time: u64, length: u64) -> Area {
        match *self {
            Load::Constant(rate) => Area::constant(rate, time),
            Load::Ramp { from, to } => Area::ramp(from, to, time, length),
            Load::Sine { mean, amplitude, period } => {
                Area::sine(mean, amplitude, nanos(period), time)
            }
            Load::Replay(ref trace) => trace.area(time),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } => Area::ZERO,
        }
    }

    /// Λ⁻¹: the first nanosecond at which `area` is reached. The phase must reach it.
    pub(super) fn due(&self, area: Area, length: u64) -> u64 {
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

    /// λ: the scheduled arrivals per second at a time of the phase.
    pub(super) fn rate(&self, time: Duration, length: Duration) -> f64 {
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
            Load::Replay(ref trace) => trace.rate(nanos(time), nanos(length)),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } => 0.0,
        }
    }

    /// The lowest and the highest rate, in arrivals per second, from one time of the phase up to,
    /// but excluding, another. A replay has the fewest and the most rows within one second. `None`
    /// if the phase takes no schedule time.
    pub fn rate_range(&self, from: Duration, to: Duration, length: Duration) -> Option<(f64, f64)> {
        let last = to.saturating_sub(Duration::from_nanos(1)).max(from);
        let at = |time| self.rate(time, length);
        match self {
            Load::Constant(rate) => Some((rate.per_second(), rate.per_second())),
            Load::Ramp { .. } => Some((at(from).min(at(last)), at(from).max(at(last)))),
            Load::Sine { period, .. } => {
                let turns = turning_points(*period, from).into_iter().filter(|turn| *turn < to);
                let rates = turns.chain([from, last]).map(at);
                Some(rates.fold((f64::INFINITY, 0.0), |(lowest, highest), rate| {
                    (rate.min(lowest), rate.max(highest))
                }))
            }
            Load::Replay(trace) => Some(burst_range(trace.rows(), from, to)),
            Load::Pause | Load::Concurrency(_) => Some((0.0, 0.0)),
            Load::Requests { .. } => None,
        }
    }
}

/// Properties of a shape.
impl Load {
    /// The word for this shape in a configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Load::Constant(_) => "constant",
            Load::Ramp { .. } => "ramp",
            Load::Sine { .. } => "sine",
            Load::Replay(_) => "replay",
            Load::Pause => "pause",
            Load::Concurrency(_) | Load::Requests { .. } => "concurrency",
        }
    }

    /// The requests that a closed loop keeps in flight. `None` for an open loop.
    pub fn slots(&self) -> Option<NonZeroU32> {
        match *self {
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Pause => None,
            Load::Concurrency(slots) | Load::Requests { slots, .. } => Some(slots),
        }
    }

    /// The number of requests after which the phase ends. `None` if it ends at a time.
    pub fn count(&self) -> Option<NonZeroU64> {
        match *self {
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Pause
            | Load::Concurrency(_) => None,
            Load::Requests { count, .. } => Some(count),
        }
    }

    /// The slots of a closed loop that ends at a time. `None` for an open loop, and for a closed
    /// loop that ends after a number of requests.
    pub fn timed_slots(&self) -> Option<NonZeroU32> {
        self.slots().filter(|_| self.count().is_none())
    }

    /// The trace that a phase replays.
    pub fn trace(&self) -> Option<&Trace> {
        match self {
            Load::Replay(trace) => Some(trace),
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Pause
            | Load::Concurrency(_)
            | Load::Requests { .. } => None,
        }
    }

    /// The rate at which the phase ends, from which a ramp that follows can start. `None` if the
    /// shape has no rate that a person would continue from.
    pub fn final_rate(&self) -> Option<Rate> {
        match *self {
            Load::Constant(rate) | Load::Ramp { to: rate, .. } => Some(rate),
            Load::Pause => Some(Rate::ZERO),
            Load::Sine { .. } | Load::Replay(_) | Load::Concurrency(_) | Load::Requests { .. } => {
                None
            }
        }
    }

    /// Returns true if the load is the same at every time, so a schedule of this phase alone looks
    /// like one load without an end.
    pub fn is_flat(&self) -> bool {
        match self {
            Load::Constant(_) | Load::Pause | Load::Concurrency(_) => true,
            Load::Ramp { .. } | Load::Sine { .. } | Load::Replay(_) | Load::Requests { .. } => {
                false
            }
        }
    }
}

/// The text of a configuration: `constant 5/s`, `ramp 5/s to 50/s`, `replay trace.csv`, `pause`,
/// `concurrency 10`.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Load::Constant(rate) => write!(f, " {rate}"),
            Load::Ramp { from, to } => write!(f, " {from} to {to}"),
            Load::Sine { mean, amplitude, .. } => write!(f, " {mean} ± {amplitude}"),
            Load::Replay(trace) => write!(f, " {}", trace.name()),
            Load::Pause => Ok(()),
            Load::Concurrency(slots) => write!(f, " {slots}"),
            Load::Requests { slots, count } => write!(f, " {slots}, {count} requests"),
        }
    }
}

/// Two consecutive turning points of a sine, the first of them at or after a time of the phase.
/// The extremes of any part that begins there are at its ends or at one of these points.
fn turning_points(period: Duration, from: Duration) -> [Duration; 2] {
    let half = (period / 2).max(Duration::from_nanos(1));
    let first = period / 4;
    let skipped = from.saturating_sub(first).as_nanos().div_ceil(half.as_nanos());
    let next = first + half.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX));
    [next, next + half]
}

/// The fewest and the most rows within a second that begins in a part of a trace.
fn burst_range(rows: &[TraceRow], from: Duration, to: Duration) -> (f64, f64) {
    let rows_before = |time: Duration| rows.partition_point(|row| row.at() < time);
    let (first, last) = (rows_before(from), rows.partition_point(|row| row.at() <= to));
    let (mut most, mut end) = (0, first);
    let mut fewest =
        if from + BURST_WINDOW <= to { rows_before(from + BURST_WINDOW) - first } else { 0 };
    for (index, row) in rows.iter().enumerate().take(last).skip(first) {
        while rows.get(end).is_some_and(|other| other.at() < row.at() + BURST_WINDOW) {
            end += 1;
        }
        most = most.max(end - index);
        // The second that begins just after a row does not hold it.
        if row.at() + BURST_WINDOW <= to {
            let at_end = rows.get(end).is_some_and(|other| other.at() == row.at() + BURST_WINDOW);
            fewest = fewest.min(end + usize::from(at_end) - index - 1);
        }
    }
    (as_f64(fewest), as_f64(most))
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

/// The first time up to `end` at which a monotone `reached` holds. The search goes outwards from a
/// guess: floating point proposes, integers decide.
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
    // The result is in low..=high.
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

#[allow(clippy::cast_precision_loss)]
fn as_f64(number: usize) -> f64 {
    number as f64
}
