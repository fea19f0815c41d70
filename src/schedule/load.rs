//! The shape of the load in a phase.
//!
//! To add a shape, add a variant to [`Load`] and an arm to each method here. The compiler lists the
//! missing arms. Other modules call these methods and must not have a wildcard arm for [`Load`],
//! because the compiler reports no missing arm in such a `match`.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Area, Rate, nanos};
use super::search::SearchSpec;
use super::trace::{Trace, TraceRow};

/// [`Load::rate_range`] counts the rows of a replay in windows of this length.
const BURST_WINDOW: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    Constant(Rate),
    /// A straight line from one rate to the other.
    Ramp {
        from: Rate,
        to: Rate,
    },
    /// mean + amplitude · sin(2πt/period)
    Sine {
        mean: Rate,
        /// At most `mean`.
        amplitude: Rate,
        period: Duration,
    },
    /// Arrivals at the recorded times of a trace.
    Replay(Trace),
    /// No load.
    Pause,
    /// Closed loop: when a request ends, llmload sends the next one.
    Concurrency(NonZeroU32),
    /// Closed loop that ends after `count` requests. The time of the cycle does not advance during
    /// this phase.
    Requests {
        slots: NonZeroU32,
        count: NonZeroU64,
    },
    /// Steps of constant load, until the capacity of the target is known. The time of the cycle
    /// does not advance during this phase.
    Search(Arc<SearchSpec>),
}

/// The arithmetic of open-loop arrivals. Times are offsets from the start of the phase, and integer
/// times are in nanoseconds.
impl Load {
    /// Returns Λ(time), the expected arrivals from the start of the phase up to `time`. Includes a
    /// trace row exactly at `time`.
    pub(super) fn area(&self, time: u64, length: u64) -> Area {
        match *self {
            Load::Constant(rate) => Area::constant(rate, time),
            Load::Ramp { from, to } => Area::ramp(from, to, time, length),
            Load::Sine { mean, amplitude, period } => {
                Area::sine(mean, amplitude, nanos(period), time)
            }
            Load::Replay(ref trace) => trace.area(time),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } | Load::Search(_) => {
                Area::ZERO
            }
        }
    }

    /// Returns Λ⁻¹(area), the first nanosecond at which Λ reaches `area`. The caller ensures that Λ
    /// reaches `area` in this phase.
    pub(super) fn due(&self, area: Area, length: u64) -> u64 {
        match *self {
            Load::Constant(rate) => area.time_at_rate(rate),
            Load::Ramp { from, to } => {
                let guess = approximate_due_of_ramp(from, to, area, length);
                first_reached(guess, length, |time| self.area(time, length) >= area)
            }
            Load::Sine { mean, .. } => {
                let guess = area.time_at_rate(mean).min(length);
                first_reached(guess, length, |time| self.area(time, length) >= area)
            }
            Load::Replay(ref trace) => trace.due(area),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } | Load::Search(_) => 0,
        }
    }

    /// Returns λ(time) in arrivals per second.
    pub(super) fn rate(&self, time: Duration, length: Duration) -> f64 {
        match *self {
            Load::Constant(rate) => rate.per_second(),
            Load::Ramp { from, to } => {
                let progress = time.as_secs_f64() / length.as_secs_f64();
                from.per_second() + (to.per_second() - from.per_second()) * progress
            }
            Load::Sine { mean, amplitude, period } => {
                let turns = time.as_secs_f64() / period.as_secs_f64();
                let rate = mean.per_second()
                    + amplitude.per_second() * (std::f64::consts::TAU * turns).sin();
                rate.max(0.0)
            }
            Load::Replay(ref trace) => trace.rate(nanos(time), nanos(length)),
            Load::Pause | Load::Concurrency(_) | Load::Requests { .. } | Load::Search(_) => 0.0,
        }
    }

    /// Returns the lowest and the highest rate from `from` until before `to`, in arrivals per
    /// second. For a replay, these are the fewest and the most rows in any second. `None` if the
    /// phase has no length in time.
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
            Load::Requests { .. } | Load::Search(_) => None,
        }
    }
}

