//! The load over time: the phases of a schedule, the integral Λ of their rate λ, and the inverse of
//! Λ. The inverse gives the due time of each arrival.
//!
//! A schedule is a pure function of time. It uses no timer ticks. All its arithmetic is in
//! integers, apart from the swing of a sine around its mean. So no error accumulates, and due times
//! are as exact after a year as in the first second.
//!
//! [`Area`] counts the area under the rate in units of 1/(7.2·10¹⁸) of an arrival. In this unit,
//! the area of every complete phase other than a sine is an integer. The number 7.2·10¹⁸ is the
//! product of three factors:
//!
//! - 10⁶: a rate is an integer number of millionths of an arrival per hour.
//! - 3600 × 10⁹: a time is an integer number of nanoseconds, and an hour has this many nanoseconds.
//! - 2: the area of a ramp is (first rate + last rate) × length / 2.

mod blocks;
mod gaps;
mod load;
mod rate;
mod shard;
mod trace;

use std::num::NonZeroU32;
use std::time::Duration;

pub use gaps::{ArrivalMarks, ArrivalSpec, Arrivals, MEAN_GAP};
pub use load::Load;
pub use rate::{Area, ParseRateError, Rate};
pub use shard::Shard;
pub use trace::{Lengths, Trace, TraceRow};

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase {
    /// The name on dashboards; unique within a schedule.
    pub name: String,
    pub load: Load,
    /// The length, from [`Phase::SHORTEST`] to [`Phase::LONGEST`]. A phase that ends after a number
    /// of requests has length 0.
    pub length: Duration,
}

impl Phase {
    /// The shortest length. Nobody could observe a shorter phase.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// The longest length: 366 days. Up to this length, the arithmetic of ramps fits into 128 bits.
    pub const LONGEST: Duration = Duration::from_hours(8784);
}

/// The number of cycles of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// The cycles repeat until the daemon ends.
    Forever,
    Times(NonZeroU32),
}

impl Repeat {
    /// Returns true if the cycle with this number takes place. The first cycle has number 0.
    pub fn includes(self, cycle: u64) -> bool {
        match self {
            Repeat::Forever => true,
            Repeat::Times(times) => cycle < u64::from(times.get()),
        }
    }
}

/// A phase and its place in the cycle.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan<'a> {
    /// The index in [`Schedule::phases`].
    pub index: usize,
    pub phase: &'a Phase,
    /// The start of the phase, as an offset from the start of the cycle.
    pub start: Duration,
    /// The end of the phase, as an offset from the start of the cycle.
    pub end: Duration,
    /// The number of open-loop arrivals expected in the phase. It can differ from Λ(end) − Λ(start)
    /// if a trace has rows at its start. These rows belong to the phase of the trace, but Λ at its
    /// start includes them, and so does Λ at the end of the phase before it.
    pub total: Area,
}

/// The phases in their order. One pass through all phases is a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    phases: Vec<Phase>,
    /// For each phase, its end in nanoseconds, and Λ at its end without the rows of the next phase.
    phase_ends: Vec<(u64, Area)>,
}

