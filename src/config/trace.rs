//! Reads traces of requests from files: the published forms of Azure and Mooncake, and a plain
//! form.
//!
//! One line is one row, and rows are sorted by time, so reading ends where the phase ends: an hour
//! of a week-long trace costs only the rows of an hour. Instants count from the first row.

mod row;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use super::problem::Mistake;
use super::tree::excerpt;
use crate::schedule::{Phase, Trace, TraceRow};
use row::{Format, RawRow};

/// The highest number of bytes that are read from a trace.
const MAX_BYTES: u64 = 256 << 20;
/// The highest number of rows in a trace. They take 16 MB of memory.
const MAX_ROWS: usize = 1_000_000;
/// The longest line, in bytes. Lines of Mooncake list the hashes of all blocks of a prompt.
const MAX_LINE: u64 = 1 << 20;

/// Reads a trace and divides its time by `speed`. It reads no further than `until`, if that is set.
///
/// # Errors
/// If the file cannot be read or is too large, or if a line within `until` is invalid.
pub fn read(path: &Path, speed: f64, until: Option<Duration>) -> Result<Trace, Mistake> {
    let name = path.display();
    let unreadable = |error: std::io::Error| {
        Mistake::new(
            format!("`{name}` cannot be read: {error}"),
            "name an existing file, relative to the configuration file",
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
    // Reading a pipe or a device might never end.
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
            return Err(in_line(Mistake::new("longer than 1 MiB", "write one row per line")));
        }
        let text = str::from_utf8(&line)
            .map_err(|_| in_line(Mistake::new("not UTF-8", "convert the file to UTF-8")))?;
        // Some editors write a byte order mark first.
        let text = text.trim_start_matches(|c| number == 1 && c == '\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let Some(row) = format.row(text).map_err(in_line)? else { continue };
        if !rows.keep(&row).map_err(in_line)? {
            break;
        }
        if rows.kept.len() > MAX_ROWS {
            return Err(too_large("1,000,000 rows"));
        }
    }
    if rows.kept.is_empty() {
        return Err(Mistake::new(format!("`{name}` has no rows"), "write at least one"));
    }
    Ok(Trace::new(&file_name(path), rows.kept))
}

/// The rows read so far, and the limits for the next one.
struct Rows {
    speed: f64,
    /// True if rows after `end` are ignored; else they are a mistake.
    cuts: bool,
    end: Duration,
    /// The instants of the first and the latest row, in nanoseconds.
    reached: Option<(i128, i128)>,
    kept: Vec<TraceRow>,
}

impl Rows {
    fn new(speed: f64, until: Option<Duration>) -> Rows {
        let end = until.unwrap_or(Phase::LONGEST);
        Rows { speed, cuts: until.is_some(), end, reached: None, kept: Vec::new() }
    }

    /// Keeps a row. Returns false if it and all later rows are cut off.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn keep(&mut self, row: &RawRow) -> Result<bool, Mistake> {
        let at = row.instant_ns;
        let (first, latest) = self.reached.unwrap_or((at, at));
        if at < latest {
            return Err(Mistake::new("earlier than the row before", "sort the rows by time"));
        }
        self.reached = Some((first, at));
        // An f64 holds whole nanoseconds exactly for 104 days. Beyond that the error is below 4 ns.
        let offset = Duration::from_nanos(((at - first) as f64 / self.speed).round() as u64);
        let within = offset <= self.end;
        if within {
            self.kept.push(TraceRow::new(offset, row.lengths));
        } else if !self.cuts {
            let message = "more than 366 days after the first row";
            return Err(Mistake::new(message, "cut the trace with `for` or raise `speed`"));
        }
        Ok(within)
    }
}

/// The name of a file, made fit for the name of a phase.
fn file_name(path: &Path) -> String {
    excerpt(&path.file_name().unwrap_or_default().to_string_lossy())
}
