//! A recorded trace as a load. Λ rises by one whole arrival at the instant of each row. So with even
//! gaps, each arrival is one row and is due at the instant of that row.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Area, nanos};

/// The token counts of a request in a trace; `None` if the trace does not contain them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lengths {
    /// The tokens of the prompt.
    pub input: Option<NonZeroU32>,
    /// The tokens of the answer.
    pub output: Option<NonZeroU32>,
}

/// One request of a trace. It takes 16 bytes, because a trace has up to a million rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceRow {
    /// Nanoseconds from the start of the trace.
    at: u64,
    lengths: Lengths,
}

impl TraceRow {
    /// A request at this time since the start of the trace.
    pub fn new(at: Duration, lengths: Lengths) -> TraceRow {
        TraceRow { at: nanos(at), lengths }
    }

    /// The due time, since the start of the trace.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    pub fn lengths(&self) -> Lengths {
        self.lengths
    }
}

/// Requests in the order of their due times, shared by all phases that replay them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    name: Arc<str>,
    rows: Arc<[TraceRow]>,
}

/// The window of a rate in nanoseconds: ten seconds, as for QPS.
const WINDOW: u64 = 10_000_000_000;

impl Trace {
    /// A trace of these rows. Rows with the same due time keep their order.
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

    /// Λ: the number of rows up to and including a time.
    pub(super) fn area(&self, time: u64) -> Area {
        Area(self.rows_until(time) as u128 * Area::ARRIVAL.0)
    }

    /// Λ⁻¹: the instant of the row that reaches an area.
    pub(super) fn due(&self, area: Area) -> u64 {
        self.row(area).map_or(0, |row| row.at)
    }

    /// The lengths of the row that reaches an area.
    pub(super) fn lengths(&self, area: Area) -> Option<Lengths> {
        self.row(area).map(|row| row.lengths)
    }

    /// Rows per second in the ten seconds around a time, without the part outside the phase.
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

    /// The row that reaches an area; `None` for an area of 0.
    fn row(&self, area: Area) -> Option<&TraceRow> {
        let number = usize::try_from(area.0.div_ceil(Area::ARRIVAL.0)).ok()?;
        self.rows.get(number.checked_sub(1)?)
    }
}

/// The name and the number of rows: the rows would fill pages.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} rows)", self.name, self.rows.len())
    }
}