impl Load {
    /// The key in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Load::Constant(_) => "constant",
            Load::Ramp { .. } => "ramp",
            Load::Sine { .. } => "sine",
            Load::Replay(_) => "replay",
            Load::Pause => "pause",
            Load::Concurrency(_) | Load::Requests { .. } => "concurrency",
            Load::Search(_) => "search",
        }
    }

    /// The number of requests in flight of a closed loop; `None` for an open loop.
    pub fn slots(&self) -> Option<NonZeroU32> {
        match *self {
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Pause
            | Load::Search(_) => None,
            Load::Concurrency(slots) | Load::Requests { slots, .. } => Some(slots),
        }
    }

    /// The number of requests that ends the phase; `None` if the phase has a length in time.
    pub fn count(&self) -> Option<NonZeroU64> {
        match *self {
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Pause
            | Load::Concurrency(_)
            | Load::Search(_) => None,
            Load::Requests { count, .. } => Some(count),
        }
    }

    /// The search of the phase; `None` for every other shape.
    pub fn search(&self) -> Option<&Arc<SearchSpec>> {
        match self {
            Load::Search(spec) => Some(spec),
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Pause
            | Load::Concurrency(_)
            | Load::Requests { .. } => None,
        }
    }

    /// Returns true if the phase has a length in time. The clock of the schedule stops while any
    /// other phase runs.
    pub fn is_timed(&self) -> bool {
        self.count().is_none() && self.search().is_none()
    }

    /// Like [`Load::slots`], but `None` for a closed loop that ends after a number of requests.
    pub fn timed_slots(&self) -> Option<NonZeroU32> {
        self.slots().filter(|_| self.count().is_none())
    }

    pub fn trace(&self) -> Option<&Trace> {
        match self {
            Load::Replay(trace) => Some(trace),
            Load::Constant(_)
            | Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Pause
            | Load::Concurrency(_)
            | Load::Requests { .. }
            | Load::Search(_) => None,
        }
    }

    /// The rate at the end of the phase. A ramp without a start rate begins at the final rate of
    /// the previous phase. `None` for a sine, a replay and a closed loop: a ramp after one of these
    /// needs a start rate.
    pub fn final_rate(&self) -> Option<Rate> {
        match *self {
            Load::Constant(rate) | Load::Ramp { to: rate, .. } => Some(rate),
            Load::Pause => Some(Rate::ZERO),
            Load::Sine { .. }
            | Load::Replay(_)
            | Load::Concurrency(_)
            | Load::Requests { .. }
            | Load::Search(_) => None,
        }
    }

    /// Returns true if the load never changes during the phase. If the only phase of a repeated
    /// schedule is flat, users see an endless load without cycles.
    pub fn is_flat(&self) -> bool {
        match self {
            Load::Constant(_) | Load::Pause | Load::Concurrency(_) => true,
            Load::Ramp { .. }
            | Load::Sine { .. }
            | Load::Replay(_)
            | Load::Requests { .. }
            | Load::Search(_) => false,
        }
    }
}

/// Formats the load for people, such as `constant 5/s`, `ramp 5/s to 50/s` or `concurrency 10`.
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
            Load::Search(spec) => write!(f, " {}", spec.range),
        }
    }
}

/// The first maximum or minimum of a sine at or after `from`, and the next one. In a time that
/// begins at `from`, the lowest and the highest rate are at these two points or at the edges.
fn turning_points(period: Duration, from: Duration) -> [Duration; 2] {
    let half = (period / 2).max(Duration::from_nanos(1));
    let first = period / 4;
    let skipped = from.saturating_sub(first).as_nanos().div_ceil(half.as_nanos());
    let next = first + half.saturating_mul(u32::try_from(skipped).unwrap_or(u32::MAX));
    [next, next + half]
}

/// The fewest and the most rows in any second between two times of a trace.
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
        // A second that begins just after this row excludes the row.
        if row.at() + BURST_WINDOW <= to {
            let at_end = rows.get(end).is_some_and(|other| other.at() == row.at() + BURST_WINDOW);
            fewest = fewest.min(end + usize::from(at_end) - index - 1);
        }
    }
    (as_f64(fewest), as_f64(most))
}

/// The time in nanoseconds at which a ramp reaches an area, with an error of a few nanoseconds.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn approximate_due_of_ramp(from: Rate, to: Rate, area: Area, length: u64) -> u64 {
    let (r0, r1, n) = (from.per_second(), to.per_second(), area.as_f64());
    let slope = (r1 - r0) / (length as f64 / 1e9);
    // r0·t + slope·t²/2 = n has the root t = 2n/(r0 + √(r0² + 2·slope·n)). This form is also exact
    // for r0 = 0.
    let root = (r0 * r0 + 2.0 * slope * n).max(0.0).sqrt();
    let seconds = if r0 + root > 0.0 { 2.0 * n / (r0 + root) } else { 0.0 };
    ((seconds * 1e9) as u64).min(length)
}

/// Returns the first time up to `end` at which `reached` is true. `reached` must stay true after
/// that. `guess` only makes the search fast.
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
    // The first time is in low..=high.
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
