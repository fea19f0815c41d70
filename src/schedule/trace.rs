//! The load of a recorded trace.
//!
//! Each row of a trace is a recorded request. At its time, Λ rises by one arrival. So with even
//! arrivals, one arrival is due at the time of each row.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Area, nanos};

/// The token counts of a recorded request; `None` if the trace does not have the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lengths {
    pub input: Option<NonZeroU32>,
    pub output: Option<NonZeroU32>,
}

/// A recorded request. A trace can have a million rows, so a row needs only 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceRow {
    /// Nanoseconds from the start of the trace.
    at: u64,
    lengths: Lengths,
}

impl TraceRow {
    pub fn new(at: Duration, lengths: Lengths) -> TraceRow {
        TraceRow { at: nanos(at), lengths }
    }

    /// The offset from the start of the trace.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    pub fn lengths(&self) -> Lengths {
        self.lengths
    }
}

/// The recorded requests by due time. All phases with this trace share the rows in memory.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    name: Arc<str>,
    rows: Arc<[TraceRow]>,
}

/// [`Trace::rate`] is the mean of ten seconds, as for the measured queries per second.
const WINDOW: u64 = 10_000_000_000;

impl Trace {
    /// Rows with the same due time keep their order.
    pub fn new(name: &str, mut rows: Vec<TraceRow>) -> Trace {
        rows.sort_by_key(|row| row.at);
        Trace { name: name.into(), rows: rows.into() }
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sorted by due time.
    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    /// The due time of the last row.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.rows.last().map_or(0, |row| row.at))
    }

    /// Returns Λ(time), which is the number of rows up to and including `time`.
    pub(super) fn area(&self, time: u64) -> Area {
        Area(self.rows_until(time) as u128 * Area::ARRIVAL.0)
    }

    /// Returns Λ⁻¹(area), the due time of the row at which Λ reaches `area`.
    pub(super) fn due(&self, area: Area) -> u64 {
        self.row(area).map_or(0, |row| row.at)
    }

    pub(super) fn lengths(&self, area: Area) -> Option<Lengths> {
        self.row(area).map(|row| row.lengths)
    }

    /// Rows per second in the ten seconds around `time`, without the seconds outside the phase.
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

    /// The row at which Λ reaches `area`; `None` if `area` is 0.
    fn row(&self, area: Area) -> Option<&TraceRow> {
        let number = usize::try_from(area.0.div_ceil(Area::ARRIVAL.0)).ok()?;
        self.rows.get(number.checked_sub(1)?)
    }
}

/// Leaves out the rows, which would fill pages of a log.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} rows)", self.name, self.rows.len())
    }
}
