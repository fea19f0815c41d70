//! Reads one line of a trace: a CSV record with the columns of a public trace or of the plain
//! format, or a JSON object with the keys of a public trace or of the plain format.

use std::num::NonZeroU32;
use std::path::Path;

use jiff::{Timestamp, civil, tz};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::problem::Mistake;
use crate::config::tree::excerpt;
use crate::schedule::Lengths;

/// The highest number of tokens of one prompt or response. It is above the limit of every model,
/// and such a prompt still fits into memory.
const MAX_TOKENS: u32 = 10_000_000;
/// The largest instant of a trace, in nanoseconds. A trace can count from any origin, such as 1970.
const LARGEST_INSTANT_NS: f64 = 1e20;

/// A row of the file. Its instant counts from the origin of the file, not from the first row.
pub struct RawRow {
    /// The instant in nanoseconds, from an origin that all rows share.
    pub instant_ns: i128,
    pub lengths: Lengths,
    /// Empty if the row has none.
    pub hash_ids: Vec<u64>,
}

/// The format of a trace. The columns or keys are `None` before the first line.
pub enum Format {
    /// Comma-separated values. The first line is a header with the names of the columns.
    Csv(Box<csv_core::Reader>, Option<Columns>),
    /// One JSON object per line. The first object decides the keys of all objects.
    Jsonl(Option<Keys>),
}

impl Format {
    pub fn from_extension(path: &Path) -> Option<Format> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "csv" => Some(Format::Csv(Box::new(csv_core::Reader::new()), None)),
            "jsonl" | "ndjson" => Some(Format::Jsonl(None)),
            _ => None,
        }
    }

    /// The tokens of a block with a hash id, unless the configuration sets another number.
    pub fn block_size(&self) -> NonZeroU32 {
        let size = if matches!(self, Format::Jsonl(Some(Keys::Bailian))) { 16 } else { 512 };
        NonZeroU32::new(size).unwrap_or(NonZeroU32::MIN)
    }

    /// Reads a line. Returns `None` if the line is the header.
    pub fn row(&mut self, line: &str) -> Result<Option<RawRow>, Mistake> {
        match self {
            Format::Csv(reader, Some(columns)) => columns.row(&cells(reader, line)?).map(Some),
            Format::Csv(reader, columns) => {
                *columns = Some(Columns::from_header(&cells(reader, line)?)?);
                Ok(None)
            }
            Format::Jsonl(Some(keys)) => keys.row(line).map(Some),
            Format::Jsonl(keys) => keys.insert(Keys::from_first_row(line)?).row(line).map(Some),
        }
    }
}

/// Returns the cells of one CSV record. The cells of a trace contain no line breaks.
fn cells(reader: &mut csv_core::Reader, line: &str) -> Result<Vec<String>, Mistake> {
    use csv_core::ReadFieldResult::{End, Field, InputEmpty, OutputFull};

    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    let mut cell = vec![0; line.len()];
    let mut cells = Vec::new();
    reader.reset();
    loop {
        let (result, read, written) = reader.read_field(rest, &mut cell);
        rest = &rest[read..];
        match result {
            Field { record_end } => {
                cells.push(String::from_utf8_lossy(&cell[..written]).trim().to_owned());
                if record_end {
                    return Ok(cells);
                }
            }
            InputEmpty | OutputFull | End => {
                return Err(Mistake::new("a quote is not closed", "close it in the same line"));
            }
        }
    }
}

/// The columns of a CSV trace. Each array contains the instant, the prompt tokens and the response
/// tokens, in this order.
pub struct Columns {
    names: [&'static str; 3],
    indices: [usize; 3],
}

impl Columns {
    /// The instant is a date with a time.
    const AZURE: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
    /// The instant is an offset in seconds, as in the plain format.
    const BURST_GPT: [&str; 3] = ["Timestamp", "Request tokens", "Response tokens"];
    const PLAIN: [&str; 3] = ["offset_seconds", "input_tokens", "output_tokens"];

