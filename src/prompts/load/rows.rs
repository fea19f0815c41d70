//! The rows of a prompt file, and an index of their places in the file. llmload keeps a small file
//! in memory. A large file stays on the disk, and llmload reads each row when it sends the row.
//!
//! llmload validates every row once, when it loads the file. Later, a file on the disk must not
//! change. If it changes, llmload sends no more rows from it, because they could be incomplete.

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

/// The highest number of rows. The index of this many rows has 256 MiB.
const MAX_ROWS: usize = 1 << 25;
/// The largest size of a file: 1 TiB. An index entry has 40 bits for the offset of a row.
const MAX_FILE_BYTES: u64 = 1 << 40;
/// The highest number of wrong rows that are reported one by one. Further wrong rows are only
/// counted.
const MAX_REPORTED: usize = 5;
/// While llmload loads a file, it reads at most this many bytes at once.
const READ_SIZE: usize = 1 << 18;

/// The reason why a row of a loaded file cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptUnavailable {
    /// The file has changed since it was loaded.
    #[error(
        "`{0}` has changed since it was loaded; write new prompts to a new file, or restart llmload"
    )]
    Changed(String),
    /// The operating system returned an error when llmload read the row.
    #[error("`{path}` cannot be read: {reason}")]
    Unreadable {
        path: String,
        /// The error message of the operating system.
        reason: String,
    },
}

/// All rows with a prompt, from one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    format: RowFormat,
    /// One entry for each row. The lower 24 bits are the length of the row, and the upper 40 bits
    /// are its offset in the file.
    index: Arc<[u64]>,
    counts: Counts,
    bytes: Bytes,
    path: Arc<str>,
}

/// Counts over all rows of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    /// The number of rows that contain a limit of output tokens.
    with_limit: u64,
    /// The sum of these limits.
    limits: u64,
    /// The number of rows without text. llmload cannot add a nonce to these rows.
    without_text: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Bytes {
    InMemory(Arc<[u8]>),
    OnDisk(Arc<OnDisk>),
}

/// Two files on the disk are equal if they have the same version. Their paths are compared in
/// `Rows`.
#[derive(Debug)]
struct OnDisk {
    file: File,
    version: FileVersion,
}

impl PartialEq for OnDisk {
    fn eq(&self, other: &OnDisk) -> bool {
        self.version == other.version
    }
}

/// The properties of a file that show if its content has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    length: u64,
    modified: Option<SystemTime>,
}

impl FileVersion {
    fn new(metadata: &Metadata) -> FileVersion {
        FileVersion { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// Loads the rows of a file. A file of up to 64 MiB stays in memory.
///
/// # Errors
/// If the file cannot be read, contains no prompts or has wrong rows. Each of the first five wrong
/// rows has a separate error.
pub fn load_rows(path: &Path, format: RowFormat) -> Result<Rows, Vec<LoadError>> {
    Rows::load(path, format, MAX_BYTES as u64)
}

impl Rows {
    fn load(path: &Path, format: RowFormat, max_in_memory: u64) -> Result<Rows, Vec<LoadError>> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            vec![LoadError::Unreadable { path: name.clone(), reason: error.to_string() }]
        };
        let (mut file, metadata) = super::open(path).map_err(|error| vec![error])?;
        let version = FileVersion::new(&metadata);
        if version.length > MAX_FILE_BYTES {
            return Err(vec![LoadError::TooLarge { path: name, limit: "1 TiB" }]);
        }

        let mut indexer = RowIndexer {
            format: &format,
            path: &name,
            index: Vec::new(),
            counts: Counts::default(),
            errors: Vec::new(),
            more_errors: 0,
        };
        let mut splitter = RowSplitter::new(format.is_json());
        let mut content = (version.length <= max_in_memory).then(Vec::new);
        let mut part = vec![0; READ_SIZE];
        let mut length = 0;
        loop {
            let count = file.read(&mut part).map_err(unreadable)?;
            let bytes = &part[..count];
            length += count as u64;
            if count == 0 || length > version.length {
                break;
            }
            splitter
                .feed(bytes, |row| indexer.add(row))
                .map_err(|error| indexer.split_failed(&error))?;
            if indexer.index.len() > MAX_ROWS {
                return Err(vec![LoadError::TooLarge { path: name, limit: "33,554,432 rows" }]);
            }
            if let Some(content) = &mut content {
                content.extend_from_slice(bytes);
            }
        }
        splitter.end(|row| indexer.add(row)).map_err(|error| indexer.split_failed(&error))?;
        if length != version.length
            || FileVersion::new(&file.metadata().map_err(unreadable)?) != version
        {
            let reason = "it changed while llmload read it".to_owned();
            return Err(vec![LoadError::Unreadable { path: name, reason }]);
        }

        let counts = indexer.counts;
        let index: Arc<[u64]> = indexer.finish()?.into();
        let bytes = match content {
            Some(content) => Bytes::InMemory(content.into()),
            None => Bytes::OnDisk(Arc::new(OnDisk { file, version })),
        };
        Ok(Rows { format, index, counts, bytes, path: name.into() })
    }

    pub(in crate::prompts) fn count(&self) -> u64 {
        self.index.len() as u64
    }

    /// The number of rows without text. llmload cannot add a nonce to these rows.
    pub(in crate::prompts) fn count_without_text(&self) -> u64 {
        self.counts.without_text
    }

    /// The mean length of a row in bytes.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_bytes(&self) -> f64 {
        let bytes: u64 = self.index.iter().map(|entry| entry & ((1 << LENGTH_BITS) - 1)).sum();
        bytes as f64 / self.index.len().max(1) as f64
    }

