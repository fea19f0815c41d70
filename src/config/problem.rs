//! A problem of a configuration as a value: its kind, place, message and remedy are separate
//! fields.
//!
//! The parts of the loader create a [`Mistake`] and attach it to a node of the tree. Only
//! `config.rs` turns that into a [`Problem`] with line and column, and only [`fmt::Display`] joins
//! message and remedy. Nothing else in the loader depends on the text of a message.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::tree::NodeId;
use super::yaml::Position;

/// The kind of a problem, for code that treats some kinds differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The text cannot be read as one YAML document of an allowed size.
    Syntax,
    /// A key that its map does not have, and that resembles none of the map's keys.
    UnknownKey,
    /// An unknown key that is probably a typing error, because it resembles a known one.
    MisspelledKey,
    /// A key or an entry that must exist and does not.
    Missing,
    /// Any value that cannot be used.
    Value,
}

/// A message with its remedy. The place is added later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The kind; [`ProblemKind::Value`] unless [`Mistake::of_kind`] set another.
    pub kind: ProblemKind,
    /// The problem, without a full stop.
    pub message: String,
    /// How to fix it, in the imperative; `None` if the message already contains that.
    pub remedy: Option<String>,
}

impl Mistake {
    /// Creates a mistake about a value.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        Mistake { remedy: Some(remedy.into()), ..Mistake::without_remedy(message) }
    }

    /// Creates a mistake that has no remedy of its own, such as a parser's error.
    pub fn without_remedy(message: impl Into<String>) -> Mistake {
        Mistake { kind: ProblemKind::Value, message: message.into(), remedy: None }
    }

    /// Sets the kind.
    #[must_use]
    pub fn of_kind(self, kind: ProblemKind) -> Mistake {
        Mistake { kind, ..self }
    }

    /// Puts a place inside another file in front of the message.
    #[must_use]
    pub fn within(self, place: &str) -> Mistake {
        Mistake { message: format!("{place}: {}", self.message), ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_joined(f, &self.message, self.remedy.as_deref())
    }
}

impl std::error::Error for Mistake {}

/// The one place that joins message and remedy.
fn write_joined(f: &mut fmt::Formatter<'_>, message: &str, remedy: Option<&str>) -> fmt::Result {
    f.write_str(message)?;
    remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
}

/// A mistake and its node, before line and column are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MistakeAt {
    /// The node that has the mistake.
    pub node: NodeId,
    /// Message and remedy.
    pub mistake: Mistake,
}

/// The mistakes found so far. Shared, because the reader and the validator both add to it.
pub type Mistakes = RefCell<Vec<MistakeAt>>;

/// One problem of a configuration, with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The kind. It is not part of the JSON that `check --json` prints.
    #[serde(skip)]
    pub kind: ProblemKind,
    /// From 1; 0 if there is no text to point at.
    pub line: usize,
    /// In characters, from 1; 0 if there is no text to point at.
    pub column: usize,
    /// The key, such as `scenarios.baseline.schedule[1].ramp.to`; empty for the whole file.
    pub path: String,
    /// The problem.
    pub message: String,
    /// How to fix it. In JSON an absent remedy is an empty string.
    #[serde(serialize_with = "empty_if_none")]
    pub remedy: Option<String>,
}

// serde passes a reference to the field.
#[allow(clippy::ref_option)]
fn empty_if_none<S: Serializer>(remedy: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(remedy.as_deref().unwrap_or_default())
}

impl Problem {
    /// Places a mistake.
    pub(super) fn new(position: Position, path: String, mistake: Mistake) -> Problem {
        // A message quotes the file, which may hold anything, and may be printed to a terminal.
        let safe = |text: String| -> String {
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        Problem {
            kind: mistake.kind,
            line: position.line,
            column: position.column,
            path,
            message: safe(mistake.message),
            remedy: mistake.remedy.map(safe),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write_joined(f, &self.message, self.remedy.as_deref())
    }
}

/// All problems of a configuration that gives no plan, in the order of its text.
///
/// It displays one problem per line, as compilers do:
/// `llmload.yml:12:9: scenarios.baseline.rate: …`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The file, as the user named it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
    /// The files that the loader read, or could not read. A change of one of them may fix the
    /// problems, so a daemon that waits for a valid configuration watches them.
    pub files: Vec<PathBuf>,
}

impl Invalid {
    pub(super) fn new(file: &str, problems: Vec<Problem>) -> Invalid {
        Invalid { file: file.to_owned(), problems, files: Vec::new() }
    }

    /// A mistake that concerns the whole file.
    pub(super) fn whole_file(file: &str, mistake: Mistake) -> Invalid {
        Invalid::new(file, vec![Problem::new(Position::default(), String::new(), mistake)])
    }
}

/// Omits `files`, because a user may have put a secret in the place of the name of a file.
impl fmt::Debug for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invalid { file, problems, .. } = self;
        f.debug_struct("Invalid")
            .field("file", file)
            .field("problems", problems)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&problem_lines(&self.file, &self.problems).join("\n"))
    }
}

impl std::error::Error for Invalid {}

/// Formats each problem as one line, with the file in front.
pub(super) fn problem_lines(file: &str, problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let gap = if problem.line > 0 { ":" } else { ": " };
        format!("{file}{gap}{problem}")
    };
    problems.iter().map(line).collect()
}
