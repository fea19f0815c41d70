//! Validates the rows of a file, and builds the index of their positions.

use super::LoadError;
use crate::prompts::conversation::Conversation;
use crate::prompts::format::{RowError, RowFormat};
use crate::prompts::row_splitter::{LARGEST_ROW, RawRow, SplitError};
use crate::protocol::prompt::Message;

/// llmload reports this number of wrong rows with their lines, and counts the others.
const MAX_REPORTED: usize = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    /// Rows with a limit of output tokens.
    pub(super) with_limit: u64,
    /// The sum of these limits.
    pub(super) limits: u64,
    /// The highest of these limits.
    pub(super) highest_limit: u64,
    /// The field with which a row removes the output limit of the scenario.
    pub(super) removed_limit: Option<&'static str>,
    /// The length of the longest text, in bytes.
    pub(super) longest_text: u64,
    /// True if a text is longer than its row, because a token id counts as four bytes.
    pub(super) has_expanded_text: bool,
    /// Rows to which llmload cannot add a nonce, because they have no text.
    pub(super) without_text: u64,
    /// The length of the text of all prompts, in bytes.
    pub(super) text_bytes: u64,
    /// The turns of all conversations.
    pub(super) turns: u64,
    /// The length of the text that all turns send, in bytes. Each turn also sends the text of the
    /// earlier turns.
    pub(super) turn_bytes: u64,
    /// Valid rows without a prompt.
    pub(super) skipped: u64,
}

pub(super) struct RowIndexer<'a> {
    format: &'a RowFormat,
    path: &'a str,
    pub(super) index: Vec<u64>,
    pub(super) counts: Counts,
    errors: Vec<LoadError>,
    /// The number of wrong rows that are not in `errors`.
    more_errors: usize,
}

impl<'a> RowIndexer<'a> {
    pub(super) fn new(format: &'a RowFormat, path: &'a str) -> RowIndexer<'a> {
        let (index, errors) = (Vec::new(), Vec::new());
        RowIndexer { format, path, index, counts: Counts::default(), errors, more_errors: 0 }
    }

    pub(super) fn add(&mut self, row: RawRow<'_>) {
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
        if *self.format == RowFormat::Conversations {
            return match Conversation::parse(text) {
                Ok(Some(conversation)) => {
                    self.index.push(pack(start, text.len()));
                    self.count_conversation(&conversation, text.len() as u64);
                }
                Ok(None) => self.counts.skipped += 1,
                Err(error) => self.add_row_error(row.line, error),
            };
        }
        match self.format.parse(text.into()) {
            Ok(Some(prompt)) => {
                self.index.push(pack(start, text.len()));
                if let Some(limit) = prompt.own_output_limit() {
                    self.counts.with_limit += 1;
                    self.counts.limits = self.counts.limits.saturating_add(limit);
                    self.counts.highest_limit = self.counts.highest_limit.max(limit);
                }
                let removed = || prompt.removed_output_limit();
                self.counts.removed_limit = self.counts.removed_limit.or_else(removed);
                let bytes = prompt.content.text_bytes();
                self.counts.text_bytes += bytes;
                self.counts.longest_text = self.counts.longest_text.max(bytes);
                self.counts.has_expanded_text |= bytes > text.len() as u64;
                self.counts.without_text += u64::from(!prompt.has_first_text());
            }
            Ok(None) => self.counts.skipped += 1,
            Err(error) => self.add_row_error(row.line, error),
        }
    }

    fn count_conversation(&mut self, conversation: &Conversation, row_bytes: u64) {
        let counts = &mut self.counts;
        let mut bytes = 0;
        for turn in &conversation.turns {
            bytes += turn.messages.iter().map(Message::text_bytes).sum::<u64>();
            counts.turns += 1;
            counts.turn_bytes += bytes;
            bytes += turn.recorded.iter().map(Message::text_bytes).sum::<u64>();
            if let Some(limit) = turn.max_tokens {
                let limit = u64::from(limit.get());
                counts.with_limit += 1;
                counts.limits = counts.limits.saturating_add(limit);
                counts.highest_limit = counts.highest_limit.max(limit);
            }
        }
        counts.text_bytes += bytes;
        counts.longest_text = counts.longest_text.max(bytes);
        counts.has_expanded_text |= bytes > row_bytes;
    }

    fn add_row_error(&mut self, first_line: usize, error: RowError) {
        let RowError { line, problem, remedy } = error;
        let (path, line) = (self.path.to_owned(), first_line + line);
        self.add_error(LoadError::Json { path, line, problem, remedy });
    }

    fn add_error(&mut self, error: LoadError) {
        if self.errors.len() < MAX_REPORTED {
            self.errors.push(error);
        } else {
            self.more_errors += 1;
        }
    }

    /// Returns all errors, with `error` as the last. After it, the splitter can find no more rows.
    pub(super) fn split_failed(&mut self, error: &SplitError) -> Vec<LoadError> {
        let mut errors = std::mem::take(&mut self.errors);
        errors.push(LoadError::Json {
            path: self.path.to_owned(),
            line: error.line,
            problem: error.problem.to_owned(),
            remedy: error.remedy.to_owned(),
        });
        errors
    }

    pub(super) fn finish(mut self) -> Result<Vec<u64>, Vec<LoadError>> {
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

fn pack(start: u64, length: usize) -> u64 {
    start << LENGTH_BITS | length as u64
}

#[allow(clippy::cast_possible_truncation)]
pub(super) fn unpack(entry: u64) -> (u64, usize) {
    (entry >> LENGTH_BITS, entry as usize & LARGEST_ROW)
}
