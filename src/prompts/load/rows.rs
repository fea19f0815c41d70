//! Rows of a file, each found at once: held in memory where the file is small, else read from the
//! disk when they are asked for, by an index of where they stand.
//!
//! Every row is looked at once, while the file is loaded. A file on the disk must stay as it was
//! then: what is read from one that has changed could be half of something, so it is not sent.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{LoadError, MAX_BYTES};
use crate::prompts::format::RowFormat;
use crate::prompts::row_splitter::{LARGEST_ROW, RawRow, RowSplitter, SplitError};
use crate::protocol::Prompt;

/// The most rows: an index of 256 MiB.
const MAX_ROWS: usize = 1 << 25;
/// The largest file that an index entry can point into: 1 TiB.
const MAX_FILE_BYTES: u64 = 1 << 40;
/// How many rows of a file are said to be wrong before the rest is only counted.
const MAX_REPORTED: usize = 5;
/// Bytes read at a time.
const READ_SIZE: usize = 1 << 18;

/// Why a row that was there cannot be asked any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptUnavailable {
    /// The file is another one than it was.
    #[error(
        "`{0}` has changed since it was loaded; put new prompts into a new file, or start again"
    )]
    Changed(String),
    /// The operating system does not give it.
    #[error("`{path}` cannot be read: {reason}")]
    Unreadable {
        /// As it was looked for.
        path: String,
        /// The operating system's words.
        reason: String,
    },
}

/// The rows of a file that hold a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    format: RowFormat,
    /// Where each stands and how long it is: the offset above, the length in the lower 24 bits.
    index: Arc<[u64]>,
    /// How many bring along a bound of output tokens, and the sum of these.
    limits: (u64, u64),
    /// How many have no words that others could be put before.
    without_text: u64,
    bytes: Bytes,
    path: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bytes {
    Held(Arc<[u8]>),
    OnDisk(Arc<OnDisk>),
}

/// Two are the same file if they are of the same version: the path stands beside them.
#[derive(Debug)]
struct OnDisk {
    file: File,
    version: Version,
}

impl PartialEq for OnDisk {
    fn eq(&self, other: &OnDisk) -> bool {
        self.version == other.version
    }
}

/// What tells that a file is still what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    length: u64,
    modified: Option<SystemTime>,
}

impl Version {
    fn of(about: &Metadata) -> Version {
        Version { length: about.len(), modified: about.modified().ok() }
    }
}

/// The rows of a file. Up to 64 MiB of it are held in memory.
///
/// # Errors
/// Where the file cannot be read or has no prompts, or a row is none: the first few of them.
pub fn load_rows(path: &Path, format: RowFormat) -> Result<Rows, Vec<LoadError>> {
    Rows::load(path, format, MAX_BYTES as u64)
}

