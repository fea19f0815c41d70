//! A recorded trace as a load: Λ rises by one whole arrival at the instant of each row, so that evenly
//! spread arrivals are the rows themselves, each at its own instant.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::rate::{Area, nanos};

/// How many tokens a request of a trace had; `None` where the trace does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lengths {
    /// Of its prompt.
    pub input: Option<NonZeroU32>,
    /// Of its answer.
    pub output: Option<NonZeroU32>,
}

/// One request of a trace, in 16 bytes: a trace has up to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceRow {
    /// Nanoseconds from the start of the trace.
    at: u64,
    lengths: Lengths,
}

impl TraceRow {
    /// A request so long after the start of the trace.
    pub fn new(at: Duration, lengths: Lengths) -> TraceRow {
        TraceRow { at: nanos(at), lengths }
    }

    /// When it is due, from the start of the trace.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    /// How many tokens it had.
    pub fn lengths(&self) -> Lengths {
        self.lengths
    }
}

/// Requests in the order of their instants, shared by all phases that replay them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    name: Arc<str>,
    rows: Arc<[TraceRow]>,
}

/// What is taken for "now" where a rate is shown: the window of QPS.
const WINDOW: u64 = 10_000_000_000;

impl Trace {
    /// A trace of these rows. Those of one instant keep their order.
    pub fn new(name: &str, mut rows: Vec<TraceRow>) -> Trace {
        rows.sort_by_key(|row| row.at);
        Trace { name: name.into(), rows: rows.into() }
    }

    /// The name of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its requests, in order.
    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    /// When its last row is due.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.rows.last().map_or(0, |row| row.at))
    }

    /// Λ: the rows up to and including a time.
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

    /// Rows per second in the ten seconds around a time, as far as they lie within the phase.
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

    /// The row that reaches an area; none for an area of nothing.
    fn row(&self, area: Area) -> Option<&TraceRow> {
        let number = usize::try_from(area.0.div_ceil(Area::ARRIVAL.0)).ok()?;
        self.rows.get(number.checked_sub(1)?)
    }
}

/// Its rows would fill pages.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} rows)", self.name, self.rows.len())
    }
}
