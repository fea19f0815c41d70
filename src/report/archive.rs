//! The paragraph about the archive of failed requests, which is beside the report.

use serde::{Deserialize, Serialize};

use super::layout::Block;
use crate::archive::{ArchiveCounts, FILE_NAME};
use crate::check::numbers::count;

/// The numbers of failed requests in the archive of a run, and of those that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveReport {
    pub archived: u64,
    /// These failures were above the limits of the archive, or could not be written.
    pub not_archived: u64,
}

impl ArchiveReport {
    /// Returns `None` if no request failed, because then no file exists.
    pub fn new(counts: &ArchiveCounts) -> Option<ArchiveReport> {
        let (archived, not_archived) =
            (counts.archived(), counts.lost().map(|(_, lost)| lost).sum());
        (archived + not_archived > 0).then_some(ArchiveReport { archived, not_archived })
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn block(self) -> Block {
        let ArchiveReport { archived, not_archived } = self;
        let all = count((archived + not_archived) as f64);
        let number = match (archived, not_archived) {
            (1, 0) => "the failed request".to_owned(),
            (_, 0) => format!("all {all} failed requests"),
            _ => format!("{} of {all} failed requests", count(archived as f64)),
        };
        let text = format!(
            "{FILE_NAME} contains {number}. `llmload failures DIR`, with the folder of this report, \
             lists them. With `--show 1`, it shows the first."
        );
        Block::Line { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paragraph_states_how_many_failures_the_file_has() {
        let text = |archived, not_archived| match (ArchiveReport { archived, not_archived }).block()
        {
            Block::Line { text } => text,
            other => unreachable!("{other:?}"),
        };
        assert!(text(1, 0).starts_with("failures.jsonl contains the failed request. "));
        assert!(text(12, 0).contains("contains all 12 failed requests."));
        assert!(text(1100, 1900).contains("contains 1,100 of 3,000 failed requests."));
        assert_eq!(ArchiveReport::new(&ArchiveCounts::default()), None);
    }
}