    fn from_header(header: &[String]) -> Result<Columns, Mistake> {
        let index = |name: &str| header.iter().position(|cell| cell == name);
        let public = [Columns::AZURE, Columns::BURST_GPT];
        let found = public.into_iter().find(|names| index(names[0]).is_some());
        let names = found.unwrap_or(Columns::PLAIN);
        if let [Some(at), Some(input), Some(output)] = names.map(index) {
            return Ok(Columns { names, indices: [at, input, output] });
        }
        let missing = names.iter().find(|name| index(name).is_none()).unwrap_or(&names[0]);
        let list = |names: [&str; 3]| format!("`{}`", names.join(","));
        let header = match found {
            Some(names) => list(names),
            None => format!(
                "{}, or Azure's {}, or BurstGPT's {}",
                list(Columns::PLAIN),
                list(Columns::AZURE),
                list(Columns::BURST_GPT)
            ),
        };
        let message = format!("the header has no column `{missing}`");
        Err(Mistake::new(message, format!("write the header {header}")))
    }

    fn row(&self, cells: &[String]) -> Result<RawRow, Mistake> {
        let cell = |i: usize| {
            let missing = || {
                let message = format!("`{}` is missing", self.names[i]);
                Mistake::new(message, "write a cell for each column of the header")
            };
            cells.get(self.indices[i]).map(String::as_str).ok_or_else(missing)
        };
        let tokens = |i: usize| match cell(i)? {
            "" => Ok(None),
            text => {
                let Ok(tokens) = text.parse() else {
                    let message = format!("`{}` is not a number of tokens", excerpt(text));
                    return Err(Mistake::new(message, "write only digits"));
                };
                length(self.names[i], tokens)
            }
        };
        let text = cell(0)?;
        let instant_ns = if self.names == Columns::AZURE {
            date(text)?
        } else {
            let seconds = text.parse().map_err(|_| {
                let message = format!("`{}` is not a number of seconds", excerpt(text));
                Mistake::new(message, OFFSET)
            })?;
            instant(seconds, 1e9)?
        };
        let lengths = Lengths { input: tokens(1)?, output: tokens(2)?, row: None };
        Ok(RawRow { instant_ns, lengths, hash_ids: Vec::new() })
    }
}

#[derive(Clone, Copy)]
pub enum Keys {
    /// `timestamp` in milliseconds, `input_length` and `output_length`.
    Mooncake,
    /// The keys of Mooncake and `chat_id`, with `timestamp` in seconds.
    Bailian,
    /// `offset_seconds`, `input_tokens` and `output_tokens`.
    Plain,
}

impl Keys {
    const REMEDY: &str = "write `{\"offset_seconds\": 1.5, \"input_tokens\": 512, \"output_tokens\": 64}` per line, \
                          or Mooncake's `timestamp` in milliseconds, `input_length` and `output_length`";

    fn from_first_row(line: &str) -> Result<Keys, Mistake> {
        // Only the presence of the time key decides the format, so the values are ignored.
        #[derive(Deserialize)]
        struct TimeKeys {
            timestamp: Option<IgnoredAny>,
            offset_seconds: Option<IgnoredAny>,
            chat_id: Option<IgnoredAny>,
        }
        match object::<TimeKeys>(line)? {
            TimeKeys { offset_seconds: Some(_), .. } => Ok(Keys::Plain),
            TimeKeys { timestamp: Some(_), chat_id: Some(_), .. } => Ok(Keys::Bailian),
            TimeKeys { timestamp: Some(_), .. } => Ok(Keys::Mooncake),
            _ => Err(Mistake::new(
                "the row has neither `offset_seconds` nor `timestamp`",
                Keys::REMEDY,
            )),
        }
    }

