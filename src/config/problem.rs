//! The errors of the loader.
//!
//! A [`Mistake`] is a message with a remedy. A [`Problem`] also has a line, a column and the path
//! of a key. `config.rs` turns mistakes into problems, after all checks. No code depends on the
//! text of a message.

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::tree::NodeId;

/// A place in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1. 0 if the problem is about the complete file.
    pub line: usize,
    /// The column in characters, from 1. 0 if the line is 0.
    pub column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The text cannot be read as one YAML document of an allowed size.
    Syntax,
    /// A key that is not allowed in its map, and resembles no allowed key.
    UnknownKey,
    /// A key that is not allowed in its map, and is probably a misspelled allowed key.
    MisspelledKey,
    /// A required key or entry that does not exist.
    Missing,
    /// Any other value that llmload cannot use.
    Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub kind: ProblemKind,
    /// A description of what is wrong, without a full stop.
    pub message: String,
    /// The way to fix the mistake, in the imperative. `None` if the message already contains it, or
    /// if llmload knows none.
    pub remedy: Option<String>,
}

impl Mistake {
    /// Creates a mistake of the kind [`ProblemKind::Value`].
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Mistake {
        Mistake { remedy: Some(remedy.into()), ..Mistake::without_remedy(message) }
    }

    /// Creates a mistake without a remedy, such as the error of a parser.
    pub fn without_remedy(message: impl Into<String>) -> Mistake {
        Mistake { kind: ProblemKind::Value, message: message.into(), remedy: None }
    }

    #[must_use]
    pub fn of_kind(self, kind: ProblemKind) -> Mistake {
        Mistake { kind, ..self }
    }

    /// Puts a place before the message, such as the line of a trace file.
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

/// Writes message and remedy as one text.
fn write_joined(f: &mut fmt::Formatter<'_>, message: &str, remedy: Option<&str>) -> fmt::Result {
    f.write_str(message)?;
    remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MistakeAt {
    pub node: NodeId,
    pub mistake: Mistake,
}

/// The mistakes so far. It is a `RefCell` because the reader and the validator share the list.
pub type Mistakes = RefCell<Vec<MistakeAt>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(skip)]
    pub kind: ProblemKind,
    /// The line, from 1. 0 if the problem is about the complete file.
    pub line: usize,
    /// The column in characters, from 1. 0 if the line is 0.
    pub column: usize,
    /// The path of the key, such as `scenarios.baseline.schedule[1].ramp.to`. Empty if the problem
    /// is about the complete file.
    pub path: String,
    pub message: String,
    /// In JSON, no remedy is an empty string.
    #[serde(serialize_with = "empty_if_none")]
    pub remedy: Option<String>,
}

// serde requires a reference to the `Option`.
#[allow(clippy::ref_option)]
fn empty_if_none<S: Serializer>(remedy: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(remedy.as_deref().unwrap_or_default())
}

impl Problem {
    pub(super) fn new(position: Position, path: String, mistake: Mistake) -> Problem {
        // A message can quote any character of the file, and a control character would act on a
        // terminal.
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

/// The error of an invalid configuration: all its problems, in the order of the text.
///
/// The error prints one problem per line, as compilers do:
/// `llmload.yml:12:9: scenarios.baseline.rate: …`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The name of the file, as the user wrote it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
    /// The files that the loader read or tried to read. A change to one of these files can fix the
    /// problems, so a waiting daemon watches them.
    pub files: Vec<PathBuf>,
}

impl Invalid {
    pub(super) fn new(file: &str, problems: Vec<Problem>) -> Invalid {
        Invalid { file: file.to_owned(), problems, files: Vec::new() }
    }

    /// Creates the error for one mistake of the complete file.
    pub(super) fn about_file(file: &str, mistake: Mistake) -> Invalid {
        Invalid::new(file, vec![Problem::new(Position::default(), String::new(), mistake)])
    }
}

/// Omits `files`, because a user can write a secret where a file name belongs.
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

/// Formats each problem as one line that begins with the name of the file.
pub(super) fn problem_lines(file: &str, problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let gap = if problem.line > 0 { ":" } else { ": " };
        format!("{file}{gap}{problem}")
    };
    problems.iter().map(line).collect()
}
