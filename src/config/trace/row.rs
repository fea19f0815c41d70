//! What one line of a trace says: the columns of CSV and the keys of JSONL, as Azure, Mooncake and the
//! plain form name them.

use std::num::NonZeroU32;
use std::path::Path;

use jiff::{Timestamp, civil, tz};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::tree::excerpt;
use crate::schedule::Lengths;

/// The most tokens of one prompt or answer: more than any model takes, and what a prompt of them costs
/// in memory is still bearable.
const MAX_TOKENS: u32 = 10_000_000;
/// In nanoseconds: instants count from anywhere, such as 1970, but not from further away than this.
const FARTHEST: f64 = 1e20;

/// The instant of a row, in nanoseconds from wherever its trace counts, and its lengths.
pub type RawRow = (i128, Lengths);

/// What a line means, once the lines before have said so.
pub enum Format {
    /// Comma-separated, below a header that names the columns.
    Csv(Box<csv_core::Reader>, Option<Columns>),
    /// An object a line.
    Jsonl(Option<Keys>),
}

impl Format {
    /// By the end of the file's name.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "csv" => Some(Format::Csv(Box::new(csv_core::Reader::new()), None)),
            "jsonl" | "ndjson" => Some(Format::Jsonl(None)),
            _ => None,
        }
    }

    /// What a line tells; nothing where it is a header.
    pub fn row(&mut self, line: &str) -> Result<Option<RawRow>, String> {
        match self {
            Format::Csv(reader, Some(columns)) => columns.row(&cells(reader, line)?).map(Some),
            Format::Csv(reader, columns) => {
                *columns = Some(Columns::named(&cells(reader, line)?)?);
                Ok(None)
            }
            Format::Jsonl(Some(keys)) => keys.row(line).map(Some),
            Format::Jsonl(keys) => keys.insert(Keys::of(line)?).row(line).map(Some),
        }
    }
}

/// The cells of a line of CSV. No cell of a trace holds a line break, so a line is a whole record.
fn cells(reader: &mut csv_core::Reader, line: &str) -> Result<Vec<String>, String> {
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
                return Err("a quote is not closed; close it in its line".into());
            }
        }
    }
}

/// Where a row of CSV says what: the instant, the input and the output.
pub struct Columns {
    dated: bool,
    names: [&'static str; 3],
    places: [usize; 3],
}

impl Columns {
    const AZURE: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
    const PLAIN: [&str; 3] = ["offset_seconds", "input_tokens", "output_tokens"];

    fn named(header: &[String]) -> Result<Columns, String> {
        let place = |name: &str| header.iter().position(|cell| cell == name);
        let dated = place(Columns::AZURE[0]).is_some();
        let names = if dated { Columns::AZURE } else { Columns::PLAIN };
        if let [Some(at), Some(input), Some(output)] = names.map(place) {
            return Ok(Columns { dated, names, places: [at, input, output] });
        }
        let missing = names.iter().find(|name| place(name).is_none()).unwrap_or(&names[0]);
        let (azure, plain) = (Columns::AZURE.join(","), Columns::PLAIN.join(","));
        let remedy =
            if dated { format!("`{azure}`") } else { format!("`{plain}`, or Azure's `{azure}`") };
        Err(format!("no column `{missing}` in the header; the first line is {remedy}"))
    }

    fn row(&self, cells: &[String]) -> Result<RawRow, String> {
        let cell = |i: usize| {
            let missing =
                || format!("no `{}`; write a cell for each column of the header", self.names[i]);
            cells.get(self.places[i]).map(String::as_str).ok_or_else(missing)
        };
        let tokens = |i: usize| match cell(i)? {
            "" => Ok(None),
            text => match text.parse() {
                Ok(tokens) => length(self.names[i], tokens),
                Err(_) => {
                    Err(format!("`{}` is not a number of tokens; write digits only", excerpt(text)))
                }
            },
        };
        let text = cell(0)?;
        let at = if self.dated {
            date(text)?
        } else {
            let seconds = text
                .parse()
                .map_err(|_| format!("`{}` is not a number of seconds; {OFFSET}", excerpt(text)))?;
            instant(seconds, 1e9)?
        };
        Ok((at, Lengths { input: tokens(1)?, output: tokens(2)? }))
    }
}

/// How the objects of a trace name what they tell.
#[derive(Clone, Copy)]
pub enum Keys {
    /// `timestamp` in milliseconds.
    Mooncake,
    /// `offset_seconds`.
    Plain,
}

impl Keys {
    const REMEDY: &str = "write `{\"offset_seconds\": 1.5, \"input_tokens\": 512, \"output_tokens\": 64}` a line, \
                          or Mooncake's `timestamp` in milliseconds, `input_length` and `output_length`";

