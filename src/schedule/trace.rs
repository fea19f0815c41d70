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
    /// The number of the row in its trace, from 0; `None` if the lengths are from no row.
    pub row: Option<u32>,
}

/// The blocks of a recorded prompt, in order. Two blocks with the same id have the same tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashBlocks<'a> {
    pub ids: &'a [u64],
    /// In tokens. The last block can be shorter.
    pub size: u32,
}

/// A recorded request. A trace can have a million rows, so a row needs only 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceRow {
    /// Nanoseconds from the start of the trace.
    at: u64,
    input: Option<NonZeroU32>,
    output: Option<NonZeroU32>,
    /// The part of the hash ids of the trace: the first id, and the number of ids.
    blocks: (u32, u32),
}

impl TraceRow {
    pub fn new(at: Duration, Lengths { input, output, .. }: Lengths) -> TraceRow {
        TraceRow { at: nanos(at), input, output, blocks: (0, 0) }
    }

    /// Sets the part of the hash ids of the trace that belongs to this row: the first id, and the
    /// number of ids.
    #[must_use]
    pub fn with_blocks(self, first: u32, count: u32) -> TraceRow {
        TraceRow { blocks: (first, count), ..self }
    }

    /// The offset from the start of the trace.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    pub fn lengths(&self) -> Lengths {
        Lengths { input: self.input, output: self.output, row: None }
    }
}

/// The recorded requests by due time. All phases with this trace share the rows in memory.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    name: Arc<str>,
    rows: Arc<[TraceRow]>,
    /// The hash ids of all rows.
    hash_ids: Arc<[u64]>,
    /// The tokens of a block.
    block_size: u32,
}

/// [`Trace::rate`] is the mean of ten seconds, as for the measured queries per second.
const WINDOW: u64 = 10_000_000_000;

impl Trace {
    /// Rows with the same due time keep their order.
    pub fn new(name: &str, mut rows: Vec<TraceRow>) -> Trace {
        rows.sort_by_key(|row| row.at);
        Trace { name: name.into(), rows: rows.into(), hash_ids: Arc::default(), block_size: 0 }
    }

    #[must_use]
    pub fn with_hash_ids(self, hash_ids: Vec<u64>, block_size: NonZeroU32) -> Trace {
        Trace { hash_ids: hash_ids.into(), block_size: block_size.get(), ..self }
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sorted by due time.
    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    pub fn has_hash_ids(&self) -> bool {
        !self.hash_ids.is_empty()
    }

    /// The blocks of the row with these lengths. No blocks if the row is from another trace, which
    /// a reload has replaced.
    pub fn blocks(&self, lengths: Lengths) -> HashBlocks<'_> {
        let row = lengths.row.and_then(|row| self.rows.get(row as usize));
        let ids = row.filter(|row| row.input == lengths.input).and_then(|row| {
            let (first, count) = (row.blocks.0 as usize, row.blocks.1 as usize);
            self.hash_ids.get(first..first + count)
        });
        HashBlocks { ids: ids.unwrap_or_default(), size: self.block_size }
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
        self.row(area).map_or(0, |(_, row)| row.at)
    }

    pub(super) fn lengths(&self, area: Area) -> Option<Lengths> {
        let (index, row) = self.row(area)?;
        Some(Lengths { row: u32::try_from(index).ok(), ..row.lengths() })
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

    /// The row at which Λ reaches `area`, with its index; `None` if `area` is 0.
    fn row(&self, area: Area) -> Option<(usize, &TraceRow)> {
        let number = usize::try_from(area.0.div_ceil(Area::ARRIVAL.0)).ok()?;
        let index = number.checked_sub(1)?;
        Some((index, self.rows.get(index)?))
    }
}

/// Leaves out the rows, which would fill pages of a log.
impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({}, {} rows)", self.name, self.rows.len())
    }
}