    fn row(self, line: &str) -> Result<RawRow, Mistake> {
        // A length can be null, but not absent, because an absent key is probably misspelled.
        // Without an explicit deserializer, serde treats an absent `Option` as null.
        #[derive(Deserialize)]
        struct Mooncake {
            timestamp: f64,
            #[serde(deserialize_with = "Option::deserialize")]
            input_length: Option<u64>,
            #[serde(deserialize_with = "Option::deserialize")]
            output_length: Option<u64>,
            hash_ids: Option<Vec<u64>>,
        }
        #[derive(Deserialize)]
        struct Plain {
            offset_seconds: f64,
            #[serde(deserialize_with = "Option::deserialize")]
            input_tokens: Option<u64>,
            #[serde(deserialize_with = "Option::deserialize")]
            output_tokens: Option<u64>,
            hash_ids: Option<Vec<u64>>,
        }
        let tokens =
            |key, tokens: Option<u64>| tokens.map_or(Ok(None), |tokens| length(key, tokens));
        match self {
            Keys::Mooncake | Keys::Bailian => {
                let row: Mooncake = object(line)?;
                let input = tokens("input_length", row.input_length)?;
                let output = tokens("output_length", row.output_length)?;
                let unit_ns = if matches!(self, Keys::Bailian) { 1e9 } else { 1e6 };
                let instant_ns = instant(row.timestamp, unit_ns)?;
                let lengths = Lengths { input, output, row: None };
                Ok(RawRow { instant_ns, lengths, hash_ids: row.hash_ids.unwrap_or_default() })
            }
            Keys::Plain => {
                let row: Plain = object(line)?;
                let input = tokens("input_tokens", row.input_tokens)?;
                let output = tokens("output_tokens", row.output_tokens)?;
                let instant_ns = instant(row.offset_seconds, 1e9)?;
                let lengths = Lengths { input, output, row: None };
                Ok(RawRow { instant_ns, lengths, hash_ids: row.hash_ids.unwrap_or_default() })
            }
        }
    }
}

fn object<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Mistake> {
    // serde would accept a list instead of a struct.
    if !line.starts_with('{') {
        return Err(Mistake::new("the line is not a JSON object", Keys::REMEDY));
    }
    serde_json::from_str(line).map_err(|error| {
        let error = error.to_string();
        // serde_json adds its own line number, which is always 1. The message already has the line
        // number of the trace.
        let error = error.split(" at line ").next().unwrap_or_default();
        let error = error.replace("f64", "a number").replace("u64", "a whole number");
        let error = error.replace("a sequence", "a list");
        Mistake::new(excerpt(&error), Keys::REMEDY)
    })
}

/// The remedy for an invalid instant.
const OFFSET: &str = "write the time since the start of the trace, a number of 0 or more";

/// Converts an instant to nanoseconds. `unit_ns` is the unit of `number`: 1e9 for seconds.
#[allow(clippy::cast_possible_truncation)]
fn instant(number: f64, unit_ns: f64) -> Result<i128, Mistake> {
    let nanos = (number * unit_ns).round();
    if (0.0..=LARGEST_INSTANT_NS).contains(&nanos) {
        Ok(nanos as i128)
    } else {
        let message = format!("an instant of {number:?} is out of range");
        Err(Mistake::new(message, OFFSET))
    }
}

/// Converts a date with a time to nanoseconds since 1970. Without an offset, the date is in UTC.
fn date(text: &str) -> Result<i128, Mistake> {
    let local =
        || text.parse::<civil::DateTime>().and_then(|date| tz::TimeZone::UTC.to_timestamp(date));
    let instant: Timestamp = text.parse().or_else(|_| local()).map_err(|_| {
        let message = format!("`{}` is not a date with a time", excerpt(text));
        Mistake::new(message, "write one such as `2023-11-16 18:17:03.9799600`")
    })?;
    Ok(instant.as_nanosecond())
}

/// Converts a number of tokens. 0 becomes 1, because a request for 0 tokens is impossible.
fn length(name: &str, tokens: u64) -> Result<Option<NonZeroU32>, Mistake> {
    match u32::try_from(tokens) {
        Ok(tokens) if tokens <= MAX_TOKENS => Ok(NonZeroU32::new(tokens.max(1))),
        _ => Err(Mistake::new(
            format!("`{name}` of {tokens} is out of range"),
            format!("write a number of tokens up to {MAX_TOKENS}"),
        )),
    }
}