    /// Those of the first row.
    fn of(line: &str) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Clocks {
            timestamp: Option<IgnoredAny>,
            offset_seconds: Option<IgnoredAny>,
        }
        match object::<Clocks>(line)? {
            Clocks { offset_seconds: Some(_), .. } => Ok(Keys::Plain),
            Clocks { timestamp: Some(_), .. } => Ok(Keys::Mooncake),
            _ => Err(format!("no `offset_seconds` and no `timestamp`; {}", Keys::REMEDY)),
        }
    }

    fn row(self, line: &str) -> Result<RawRow, String> {
        // A length may be null, but one that is not there is more likely misspelt.
        #[derive(Deserialize)]
        struct Mooncake {
            timestamp: f64,
            #[serde(deserialize_with = "Option::deserialize")]
            input_length: Option<u64>,
            #[serde(deserialize_with = "Option::deserialize")]
            output_length: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Plain {
            offset_seconds: f64,
            #[serde(deserialize_with = "Option::deserialize")]
            input_tokens: Option<u64>,
            #[serde(deserialize_with = "Option::deserialize")]
            output_tokens: Option<u64>,
        }
        let tokens =
            |key, tokens: Option<u64>| tokens.map_or(Ok(None), |tokens| length(key, tokens));
        match self {
            Keys::Mooncake => {
                let row: Mooncake = object(line)?;
                let input = tokens("input_length", row.input_length)?;
                let output = tokens("output_length", row.output_length)?;
                Ok((instant(row.timestamp, 1e6)?, Lengths { input, output }))
            }
            Keys::Plain => {
                let row: Plain = object(line)?;
                let input = tokens("input_tokens", row.input_tokens)?;
                let output = tokens("output_tokens", row.output_tokens)?;
                Ok((instant(row.offset_seconds, 1e9)?, Lengths { input, output }))
            }
        }
    }
}

fn object<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    // A list would be taken for an object.
    if !line.starts_with('{') {
        return Err(format!("not an object; {}", Keys::REMEDY));
    }
    serde_json::from_str(line).map_err(|error| {
        let error = error.to_string();
        // The position is within the line, which is told already.
        let error = error.split(" at line ").next().unwrap_or_default();
        let error = error.replace("f64", "a number").replace("u64", "a whole number");
        format!("{}; {}", excerpt(&error), Keys::REMEDY)
    })
}

const OFFSET: &str = "write the time since the start of the trace, a number of 0 or more";

/// An instant in nanoseconds, of a number that counts in units of so many of them.
#[allow(clippy::cast_possible_truncation)]
fn instant(number: f64, unit: f64) -> Result<i128, String> {
    let nanos = (number * unit).round();
    if (0.0..=FARTHEST).contains(&nanos) {
        Ok(nanos as i128)
    } else {
        Err(format!("an instant of {number:?} is out of range; {OFFSET}"))
    }
}

/// A date with a time, in UTC where it does not say.
fn date(text: &str) -> Result<i128, String> {
    let local =
        || text.parse::<civil::DateTime>().and_then(|date| tz::TimeZone::UTC.to_timestamp(date));
    let instant: Timestamp = text.parse().or_else(|_| local()).map_err(|_| {
        format!(
            "`{}` is not a date with a time; write one such as `2023-11-16 18:17:03.9799600`",
            excerpt(text)
        )
    })?;
    Ok(instant.as_nanosecond())
}

/// A number of tokens. Nobody can be asked for none of them, so that 0 is the least there is.
fn length(name: &str, tokens: u64) -> Result<Option<NonZeroU32>, String> {
    match u32::try_from(tokens) {
        Ok(tokens) if tokens <= MAX_TOKENS => Ok(NonZeroU32::new(tokens.max(1))),
        _ => Err(format!(
            "`{name}` of {tokens} is out of range; write a number of tokens up to {MAX_TOKENS}"
        )),
    }
}