impl Schedule {
    pub fn new(phases: Vec<Phase>) -> Schedule {
        let (mut time, mut area) = (0, Area::ZERO);
        let phase_ends = phases
            .iter()
            .map(|phase| {
                let length = rate::nanos(phase.length);
                time += length;
                area = area + phase.load.area(length, length);
                (time, area)
            })
            .collect();
        Schedule { phases, phase_ends }
    }

    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The length of one cycle.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.end().0)
    }

    /// The number of open-loop arrivals expected in one cycle.
    pub fn total(&self) -> Area {
        self.end().1
    }

    /// Returns the number of evenly spread arrivals in all cycles before this cycle, and the
    /// distance on the Λ axis from the last of these arrivals to the start of this cycle. For the
    /// first cycle, the number is 0 and the distance is ½.
    ///
    /// The mark of the first arrival is therefore ½. So if a phase has an integer number of
    /// arrivals, no arrival is exactly at the start or at the end of the phase.
    pub fn arrivals_before(&self, cycle: u64) -> (u64, Area) {
        let cycle = u128::from(cycle);
        let (arrivals, rest) = (self.total().0 / Area::ARRIVAL.0, self.total().0 % Area::ARRIVAL.0);
        // The product does not overflow: the number of cycles is below 2⁶⁴, and a fraction of an
        // arrival is below 2⁶³ units.
        let rest = cycle * rest + Area::ARRIVAL.0 / 2;
        let count = cycle.wrapping_mul(arrivals).wrapping_add(rest / Area::ARRIVAL.0);
        (low_bits(count), Area(rest % Area::ARRIVAL.0))
    }

    /// Returns Λ at the start of the phase with this index. If the phase replays a trace, rows that
    /// are due exactly at the start are not included.
    pub fn area_before(&self, index: usize) -> Area {
        index.checked_sub(1).and_then(|i| self.phase_ends.get(i)).map_or(Area::ZERO, |end| end.1)
    }

    /// Returns true if every phase has a fixed length. A phase that ends after a number of requests
    /// has no fixed length.
    pub fn is_timed(&self) -> bool {
        self.phases.iter().all(|phase| phase.load.count().is_none())
    }

    /// Returns Λ(t), the number of arrivals expected from the start of the cycle up to and
    /// including this time. If a trace has a row at the start of the cycle, Λ(0) is more than 0.
    pub fn area(&self, time: Duration) -> Area {
        let Some(span) = self.phase_at(time) else { return self.total() };
        let before = self.area_before(span.index);
        let within = rate::nanos(time) - rate::nanos(span.start);
        before + span.phase.load.area(within, rate::nanos(span.phase.length))
    }

    /// Returns Λ⁻¹(area), the first nanosecond of the cycle at which Λ reaches `area`; `None` if Λ
    /// does not reach `area` in this cycle. If Λ reaches `area` and then stays there because the
    /// rate is zero, the result is the instant at which Λ reaches it.
    pub fn due(&self, area: Area) -> Option<Duration> {
        let (_, phase, (start, before)) = self.phase_reaching(area)?;
        let within = phase.load.due(area - before, rate::nanos(phase.length));
        Some(Duration::from_nanos(start + within))
    }

    /// The phase that is active at a time of the cycle; `None` at the end of the cycle or later.
    pub fn phase_at(&self, time: Duration) -> Option<PhaseSpan<'_>> {
        let index = self.phase_ends.partition_point(|&(end, _)| end <= rate::nanos(time));
        self.phase_span(index)
    }

    /// The phase with this index; `None` if the schedule has fewer phases.
    pub fn phase_span(&self, index: usize) -> Option<PhaseSpan<'_>> {
        let phase = self.phases.get(index)?;
        let (start, before) =
            index.checked_sub(1).map_or_else(Default::default, |i| self.phase_ends[i]);
        let (end, area) = self.phase_ends[index];
        Some(PhaseSpan {
            index,
            phase,
            start: Duration::from_nanos(start),
            end: Duration::from_nanos(end),
            total: area - before,
        })
    }

    /// Returns λ(t), the rate at a time of the cycle, in arrivals per second. For a trace, this is
    /// the mean rate over the ten seconds around that time.
    pub fn rate(&self, time: Duration) -> f64 {
        self.phase_at(time).map_or(0.0, |span| {
            span.phase.load.rate(time.saturating_sub(span.start), span.phase.length)
        })
    }

    /// Returns the index of the phase in which Λ reaches `area`. If this phase replays a trace,
    /// also returns the token counts of the row that is due at that time.
    pub fn phase_and_lengths(&self, area: Area) -> Option<(usize, Option<Lengths>)> {
        let (index, phase, (_, before)) = self.phase_reaching(area)?;
        let lengths = phase.load.trace().and_then(|trace| trace.lengths(area - before));
        Some((index, lengths))
    }

    /// Returns the phase in which Λ reaches an area: its index, the phase itself, and the time and
    /// the value of Λ at its start.
    fn phase_reaching(&self, area: Area) -> Option<(usize, &Phase, (u64, Area))> {
        let index = self.phase_ends.partition_point(|&(_, end)| end < area);
        let before =
            index.checked_sub(1).map_or_else(Default::default, |before| self.phase_ends[before]);
        Some((index, self.phases.get(index)?, before))
    }

    fn end(&self) -> (u64, Area) {
        self.phase_ends.last().copied().unwrap_or_default()
    }
}

/// The lower 64 bits of a number of arrivals, which wraps around at 2⁶⁴.
#[allow(clippy::cast_possible_truncation)]
fn low_bits(count: u128) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests;