impl Rows {
    fn load(path: &Path, format: RowFormat, hold: u64) -> Result<Rows, Vec<LoadError>> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            vec![LoadError::Unreadable { path: name.clone(), reason: error.to_string() }]
        };
        let (mut file, about) = super::open(path).map_err(|error| vec![error])?;
        let version = Version::of(&about);
        if version.length > MAX_FILE_BYTES {
            return Err(vec![LoadError::TooLarge { path: name, limit: "1 TiB" }]);
        }

        let mut survey = Survey {
            format: &format,
            path: &name,
            index: Vec::new(),
            limits: (0, 0),
            without_text: 0,
            wrong: Vec::new(),
            more: 0,
        };
        let mut splitter = RowSplitter::new(format.is_json());
        let mut held = (version.length <= hold).then(Vec::new);
        let mut part = vec![0; READ_SIZE];
        let mut length = 0;
        loop {
            let count = file.read(&mut part).map_err(unreadable)?;
            let bytes = &part[..count];
            length += count as u64;
            if count == 0 || length > version.length {
                break;
            }
            splitter.feed(bytes, |row| survey.look(row)).map_err(|uncut| survey.uncut(&uncut))?;
            if survey.index.len() > MAX_ROWS {
                return Err(vec![LoadError::TooLarge { path: name, limit: "33554432 rows" }]);
            }
            if let Some(held) = &mut held {
                held.extend_from_slice(bytes);
            }
        }
        splitter.end(|row| survey.look(row)).map_err(|uncut| survey.uncut(&uncut))?;
        if length != version.length || Version::of(&file.metadata().map_err(unreadable)?) != version
        {
            let reason = "it changed while it was read".to_owned();
            return Err(vec![LoadError::Unreadable { path: name, reason }]);
        }

        let (limits, without_text) = (survey.limits, survey.without_text);
        let index: Arc<[u64]> = survey.finish()?.into();
        let bytes = match held {
            Some(held) => Bytes::Held(held.into()),
            None => Bytes::OnDisk(Arc::new(OnDisk { file, version })),
        };
        Ok(Rows { format, index, limits, without_text, bytes, path: name.into() })
    }

    /// How many there are.
    pub(in crate::prompts) fn count(&self) -> u64 {
        self.index.len() as u64
    }

    /// How many have no words that others could be put before.
    pub(in crate::prompts) fn count_without_text(&self) -> u64 {
        self.without_text
    }

    /// How long a row is, on the average.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_bytes(&self) -> f64 {
        let bytes: u64 = self.index.iter().map(|entry| entry & ((1 << LENGTH_BITS) - 1)).sum();
        bytes as f64 / self.index.len().max(1) as f64
    }

    /// The most tokens of an answer, on the average, where rows that do not say so are bound by `limit`.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_limit(&self, limit: f64) -> f64 {
        let (count, sum) = (self.limits.0 as f64, self.limits.1 as f64);
        let all = self.count().max(1) as f64;
        (sum + (all - count) * limit) / all
    }

    /// What the row at this place asks. Where the file is not held, this reads from the disk.
    pub(in crate::prompts) fn ask(&self, place: u64) -> Result<Prompt<'_>, PromptUnavailable> {
        let entry = usize::try_from(place)
            .ok()
            .and_then(|place| self.index.get(place))
            .copied()
            .unwrap_or_default();
        let (start, length) = unpacked(entry);
        let bytes = match &self.bytes {
            Bytes::Held(held) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                Cow::Borrowed(held.get(start..start + length).unwrap_or_default())
            }
            Bytes::OnDisk(disk) => Cow::Owned(self.read(disk, start, length)?),
        };
        // It was fit to be asked once; if it is not now, it is something else.
        let text = match bytes {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        let asked = text.and_then(|text| self.format.read(text).ok().flatten());
        asked.ok_or_else(|| self.changed())
    }

    fn read(&self, disk: &OnDisk, start: u64, length: usize) -> Result<Vec<u8>, PromptUnavailable> {
        let unreadable = |error: std::io::Error| PromptUnavailable::Unreadable {
            path: self.path.to_string(),
            reason: error.to_string(),
        };
        let mut bytes = vec![0; length];
        match disk.file.read_exact_at(&mut bytes, start) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.changed());
            }
            read => read.map_err(unreadable)?,
        }
        // Asked after reading: a change before this moment shows.
        let now = Version::of(&disk.file.metadata().map_err(unreadable)?);
        if now == disk.version { Ok(bytes) } else { Err(self.changed()) }
    }

    fn changed(&self) -> PromptUnavailable {
        PromptUnavailable::Changed(self.path.to_string())
    }
}

/// The first look at every row.
struct Survey<'a> {
    format: &'a RowFormat,
    path: &'a str,
    index: Vec<u64>,
    limits: (u64, u64),
    without_text: u64,
    wrong: Vec<LoadError>,
    more: usize,
}

