//! Traces of requests, read from files: what Azure and Mooncake publish, as it is, and a plain form.
//!
//! One line is one row, in the order of time, so that reading ends where the phase does: an hour of a
//! trace of a week costs an hour's rows. Instants count from the first row.

mod row;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use super::tree::excerpt;
use crate::schedule::{Lengths, Phase, Row, Trace};
use row::Format;

/// The most bytes that are read of a trace.
const MAX_BYTES: u64 = 256 << 20;
/// The most rows of a trace: 16 MB of them.
const MAX_ROWS: usize = 1_000_000;
/// The longest line. Mooncake lists the hashes of a prompt's blocks.
const MAX_LINE: u64 = 1 << 20;

/// Why a file gives no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is missing or cannot be read.
    #[error("`{path}` cannot be read: {reason}; paths are relative to the configuration file")]
    Unreadable {
        /// As it was looked for.
        path: String,
        /// The operating system's words.
        reason: String,
    },
    /// Its name says neither of the two formats.
    #[error("`{0}` is neither CSV nor JSONL; name a file that ends in `.csv` or `.jsonl`")]
    Format(String),
    /// Above [`MAX_BYTES`] or [`MAX_ROWS`].
    #[error("`{path}` is larger than {limit}; cut it with `for`, or use a part of it")]
    TooLarge {
        /// As it was looked for.
        path: String,
        /// What it exceeds.
        limit: &'static str,
    },
    /// No row in it.
    #[error("`{0}` holds no rows; write at least one")]
    Empty(String),
    /// A line that cannot be used.
    #[error("`{path}` line {line}: {message}")]
    Line {
        /// As it was looked for.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong; what would be right.
        message: String,
    },
}

/// Reads a trace with its time divided by `speed`, as far as `until` where there is an end.
///
/// # Errors
/// Where the file cannot be read, or a line of what is read cannot be used.
pub fn read(path: &Path, speed: f64, until: Option<Duration>) -> Result<Trace, TraceError> {
    let name = || path.display().to_string();
    let too_large = |limit| TraceError::TooLarge { path: name(), limit };
    let unreadable =
        |error: std::io::Error| TraceError::Unreadable { path: name(), reason: error.to_string() };
    let mut format = Format::of(path).ok_or_else(|| TraceError::Format(name()))?;
    // A pipe or a device could keep the reader for ever.
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
        let wrong = |message| TraceError::Line { path: name(), line: number, message };
        if line.len() as u64 > MAX_LINE {
            return Err(wrong("longer than 1 MiB; write one row a line".to_owned()));
        }
        let text =
            str::from_utf8(&line).map_err(|_| wrong("not UTF-8; convert the file".to_owned()))?;
        // Some editors put a byte order mark first.
        let text = text.trim_start_matches(|c| number == 1 && c == '\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let Some((at, lengths)) = format.row(text).map_err(wrong)? else { continue };
        if !rows.keep(at, lengths).map_err(wrong)? {
            break;
        }
        if rows.kept.len() > MAX_ROWS {
            return Err(too_large("1000000 rows"));
        }
    }
    if rows.kept.is_empty() {
        return Err(TraceError::Empty(name()));
    }
    Ok(Trace::new(&file_name(path), rows.kept))
}

/// The rows so far, and what the next one is measured by.
struct Rows {
    speed: f64,
    /// Whether `end` cuts rows off or refuses them.
    cuts: bool,
    end: Duration,
    /// The instants of the first and the latest row.
    reached: Option<(i128, i128)>,
    kept: Vec<Row>,
}

impl Rows {
    fn new(speed: f64, until: Option<Duration>) -> Rows {
        let end = until.unwrap_or(Phase::LONGEST);
        Rows { speed, cuts: until.is_some(), end, reached: None, kept: Vec::new() }
    }

    /// Keeps a row; or not, where it and all the rest are cut off.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn keep(&mut self, at: i128, lengths: Lengths) -> Result<bool, String> {
        let (first, latest) = self.reached.unwrap_or((at, at));
        if at < latest {
            return Err("earlier than the row before; sort the rows by time".to_owned());
        }
        self.reached = Some((first, at));
        // Whole nanoseconds stay whole for 104 days, and who goes beyond does not miss one.
        let offset = Duration::from_nanos(((at - first) as f64 / self.speed).round() as u64);
        let within = offset <= self.end;
        if within {
            self.kept.push(Row::new(offset, lengths));
        } else if !self.cuts {
            let message =
                "more than 366 days after the first row; cut the trace with `for` or raise `speed`";
            return Err(message.to_owned());
        }
        Ok(within)
    }
}

/// The name of a file, fit for the name of a phase.
fn file_name(path: &Path) -> String {
    excerpt(&path.file_name().unwrap_or_default().to_string_lossy())
}
