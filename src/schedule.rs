//! The load over time: the phases of a schedule, the integral Λ of their rate λ, and the due time
//! of each arrival.
//!
//! A schedule is a pure function of time. Its arithmetic uses integers, except for the sine. So no
//! error accumulates, and due times are as exact after a year as in the first second.
//!
//! [`Area`] counts expected arrivals, in units of 1/(7.2·10¹⁸) of an arrival. With this unit, the
//! expected arrivals of each complete phase are an integer, except for a sine. The number 7.2·10¹⁸
//! is the product of three factors:
//!
//! * 10⁶, because a rate is in millionths of an arrival per hour.
//! * 3600 × 10⁹, because a time is in nanoseconds, and an hour has this many.
//! * 2, because the area of a ramp is (first rate + last rate) × length / 2.

mod blocks;
mod gaps;
mod load;
mod rate;
mod search;
mod shard;
mod trace;

use std::num::NonZeroU32;
use std::time::Duration;

pub use gaps::{ArrivalMarks, ArrivalSpec, Arrivals, MEAN_GAP};
pub use load::Load;
pub use rate::{Area, ParseRateError, Rate};
pub use search::{SearchRange, SearchSpec};
pub use shard::Shard;
pub use trace::{HashBlocks, Lengths, Trace, TraceRow};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase {
    /// The name on dashboards, unique in the schedule.
    pub name: String,
    pub load: Load,
    /// From [`Phase::SHORTEST`] to [`Phase::LONGEST`]. A phase that ends after a number of requests
    /// has length 0, and so has a search.
    pub length: Duration,
}

impl Phase {
    /// Nobody could observe a shorter phase.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// 366 days. Up to this length, the area of a ramp fits into 128 bits.
    pub const LONGEST: Duration = Duration::from_hours(8784);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    Forever,
    Times(NonZeroU32),
}

impl Repeat {
    /// Returns true if there is a cycle with this number, from 0.
    pub fn includes(self, cycle: u64) -> bool {
        match self {
            Repeat::Forever => true,
            Repeat::Times(times) => cycle < u64::from(times.get()),
        }
    }
}

/// A phase. Its start and its end are offsets from the start of the cycle.
#[derive(Clone, Copy, Debug)]
pub struct PhaseSpan<'a> {
    /// The index in [`Schedule::phases`].
    pub index: usize,
    pub phase: &'a Phase,
    pub start: Duration,
    pub end: Duration,
    /// The expected arrivals of the phase. A trace row exactly at `start` belongs to this phase,
    /// although Λ(start) already counts it. So `total` can be more than Λ(end) − Λ(start).
    pub total: Area,
}

/// A list of phases. One pass through the list is a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    phases: Vec<Phase>,
    /// For each phase: its end in nanoseconds, and Λ at its end. This Λ excludes trace rows of the
    /// next phase.
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

    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.end().0)
    }

    /// The number of open-loop arrivals in one cycle.
    pub fn total(&self) -> Area {
        self.end().1
    }

    /// Returns the number of even arrivals before this cycle, and the distance on the axis of Λ
    /// from the last of them to the start of this cycle. In cycle 0, these are 0 and ½. If cycle 0
    /// has 2.7 arrivals, they are 3 and 0.2 in cycle 1.
    ///
    /// The distance ½ keeps arrivals away from the edges of phases: at a constant 2/s, they are due
    /// at 0.25 s, 0.75 s and so on.
    pub fn arrivals_before(&self, cycle: u64) -> (u64, Area) {
        let cycle = u128::from(cycle);
        let (arrivals, rest) = (self.total().0 / Area::ARRIVAL.0, self.total().0 % Area::ARRIVAL.0);
        // No overflow: a cycle number is below 2⁶⁴, and a fraction of an arrival is below 2⁶³
        // units.
        let rest = cycle * rest + Area::ARRIVAL.0 / 2;
        let count = cycle.wrapping_mul(arrivals).wrapping_add(rest / Area::ARRIVAL.0);
        (low_bits(count), Area(rest % Area::ARRIVAL.0))
    }

    /// Returns Λ at the start of a phase, without trace rows that are due exactly at the start.
    pub fn area_before(&self, index: usize) -> Area {
        index.checked_sub(1).and_then(|i| self.phase_ends.get(i)).map_or(Area::ZERO, |end| end.1)
    }

    /// Returns true if every phase has a length in time, so no phase ends after a number of
    /// requests or after a search.
    pub fn is_timed(&self) -> bool {
        self.phases.iter().all(|phase| phase.load.is_timed())
    }

    pub fn has_replay(&self) -> bool {
        self.phases.iter().any(|phase| phase.load.trace().is_some())
    }

    pub fn has_search(&self) -> bool {
        !self.search_phases().is_empty()
    }

    /// The indexes of the phases that search a capacity.
    pub fn search_phases(&self) -> Vec<usize> {
        let phases = self.phases.iter().enumerate();
        phases.filter(|(_, phase)| phase.load.search().is_some()).map(|(index, _)| index).collect()
    }

    /// Returns Λ(t), the expected arrivals from the start of the cycle up to `time`. Includes a
    /// trace row exactly at `time`.
    pub fn area(&self, time: Duration) -> Area {
        let Some(span) = self.phase_at(time) else { return self.total() };
        let before = self.area_before(span.index);
        let within = rate::nanos(time) - rate::nanos(span.start);
        before + span.phase.load.area(within, rate::nanos(span.phase.length))
    }

    /// Returns Λ⁻¹(area), the first nanosecond at which Λ reaches `area`. `None` if Λ does not
    /// reach it in this cycle.
    pub fn due(&self, area: Area) -> Option<Duration> {
        let (_, phase, (start, before)) = self.phase_reaching(area)?;
        let within = phase.load.due(area - before, rate::nanos(phase.length));
        Some(Duration::from_nanos(start + within))
    }

    /// The active phase; `None` at the end of the cycle or later.
    pub fn phase_at(&self, time: Duration) -> Option<PhaseSpan<'_>> {
        let index = self.phase_ends.partition_point(|&(end, _)| end <= rate::nanos(time));
        self.phase_span(index)
    }

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

    /// Returns λ(t) in arrivals per second. For a trace, returns the mean rate of the ten seconds
    /// around `time`.
    pub fn rate(&self, time: Duration) -> f64 {
        self.phase_at(time).map_or(0.0, |span| {
            span.phase.load.rate(time.saturating_sub(span.start), span.phase.length)
        })
    }

    /// Returns the index of the phase in which Λ reaches `area`. For a trace, also returns the
    /// token counts of the row.
    pub fn phase_and_lengths(&self, area: Area) -> Option<(usize, Option<Lengths>)> {
        let (index, phase, (_, before)) = self.phase_reaching(area)?;
        let lengths = phase.load.trace().and_then(|trace| trace.lengths(area - before));
        Some((index, lengths))
    }

    /// Returns the blocks of a recorded prompt. No blocks if the phase replays no trace.
    pub fn blocks(&self, phase: usize, lengths: Lengths) -> HashBlocks<'_> {
        let trace = self.phases.get(phase).and_then(|phase| phase.load.trace());
        trace.map(|trace| trace.blocks(lengths)).unwrap_or_default()
    }

    /// Returns the phase in which Λ reaches `area`, with its index, and the time and Λ at its
    /// start.
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

/// The result wraps around at 2⁶⁴.
#[allow(clippy::cast_possible_truncation)]
fn low_bits(count: u128) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests;