    /// The mean limit of output tokens. A row without a limit counts as a row with the limit
    /// `limit`.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_limit(&self, limit: f64) -> f64 {
        let (count, sum) = (self.counts.with_limit as f64, self.counts.limits as f64);
        let all = self.count().max(1) as f64;
        (sum + (all - count) * limit) / all
    }

    /// Returns the prompt of the row at this index. If the file is large, this function reads from
    /// the disk.
    pub(in crate::prompts) fn prompt_at(
        &self,
        index: u64,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        let entry = usize::try_from(index)
            .ok()
            .and_then(|index| self.index.get(index))
            .copied()
            .unwrap_or_default();
        let (start, length) = unpack(entry);
        let bytes = match &self.bytes {
            Bytes::InMemory(content) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                Cow::Borrowed(content.get(start..start + length).unwrap_or_default())
            }
            Bytes::OnDisk(disk) => Cow::Owned(self.read_from_disk(disk, start, length)?),
        };
        // The row was valid when the file was loaded. If the row is invalid now, the file has
        // changed.
        let text = match bytes {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        let prompt = text.and_then(|text| self.format.parse(text).ok().flatten());
        prompt.ok_or_else(|| self.changed())
    }

    fn read_from_disk(
        &self,
        disk: &OnDisk,
        start: u64,
        length: usize,
    ) -> Result<Vec<u8>, PromptUnavailable> {
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
        // The comparison is after the reading, because the file can change during the reading.
        let now = FileVersion::new(&disk.file.metadata().map_err(unreadable)?);
        if now == disk.version { Ok(bytes) } else { Err(self.changed()) }
    }

    fn changed(&self) -> PromptUnavailable {
        PromptUnavailable::Changed(self.path.to_string())
    }
}

/// Validates the rows of a file and builds the index.
struct RowIndexer<'a> {
    format: &'a RowFormat,
    path: &'a str,
    index: Vec<u64>,
    counts: Counts,
    /// The errors of the first wrong rows, at most [`MAX_REPORTED`].
    errors: Vec<LoadError>,
    /// The number of further wrong rows.
    more_errors: usize,
}

