//! The rows of a prompt file. A file of up to 64 MiB stays in memory. A larger file stays on the
//! disk, and llmload reads each row before it sends the row.
//!
//! llmload validates every row once, when it loads the file. If the file then changes on the disk,
//! its rows could be incomplete, so llmload sends no more of them.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::indexer::{Counts, RowIndexer, unpack};
use super::{LoadError, MAX_BYTES};
use crate::prompts::conversation::Conversation;
use crate::prompts::format::RowFormat;
use crate::prompts::row_splitter::RowSplitter;
use crate::protocol::Prompt;

/// The index of this number of rows needs 256 MiB.
const MAX_ROWS: usize = 1 << 25;
/// 1 TiB, because an index entry has 40 bits for an offset.
const MAX_FILE_BYTES: u64 = 1 << 40;
/// While llmload loads a file, it reads this number of bytes at once.
const READ_SIZE: usize = 1 << 18;

/// A reason why llmload cannot send a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptUnavailable {
    #[error(
        "`{0}` has changed since it was loaded; write new prompts to a new file, or restart llmload"
    )]
    Changed(String),
    #[error("`{path}` cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
}

/// The rows of one file that contain a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    format: RowFormat,
    /// One entry per row: 40 bits for its offset in the file, then 24 bits for its length.
    index: Arc<[u64]>,
    counts: Counts,
    bytes: Bytes,
    path: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bytes {
    InMemory(Arc<[u8]>),
    OnDisk(Arc<OnDisk>),
}

/// Two files on the disk are equal if they have the same version. `Rows` compares their paths.
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

/// If these properties differ, the content of a file has possibly changed.
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

/// # Errors
/// The file cannot be read, contains no prompts or has wrong rows. The first five wrong rows have
/// separate errors.
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

        let mut indexer = RowIndexer::new(&format, &name);
        let mut splitter = RowSplitter::new(format.is_json());
        let mut content = (version.length <= max_in_memory).then(Vec::new);
        let mut part = vec![0; READ_SIZE];
        let mut length = 0;
        loop {
            let count = file.read(&mut part).map_err(unreadable)?;
            let bytes = &part[..count];
            if length == 0 && super::is_utf16(bytes) {
                return Err(vec![LoadError::Utf16(name)]);
            }
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

    pub(in crate::prompts) fn count_without_text(&self) -> u64 {
        self.counts.without_text
    }

    /// The number of rows without a prompt, and of all rows.
    pub fn skipped(&self) -> (u64, u64) {
        (self.counts.skipped, self.counts.skipped + self.count())
    }

    /// The mean length of a prompt in bytes, without the other fields of its row.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_bytes(&self) -> f64 {
        self.counts.text_bytes as f64 / self.index.len().max(1) as f64
    }

    /// The highest possible length of the text of a row, in bytes. Does not read the row, because
    /// the length of the row is in the index.
    pub(in crate::prompts) fn most_bytes(&self, index: u64) -> u64 {
        let entry = usize::try_from(index).ok().and_then(|index| self.index.get(index));
        match entry {
            Some(entry) if !self.counts.has_expanded_text => {
                self.counts.longest_text.min(unpack(*entry).1 as u64)
            }
            _ => self.counts.longest_text,
        }
    }

    /// The highest output limit of all rows. `limit` is the output limit of rows that have none.
    pub(in crate::prompts) fn highest_limit(&self, limit: Option<u64>) -> Option<u64> {
        if self.counts.removed_limit.is_some() {
            None
        } else if self.counts.with_limit == self.requests() {
            Some(self.counts.highest_limit)
        } else {
            limit.map(|limit| limit.max(self.counts.highest_limit))
        }
    }

    /// As [`Prompts::removed_output_limit`](crate::prompts::Prompts::removed_output_limit).
    pub(in crate::prompts) fn removed_output_limit(&self) -> Option<(&str, &'static str)> {
        Some((&self.path, self.counts.removed_limit?))
    }

    /// The number of requests that send all rows once.
    fn requests(&self) -> u64 {
        if self.format == RowFormat::Conversations { self.counts.turns } else { self.count() }
    }

    /// The mean output limit. `limit` is the output limit of rows that have none.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_limit(&self, limit: f64) -> f64 {
        let (count, sum) = (self.counts.with_limit as f64, self.counts.limits as f64);
        let all = self.requests().max(1) as f64;
        (sum + (all - count) * limit) / all
    }

    /// Returns the prompt of a row. Can read from the disk.
    pub(in crate::prompts) fn prompt_at(
        &self,
        index: u64,
    ) -> Result<Prompt<'_>, PromptUnavailable> {
        // The row was valid when llmload loaded the file, so an invalid row means a changed file.
        let prompt = self.format.parse(self.text_at(index)?).ok().flatten();
        prompt.ok_or_else(|| self.changed())
    }

    /// Returns the conversation of a row. Can read from the disk.
    pub(in crate::prompts) fn conversation_at(
        &self,
        index: u64,
    ) -> Result<Conversation, PromptUnavailable> {
        let conversation = Conversation::parse(&self.text_at(index)?).ok().flatten();
        conversation.ok_or_else(|| self.changed())
    }

    /// The mean turns of a conversation, and the mean number of bytes that all its turns send.
    #[allow(clippy::cast_precision_loss)]
    pub(in crate::prompts) fn mean_session(&self) -> (f64, f64) {
        let all = self.count().max(1) as f64;
        (self.counts.turns as f64 / all, self.counts.turn_bytes as f64 / all)
    }

    fn text_at(&self, index: u64) -> Result<Cow<'_, str>, PromptUnavailable> {
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
        let text = match bytes {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.ok_or_else(|| self.changed())
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
        // Compare after the read, because the file can change during the read.
        let now = FileVersion::new(&disk.file.metadata().map_err(unreadable)?);
        if now == disk.version { Ok(bytes) } else { Err(self.changed()) }
    }

    fn changed(&self) -> PromptUnavailable {
        PromptUnavailable::Changed(self.path.to_string())
    }
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

    /// Loads a file twice: into memory, and with its rows on the disk.
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

    /// A row can have other fields, such as an answer, that llmload does not send.
    #[test]
    fn only_the_text_of_prompts_counts_for_the_mean_length() {
        let answer = "x".repeat(2000);
        let talk = |question: &str| {
            format!(
                "{{\"conversations\": [{{\"from\": \"human\", \"value\": \"{question}\"}}, \
                 {{\"from\": \"gpt\", \"value\": \"{answer}\"}}]}}\n"
            )
        };
        let talks = [talk("four"), talk(" "), talk("eight ch")].concat();
        for rows in both(&talks, &RowFormat::Sharegpt) {
            assert_eq!((rows.mean_bytes(), rows.skipped()), (6.0, (1, 3)));
        }
        let row = format!("{{\"prompt\": \"a\\nb\", \"answer\": \"{answer}\"}}\n");
        for rows in both(&row, &RowFormat::Jsonl(None)) {
            assert_eq!((rows.mean_bytes(), rows.skipped()), (3.0, (0, 1)));
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
        // llmload keeps the file open, so the rows of a deleted file stay readable.
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
