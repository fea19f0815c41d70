//! Validates the archive of failed requests.

use std::ops::RangeInclusive;

use super::Validator;
use crate::config::document::{self, KeptPrompts};
use crate::config::field::{Field, Located};
use crate::config::scalar::Size;
use crate::config::size::HumanSize;
use crate::plan::{self, FailureArchive};

const DEFAULT_BYTES: u64 = 256 << 20;
/// A smaller archive has no room for the share of each failure class.
const BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;

impl Validator<'_> {
    /// Returns the archive. `None` means that the file has no archive, or that it has a mistake.
    pub(super) fn failures(&self, field: &Field<document::Failures>) -> Option<FailureArchive> {
        let Located { node, value: keys } = field.present()?;
        let dir = match &keys.dir {
            Field::Absent => {
                self.missing(
                    *node,
                    "`dir` is missing",
                    "write the folder of the archive, such as `dir: failures`",
                );
                None
            }
            Field::Invalid(_) => None,
            Field::Present(located) if located.value.trim().is_empty() => {
                self.problem(
                    located.node,
                    "the folder has no name",
                    "write the folder of the archive, such as `dir: failures`",
                );
                None
            }
            Field::Present(located) => Some(self.base.join(&located.value)),
        };
        let max_bytes = self.archive_size(&keys.max_bytes);
        let prompts = match &keys.prompts {
            Field::Absent => Some(plan::KeptPrompts::None),
            Field::Invalid(_) => None,
            Field::Present(located) => Some(match located.value {
                KeptPrompts::Full => plan::KeptPrompts::Full,
                KeptPrompts::Hash => plan::KeptPrompts::Hash,
                KeptPrompts::None => plan::KeptPrompts::None,
            }),
        };
        Some(FailureArchive { dir: dir?, max_bytes: max_bytes?, prompts: prompts? })
    }

    fn archive_size(&self, field: &Field<Size>) -> Option<u64> {
        match field {
            Field::Absent => Some(DEFAULT_BYTES),
            Field::Invalid(_) => None,
            Field::Present(located) if BYTES.contains(&located.value.0) => Some(located.value.0),
            Field::Present(located) => {
                let (low, high) = (HumanSize(*BYTES.start()), HumanSize(*BYTES.end()));
                self.problem(
                    located.node,
                    format!("{} is out of range", HumanSize(located.value.0)),
                    format!("write a size from {low} to {high}"),
                );
                None
            }
        }
    }
}
