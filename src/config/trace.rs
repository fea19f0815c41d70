//! Reads traces of requests from files: in the format of a public trace, or in llmload's plain
//! format.
//!
//! One line is one row, and the rows are sorted by time. The first row is at instant 0. llmload
//! stops reading at the end of the phase, so the first hour of a trace of a week costs only an
//! hour.

mod row;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::problem::Mistake;
use super::tree::excerpt;
use crate::schedule::{Phase, Trace, TraceRow};
use row::{Format, RawRow};

/// The highest number of bytes that llmload reads from a trace.
const MAX_BYTES: u64 = 256 << 20;
/// The highest number of rows in a trace. They need 24 MB of memory.
const MAX_ROWS: usize = 1_000_000;
/// The highest number of hash ids in a trace. They need 200 MB of memory.
const MAX_HASH_IDS: usize = 25_000_000;
/// The longest line, in bytes. A line of a Mooncake trace lists the hashes of all blocks of a
/// prompt.
const MAX_LINE: u64 = 1 << 20;

/// Reads a trace, and divides the instants of its rows by `speed`. Later rows than `until` are
/// ignored. `block_size` is the number of tokens of a block with a hash id, if the format of the
/// trace does not decide it.
///
/// # Errors
/// If the file cannot be read or is too large, or if a line before `until` is invalid.
pub fn read(
    path: &Path,
    speed: f64,
    until: Option<Duration>,
    block_size: Option<NonZeroU32>,
) -> Result<Trace, Mistake> {
    let name = path.display();
    let unreadable = |error: std::io::Error| {
        Mistake::new(
            format!("`{name}` cannot be read: {error}"),
            "write the path of an existing file, relative to the folder of the configuration file",
        )
    };
    let too_large = |limit: &str| {
        let message = format!("`{name}` is larger than {limit}");
        Mistake::new(message, "set `for` to read only the beginning, or use a part of the file")
    };
    let mut format = Format::from_extension(path).ok_or_else(|| {
        let message = format!("`{name}` is neither CSV nor JSONL");
        Mistake::new(message, "name a file that ends in `.csv` or `.jsonl`")
    })?;
    // A pipe or a device can be endless, so llmload reads only regular files.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(std::io::Error::other("not a file")));
    }
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    let (mut number, mut bytes) = (0, 0);
    let mut rows = Rows::new(speed, until);
    loop {
        line.clear();
        let length =
            (&mut file).take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        (number, bytes) = (number + 1, bytes + length as u64);
        if bytes > MAX_BYTES {
            return Err(too_large("256 MiB"));
        }
        let in_line = |mistake: Mistake| mistake.within(&format!("`{name}` line {number}"));
        if line.len() as u64 > MAX_LINE {
            return Err(in_line(Mistake::new(
                "the line is longer than 1 MiB",
                "write one row per line",
            )));
        }
        let text = str::from_utf8(&line).map_err(|_| {
            in_line(Mistake::new("the line is not UTF-8", "convert the file to UTF-8"))
        })?;
        // Some editors write a byte order mark at the start of a file.
        let text = text.trim_start_matches(|c| number == 1 && c == '\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let Some(row) = format.row(text).map_err(in_line)? else { continue };
        let block_size = block_size.unwrap_or_else(|| format.block_size());
        check_blocks(&row, block_size).map_err(in_line)?;
        if !rows.keep(&row).map_err(in_line)? {
            break;
        }
        if rows.kept.len() > MAX_ROWS {
            return Err(too_large("1,000,000 rows"));
        }
        if rows.hash_ids.len() > MAX_HASH_IDS {
            return Err(too_large("25,000,000 hash ids"));
        }
    }
    if rows.kept.is_empty() {
        return Err(Mistake::new(format!("`{name}` has no rows"), "write at least one row"));
    }
    let block_size = block_size.unwrap_or_else(|| format.block_size());
    Ok(Trace::new(&file_name(path), rows.kept).with_hash_ids(rows.hash_ids, block_size))
}

/// Checks that the blocks have about as many tokens as the prompt. A trace can leave out the last,
/// incomplete block, and it can have one more block, for the first token of the response.
fn check_blocks(row: &RawRow, block_size: NonZeroU32) -> Result<(), Mistake> {
    if row.hash_ids.is_empty() {
        return Ok(());
    }
    let Some(tokens) = row.lengths.input else {
        let message = "the row has `hash_ids`, but no number of prompt tokens";
        return Err(Mistake::new(message, "write the number of prompt tokens"));
    };
    let needed = tokens.get().div_ceil(block_size.get()) as usize;
    if row.hash_ids.len().abs_diff(needed) <= 1 {
        return Ok(());
    }
    let message = format!(
        "the number of hash ids is {}, but {tokens} prompt tokens are {needed} blocks of \
         {block_size}",
        row.hash_ids.len()
    );
    Err(Mistake::new(message, "write one id for each block, or set `block_size`"))
}

struct Rows {
    speed: f64,
    /// True if rows after `end` are ignored. False if such a row is a mistake.
    cuts_after_end: bool,
    /// The latest allowed time, from the first row.
    end: Duration,
    /// The instants of the first row and of the latest row, in nanoseconds.
    first_and_latest: Option<(i128, i128)>,
    kept: Vec<TraceRow>,
    /// The hash ids of all rows.
    hash_ids: Vec<u64>,
}

impl Rows {
    fn new(speed: f64, until: Option<Duration>) -> Rows {
        let end = until.unwrap_or(Phase::LONGEST);
        Rows {
            speed,
            cuts_after_end: until.is_some(),
            end,
            first_and_latest: None,
            kept: Vec::new(),
            hash_ids: Vec::new(),
        }
    }

    /// Adds a row to `kept`. Returns false for a row that is ignored because it is after `end`.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn keep(&mut self, row: &RawRow) -> Result<bool, Mistake> {
        let at = row.instant_ns;
        let (first, latest) = self.first_and_latest.unwrap_or((at, at));
        if at < latest {
            return Err(Mistake::new(
                "the row is earlier than the row before it",
                "sort the rows by time",
            ));
        }
        self.first_and_latest = Some((first, at));
        // An f64 represents every whole number of nanoseconds up to 104 days exactly. For longer
        // times the rounding error is below 4 ns.
        let offset = Duration::from_nanos(((at - first) as f64 / self.speed).round() as u64);
        let within = offset <= self.end;
        if within {
            let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let (first, count) = (part(self.hash_ids.len()), part(row.hash_ids.len()));
            self.kept.push(TraceRow::new(offset, row.lengths).with_blocks(first, count));
            self.hash_ids.extend_from_slice(&row.hash_ids);
        } else if !self.cuts_after_end {
            let message = "the row is more than 366 days after the first row";
            return Err(Mistake::new(message, "cut the trace with `for` or raise `speed`"));
        }
        Ok(within)
    }
}

/// Returns the name of a file, as a valid name of a phase.
fn file_name(path: &Path) -> String {
    excerpt(&path.file_name().unwrap_or_default().to_string_lossy())
}