impl RowIndexer<'_> {
    fn add(&mut self, row: RawRow<'_>) {
        let Ok(text) = str::from_utf8(row.bytes) else {
            let before = row.bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            let line = row.line + memchr::memchr_iter(b'\n', before.as_bytes()).count();
            return self.add_error(LoadError::Encoding { path: self.path.to_owned(), line });
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_start();
        let start = row.start + (row.bytes.len() - text.len()) as u64;
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        match self.format.parse(text.into()) {
            Ok(Some(prompt)) => {
                self.index.push(pack(start, text.len()));
                if let Some(limit) = prompt.own_output_limit() {
                    self.counts.with_limit += 1;
                    self.counts.limits = self.counts.limits.saturating_add(limit);
                }
                self.counts.without_text += u64::from(!prompt.has_first_text());
            }
            Ok(None) => {}
            Err(error) => {
                let line = row.line + error.line;
                self.add_error(LoadError::Json {
                    path: self.path.to_owned(),
                    line,
                    problem: error.problem,
                    remedy: error.remedy,
                });
            }
        }
    }

    fn add_error(&mut self, error: LoadError) {
        if self.errors.len() < MAX_REPORTED {
            self.errors.push(error);
        } else {
            self.more_errors += 1;
        }
    }

    /// Returns the errors of the rows so far, followed by this error. From here on, the file cannot
    /// be split into rows.
    fn split_failed(&mut self, error: &SplitError) -> Vec<LoadError> {
        let mut errors = std::mem::take(&mut self.errors);
        errors.push(LoadError::Json {
            path: self.path.to_owned(),
            line: error.line,
            problem: error.problem.to_owned(),
            remedy: error.remedy.to_owned(),
        });
        errors
    }

    fn finish(mut self) -> Result<Vec<u64>, Vec<LoadError>> {
        if self.more_errors > 0 {
            let (path, count) = (self.path.to_owned(), self.more_errors);
            self.errors.push(LoadError::More { path, count });
        }
        if self.errors.is_empty() && self.index.is_empty() {
            self.errors.push(LoadError::Empty(self.path.to_owned()));
        }
        if self.errors.is_empty() { Ok(self.index) } else { Err(self.errors) }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
const LENGTH_BITS: u32 = LARGEST_ROW.count_ones();

/// Creates an index entry.
fn pack(start: u64, length: usize) -> u64 {
    start << LENGTH_BITS | length as u64
}

#[allow(clippy::cast_possible_truncation)]
fn unpack(entry: u64) -> (u64, usize) {
    (entry >> LENGTH_BITS, entry as usize & LARGEST_ROW)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;

    use super::*;

    fn all(rows: &Rows) -> Vec<Prompt<'_>> {
        (0..rows.count()).map(|index| rows.prompt_at(index).unwrap()).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    /// Loads the same file twice: once into memory, and once with its rows left on the disk.
    fn both(text: &str, format: &RowFormat) -> [Rows; 2] {
        let file = file(text);
        [u64::MAX, 0].map(|limit| Rows::load(file.path(), format.clone(), limit).unwrap())
    }

    #[test]
    fn a_file_on_the_disk_has_the_same_rows_as_in_memory() {
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
            let [in_memory, on_disk] = both(&text, &format);
            assert!(
                matches!(in_memory.bytes, Bytes::InMemory(_))
                    && matches!(on_disk.bytes, Bytes::OnDisk(_))
            );
            assert_eq!((in_memory.count(), on_disk.count()), (100_000, 100_000));
            assert_eq!(in_memory.prompt_at(4).unwrap(), Prompt::from(first));
            // The test compares all rows near the start and the end of the file, and some of the
            // others.
            let indexes = (0..20).chain((20..100_000).step_by(37)).chain(99_980..100_000);
            assert!(
                indexes
                    .into_iter()
                    .all(|index| in_memory.prompt_at(index) == on_disk.prompt_at(index))
            );
        }
    }

    #[test]
    fn the_objects_of_a_list_are_rows() {
        let text = "[{\"conversations\": [\n{\"from\": \"human\", \"value\": \"A\"}]},\n {\"conversations\": []},\
                    {\"conversations\": [{\"from\": \"human\", \"value\": \"B\"}]}]";
        for rows in both(text, &RowFormat::Sharegpt) {
            assert_eq!(all(&rows), ["A", "B"].map(Prompt::from));
        }
    }

    #[test]
    fn no_row_is_returned_from_a_file_that_has_changed_on_the_disk() {
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
            assert_eq!(rows.prompt_at(1).unwrap(), Prompt::from("two"));
            change(&mut File::options().append(true).open(temporary.path()).unwrap());
            let error = rows.prompt_at(1).unwrap_err();
            assert!(matches!(error, PromptUnavailable::Changed(_)), "{error}");
        }
        // llmload keeps the file open, so it can still read a deleted file.
        let temporary = file("one\ntwo\n");
        let rows = Rows::load(temporary.path(), RowFormat::Lines, 0).unwrap();
        drop(temporary);
        assert_eq!(rows.prompt_at(0).unwrap(), Prompt::from("one"));
    }

    #[test]
    fn errors_name_the_lines_of_the_first_wrong_rows() {
        let temporary = file(&format!("{{\"prompt\": \"a\"}}\n\n{}", "5\n".repeat(9)));
        let wrong = Rows::load(temporary.path(), RowFormat::Jsonl(None), 0).unwrap_err();
        let errors: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 6);
        assert!(errors[0].contains("line 3: not JSON in the expected form"), "{errors:?}");
        assert!(errors[5].contains("4 more"), "{errors:?}");
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
