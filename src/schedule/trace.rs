//! The load of a recorded trace.
//!
//! Each row of a trace is one recorded request. At the recorded time of a row, Λ rises by exactly
//! one arrival. If the arrivals have equal gaps on the Λ axis, each arrival therefore belongs to
//! one row and is due at the recorded time of this row.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Area, nanos};

/// The token counts of a request in a trace. A count is `None` if the trace does not contain it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lengths {
    /// The number of prompt tokens.
    pub input: Option<NonZeroU32>,
    /// The number of output tokens.
    pub output: Option<NonZeroU32>,
}

/// One request of a trace. A trace can have a million rows, so each row has only 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceRow {
    /// Nanoseconds from the start of the trace.
    at: u64,
    lengths: Lengths,
}

impl TraceRow {
    /// Creates a request that is due at this offset from the start of the trace.
    pub fn new(at: Duration, lengths: Lengths) -> TraceRow {
        TraceRow { at: nanos(at), lengths }
    }

    /// The due time, as an offset from the start of the trace.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    pub fn lengths(&self) -> Lengths {
        self.lengths
    }
}

/// The requests of a trace in the order of their due times. All phases that replay the trace share
/// its rows in memory.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    name: Arc<str>,
    rows: Arc<[TraceRow]>,
}

/// The time over which [`Trace::rate`] averages, in nanoseconds. It is ten seconds, the same as for
/// the measured queries per second.
const WINDOW: u64 = 10_000_000_000;

impl Trace {
    /// Creates a trace. Rows with the same due time keep their order.
    pub fn new(name: &str, mut rows: Vec<TraceRow>) -> Trace {
        rows.sort_by_key(|row| row.at);
        Trace { name: name.into(), rows: rows.into() }
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The requests, in the order of their due times.
    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    /// The due time of the last row.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.rows.last().map_or(0, |row| row.at))
    }

    /// Returns Λ(time), the area that is equal to the number of rows up to and including this time.
    pub(super) fn area(&self, time: u64) -> Area {
        Area(self.rows_until(time) as u128 * Area::ARRIVAL.0)
    }

    /// Returns Λ⁻¹(area): the due time of the row at which Λ reaches this area.
    pub(super) fn due(&self, area: Area) -> u64 {
        self.row(area).map_or(0, |row| row.at)
    }

    /// The token counts of the row at which Λ reaches this area.
    pub(super) fn lengths(&self, area: Area) -> Option<Lengths> {
        self.row(area).map(|row| row.lengths)
    }

    /// The mean number of rows per second in the ten seconds around a time. If some of these ten
    /// seconds are outside the phase, the mean is over the rest.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rate(&self, time: u64, length: u64) -> f64 {
        let from = time.saturating_sub(WINDOW / 2);
        let until = time.saturating_add(WINDOW / 2).min(length);
        let before = from.checked_sub(1).map_or(0, |before| self.rows_until(before));
        let rows = self.rows_until(until).saturating_sub(before);
        rows as f64 * 1e9 / until.saturating_sub(from).max(1) as f64
    }

    fn rows_until(&self, time: u64) -> usize {
        self.rows.partition_point(|row| row.at <= time)
    }

    /// The row at which Λ reaches this area; `None` if the area is 0.
    fn row(&self, area: Area) -> Option<&TraceRow> {
        let number = usize::try_from(area.0.div_ceil(Area::ARRIVAL.0)).ok()?;
        self.rows.get(number.checked_sub(1)?)
    }
}

/// Shows the name and the number of rows, because the rows would fill pages of a log.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} rows)", self.name, self.rows.len())
    }
}
