//! When requests are due: phases, the integral Λ of their rate, and its inverse.
//!
//! A schedule is a pure function of time. It is computed in integers throughout, so that a year of
//! uptime is as exact as the first second; there is no tick and nothing accumulates.
//!
//! Areas under the rate line are counted in [`Area`] units of 1/(7.2·10¹⁸) of an arrival. That
//! odd unit makes the area of every whole phase a whole number: rates are millionths of an arrival
//! per hour, times are nanoseconds (3.6·10¹² to the hour), and a ramp halves once.

mod load;
mod rate;
mod series;
mod shard;
mod trace;

use std::num::NonZeroU32;
use std::time::Duration;

pub use load::Load;
pub use rate::{Area, ParseRateError, Rate};
pub use series::{Arrivals, SPACING, Series, Spread};
pub use shard::Shard;
pub use trace::{Lengths, Row, Trace};

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase {
    /// Shown on dashboards; unique within a schedule.
    pub name: String,
    /// What is asked for.
    pub load: Load,
    /// For how long: from [`Phase::SHORTEST`] to [`Phase::LONGEST`]; zero where requests are counted.
    pub length: Duration,
}

impl Phase {
    /// A cycle shorter than this would be over before anybody could look at it.
    pub const SHORTEST: Duration = Duration::from_millis(1);
    /// The arithmetic of ramps stays within 128 bits up to here.
    pub const LONGEST: Duration = Duration::from_hours(8784);
}

/// How often the whole schedule is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// For as long as the daemon lives.
    Forever,
    /// So many times.
    Times(NonZeroU32),
}

impl Repeat {
    /// Whether a cycle of this number, from 0, takes place.
    pub fn includes(self, cycle: u64) -> bool {
        match self {
            Repeat::Forever => true,
            Repeat::Times(times) => cycle < u64::from(times.get()),
        }
    }
}

/// A phase in its place within the cycle.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Its position in [`Schedule::phases`].
    pub index: usize,
    /// The phase.
    pub phase: &'a Phase,
    /// When it starts, from the start of the cycle.
    pub start: Duration,
    /// When it ends.
    pub end: Duration,
    /// The open-loop arrivals expected in it. Not the difference of Λ at its ends: Λ at its start counts
    /// what a trace sends at that very instant.
    pub total: Area,
}

/// Phases in order, gone through once; one such pass is a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    phases: Vec<Phase>,
    /// Per phase: the time and the area at its end.
    ends: Vec<(u64, Area)>,
}

impl Schedule {
    /// A schedule of these phases.
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

    /// In order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// How long one cycle lasts.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.end().0)
    }

    /// The open-loop arrivals expected in one cycle.
    pub fn total(&self) -> Area {
        self.end().1
    }

    /// How many arrivals the cycles before this one hold if they stand evenly, and what is left over:
    /// the distance from the last of them to the start of the cycle. The first stands half a distance
    /// after the start of cycle 0, so that a phase of whole arrivals has none on its edges.
    pub fn before(&self, cycle: u64) -> (u64, Area) {
        let cycle = u128::from(cycle);
        let (whole, rest) = (self.total().0 / Area::ARRIVAL.0, self.total().0 % Area::ARRIVAL.0);
        // Cycles and a fraction of an arrival: below 2⁶⁴ · 2⁶³.
        let rest = cycle * rest + Area::ARRIVAL.0 / 2;
        let count = cycle.wrapping_mul(whole).wrapping_add(rest / Area::ARRIVAL.0);
        (low_bits(count), Area(rest % Area::ARRIVAL.0))
    }

    /// The arrivals expected before the phase at this position begins.
    pub fn area_before(&self, index: usize) -> Area {
        index.checked_sub(1).and_then(|i| self.ends.get(i)).map_or(Area::ZERO, |end| end.1)
    }

    /// Whether every phase lasts a time that is known beforehand.
    pub fn is_timed(&self) -> bool {
        self.phases.iter().all(|phase| phase.load.count().is_none())
    }

    /// Λ(t): the arrivals expected in the first `time` of a cycle, those of its last instant included: a
    /// trace at the start makes it more than nothing at 0.
    pub fn area(&self, time: Duration) -> Area {
        let Some(at) = self.at(time) else { return self.total() };
        let before = self.area_before(at.index);
        let within = rate::nanos(time) - rate::nanos(at.start);
        before + at.phase.load.area(within, rate::nanos(at.phase.length))
    }

    /// Λ⁻¹: the first nanosecond of a cycle at which `area` is reached, if the cycle reaches it.
    /// Where the rate is zero for a while, that is the first instant of the plateau.
    pub fn due(&self, area: Area) -> Option<Duration> {
        let (_, phase, (start, before)) = self.reached(area)?;
        let within = phase.load.due(area - before, rate::nanos(phase.length));
        Some(Duration::from_nanos(start + within))
    }

    /// The phase at a time of the cycle; `None` from its end on.
    pub fn at(&self, time: Duration) -> Option<Placed<'_>> {
        let index = self.ends.partition_point(|&(end, _)| end <= rate::nanos(time));
        self.placed(index)
    }

    /// The phase at this position.
    pub fn placed(&self, index: usize) -> Option<Placed<'_>> {
        let phase = self.phases.get(index)?;
        let (start, before) = index.checked_sub(1).map_or_else(Default::default, |i| self.ends[i]);
        let (end, area) = self.ends[index];
        Some(Placed {
            index,
            phase,
            start: Duration::from_nanos(start),
            end: Duration::from_nanos(end),
            total: area - before,
        })
    }

    /// λ(t) in arrivals per second: what the schedule asks for at a time of the cycle. A trace has no
    /// rate but that of the ten seconds around.
    pub fn rate(&self, time: Duration) -> f64 {
        self.at(time)
            .map_or(0.0, |at| at.phase.load.rate(time.saturating_sub(at.start), at.phase.length))
    }

    /// The position of the phase that reaches `area`, and the lengths of the request that does, where it
    /// stands in a trace.
    pub fn reaching(&self, area: Area) -> Option<(usize, Option<Lengths>)> {
        let (index, phase, (_, before)) = self.reached(area)?;
        let lengths = phase.load.trace().and_then(|trace| trace.lengths(area - before));
        Some((index, lengths))
    }

    /// The phase that reaches an area and its position, and the time and the area at its start.
    fn reached(&self, area: Area) -> Option<(usize, &Phase, (u64, Area))> {
        let index = self.ends.partition_point(|&(_, end)| end < area);
        let before = index.checked_sub(1).map_or_else(Default::default, |before| self.ends[before]);
        Some((index, self.phases.get(index)?, before))
    }

    fn end(&self) -> (u64, Area) {
        self.ends.last().copied().unwrap_or_default()
    }
}

#[allow(clippy::cast_possible_truncation)]
fn low_bits(count: u128) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests;