impl Survey<'_> {
    fn look(&mut self, row: RawRow<'_>) {
        let Ok(text) = str::from_utf8(row.bytes) else {
            let before = row.bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            let line = row.line + memchr::memchr_iter(b'\n', before.as_bytes()).count();
            return self.note(LoadError::Encoding { path: self.path.to_owned(), line });
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_start();
        let start = row.start + (row.bytes.len() - text.len()) as u64;
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        match self.format.read(text.into()) {
            Ok(Some(asked)) => {
                self.index.push(packed(start, text.len()));
                if let Some(limit) = asked.own_output_limit() {
                    self.limits = (self.limits.0 + 1, self.limits.1.saturating_add(limit));
                }
                self.without_text += u64::from(!asked.has_first_text());
            }
            Ok(None) => {}
            Err(unfit) => {
                let line = row.line + unfit.line;
                self.note(LoadError::Json {
                    path: self.path.to_owned(),
                    line,
                    message: unfit.message,
                });
            }
        }
    }

    fn note(&mut self, error: LoadError) {
        if self.wrong.len() < MAX_REPORTED {
            self.wrong.push(error);
        } else {
            self.more += 1;
        }
    }

    /// What was wrong up to where the file could not be cut any further.
    fn uncut(&mut self, uncut: &SplitError) -> Vec<LoadError> {
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.push(LoadError::Json {
            path: self.path.to_owned(),
            line: uncut.line,
            message: uncut.message.to_owned(),
        });
        wrong
    }

    fn finish(mut self) -> Result<Vec<u64>, Vec<LoadError>> {
        if self.more > 0 {
            self.wrong.push(LoadError::More { path: self.path.to_owned(), count: self.more });
        }
        if self.wrong.is_empty() && self.index.is_empty() {
            self.wrong.push(LoadError::Empty(self.path.to_owned()));
        }
        if self.wrong.is_empty() { Ok(self.index) } else { Err(self.wrong) }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
const LENGTH_BITS: u32 = LARGEST_ROW.count_ones();

fn packed(start: u64, length: usize) -> u64 {
    start << LENGTH_BITS | length as u64
}

#[allow(clippy::cast_possible_truncation)]
fn unpacked(entry: u64) -> (u64, usize) {
    (entry >> LENGTH_BITS, entry as usize & LARGEST_ROW)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;

    use super::*;

    fn all(rows: &Rows) -> Vec<Prompt<'_>> {
        (0..rows.count()).map(|place| rows.ask(place).unwrap()).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    /// Held in memory and read from the disk.
    fn both(text: &str, format: &RowFormat) -> [Rows; 2] {
        let file = file(text);
        [u64::MAX, 0].map(|hold| Rows::load(file.path(), format.clone(), hold).unwrap())
    }

    #[test]
    fn a_large_file_by_index_is_the_same_as_in_memory() {
        let mut text = String::from("\u{feff}");
        for i in 0..100_000_u32 {
            let spaces = " ".repeat(i as usize % 3);
            let dashes = "–".repeat(i as usize % 7);
            let end = ["\n", "\r\n", "\n\n"][i as usize % 3];
            write!(text, "{spaces}{{\"prompt\": \"{i}{dashes}\"}}{spaces}{end}").unwrap();
        }
        for (format, first) in
            [(RowFormat::Lines, "{\"prompt\": \"4––––\"}"), (RowFormat::Jsonl(None), "4––––")]
        {
            let [held, on_disk] = both(&text, &format);
            assert!(
                matches!(held.bytes, Bytes::Held(_)) && matches!(on_disk.bytes, Bytes::OnDisk(_))
            );
            assert_eq!((held.count(), on_disk.count()), (100_000, 100_000));
            assert_eq!(held.ask(4).unwrap(), Prompt::from(first));
            // Every place near an edge, and some of all that lie between.
            let places = (0..20).chain((20..100_000).step_by(37)).chain(99_980..100_000);
            assert!(places.into_iter().all(|place| held.ask(place) == on_disk.ask(place)));
        }
    }

    #[test]
    fn a_list_is_found_by_index_too() {
        let text = "[{\"conversations\": [\n{\"from\": \"human\", \"value\": \"A\"}]},\n {\"conversations\": []},\
                    {\"conversations\": [{\"from\": \"human\", \"value\": \"B\"}]}]";
        for rows in both(text, &RowFormat::Sharegpt) {
            assert_eq!(all(&rows), ["A", "B"].map(Prompt::from));
        }
    }

    #[test]
    fn a_file_that_changes_on_the_disk_is_not_read_on() {
        let changes: [fn(&mut File); 3] = [
            |file| file.set_len(3).unwrap(),
            |file| file.write_all(b"more\n").unwrap(),
            |file| {
                let earlier = file.metadata().unwrap().modified().unwrap()
                    - std::time::Duration::from_secs(9);
                file.set_modified(earlier).unwrap();
            },
        ];
        for change in changes {
            let temporary = file("one\ntwo\n");
            let rows = Rows::load(temporary.path(), RowFormat::Lines, 0).unwrap();
            assert_eq!(rows.ask(1).unwrap(), Prompt::from("two"));
            change(&mut File::options().append(true).open(temporary.path()).unwrap());
            let said = rows.ask(1).unwrap_err();
            assert!(matches!(said, PromptUnavailable::Changed(_)), "{said}");
        }
        // One that is deleted is still there for whoever has it open.
        let temporary = file("one\ntwo\n");
        let rows = Rows::load(temporary.path(), RowFormat::Lines, 0).unwrap();
        drop(temporary);
        assert_eq!(rows.ask(0).unwrap(), Prompt::from("one"));
    }

    #[test]
    fn wrong_rows_are_told_by_line_the_first_few_of_them() {
        let temporary = file(&format!("{{\"prompt\": \"a\"}}\n\n{}", "5\n".repeat(9)));
        let wrong = Rows::load(temporary.path(), RowFormat::Jsonl(None), 0).unwrap_err();
        let said: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 6);
        assert!(said[0].contains("line 3: not JSON of the right shape"), "{said:?}");
        assert!(said[5].contains("4 more"), "{said:?}");
        std::fs::write(temporary.path(), b"ab\n\xff\n").unwrap();
        let wrong = Rows::load(temporary.path(), RowFormat::Lines, 0).unwrap_err();
        assert!(matches!(wrong[..], [LoadError::Encoding { line: 2, .. }]), "{wrong:?}");
        std::fs::write(temporary.path(), "[{\"prompt\": 1},\n3]").unwrap();
        let wrong = Rows::load(temporary.path(), RowFormat::Jsonl(None), 0).unwrap_err();
        assert!(
            matches!(wrong[..], [LoadError::Json { line: 1, .. }, LoadError::Json { line: 2, .. }]),
            "{wrong:?}"
        );
    }
}
