//! The YAML file: read as a document, checked as a whole, and turned into a [`Plan`] or into every
//! problem it has.
//!
//! `yaml` makes a tree of the text, `variables` fills `${NAME}`, `reader` reads the tree as the
//! types of `document`, `validate` says what they mean together. None of them stops at the first
//! mistake; this file looks up where each of them stands and puts them in the order of the text.

mod command_line;
mod document;
mod dotenv;
mod duration;
mod field;
mod hints;
mod reader;
mod scalar;
mod shard;
mod trace;
mod tree;
mod validate;
mod variables;
mod yaml;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use command_line::{UrlOptions, plan_from_url, simulator_from_options};
pub use duration::{HumanDuration, read_duration};
pub use hints::url_with_scheme;
pub use shard::divide;

use crate::plan::Plan;
use crate::random::Fnv;
use crate::schedule::Shard;
use reader::{Finding, Findings};
use tree::{NodeId, Tree, Value};
use variables::Variables;
use yaml::Position;

/// The most problems that are told at once. Who made more will want to start over.
const MAX_PROBLEMS: usize = 100;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// From 1; 0 where there is no text to point at.
    pub line: usize,
    /// In characters, from 1; 0 where there is no text to point at.
    pub column: usize,
    /// The key, such as `scenarios.baseline.schedule[1].ramp.to`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub remedy: String,
}

impl Problem {
    fn new(position: Position, path: String, text: &str) -> Problem {
        // What is quoted from the file may hold anything, and this may be printed to a terminal.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (message, remedy) = text.split_once("; ").unwrap_or((&text, ""));
        Problem {
            line: position.line,
            column: position.column,
            path,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
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
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Why there is no plan: everything that is wrong with a configuration, in the order of its text.
///
/// Displayed one problem a line, as compilers do: `llmload.yml:12:9: scenarios.baseline.rate: …`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The file as it was named.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
    /// The files that were read, or could not be: a change of one of them may mend it.
    pub files: Vec<PathBuf>,
}

impl Invalid {
    fn of(file: &str, problems: Vec<Problem>) -> Invalid {
        Invalid { file: file.to_owned(), problems, files: Vec::new() }
    }

    fn whole(file: &str, text: &str) -> Invalid {
        Invalid::of(file, vec![Problem::new(Position::default(), String::new(), text)])
    }
}

/// Without the files: what was written as the name of one may be the secret itself.
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
        f.write_str(&lines(&self.file, &self.problems).join("\n"))
    }
}

/// One line for each: the file as it was named, and the problem.
fn lines(file: &str, problems: &[Problem]) -> Vec<String> {
    let line = |problem: &Problem| {
        let gap = if problem.line > 0 { ":" } else { ": " };
        format!("{file}{gap}{problem}")
    };
    problems.iter().map(line).collect()
}

impl std::error::Error for Invalid {}

/// Reads a file. Paths in it are relative to its folder; a `.env` there fills variables that `env`
/// does not know.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Invalid> {
    let name = path.display().to_string();
    let base = path.parent().unwrap_or(Path::new(""));
    let itself = [path.to_owned(), base.join(".env")];
    let text = read(path).map_err(|error| {
        let message = if error.kind() == std::io::ErrorKind::NotFound {
            "there is no such file".to_owned()
        } else {
            format!("the file cannot be read: {error}; name a readable file")
        };
        Invalid::whole(&name, &message)
    });
    match text.and_then(|text| parse(&text, &name, Some(base), env)) {
        Ok(mut plan) => {
            plan.files.extend(itself);
            Ok(plan)
        }
        Err(mut invalid) => {
            invalid.files.extend(itself);
            Err(invalid)
        }
    }
}

/// Of what stands in files, and of which of them cannot be read: it changes when that does. Of large
/// files only their size and time count.
pub fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hash = Fnv::default();
    for file in files {
        let about = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file);
        let length = about.as_ref().map_or(u64::MAX, std::fs::Metadata::len);
        hash.add(&length.to_le_bytes());
        if length <= yaml::MAX_BYTES as u64 {
            // What was there a moment ago and is gone now has changed.
            hash.add(&std::fs::read(file).unwrap_or_default());
        } else if let Some(modified) = about.and_then(|about| about.modified().ok()) {
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            hash.add(&since.as_nanos().to_le_bytes());
        }
    }
    hash.0
}

/// Reads a text that came from `origin`. Without a `base` folder, paths are relative to the
/// current one and no `.env` is read.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Invalid> {
    let (mut plan, warnings) = parse_with_warnings(text, origin, base, env)?;
    plan.warnings = lines(origin, &warnings);
    Ok(plan)
}

/// A plan, and beside it the warnings, which know their places still.
fn parse_with_warnings(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Plan, Vec<Problem>), Invalid> {
    // Some editors put a byte order mark first; the parser takes it for content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut tree, wrong) = yaml::read(text).map_err(|malformed| {
        Invalid::of(
            origin,
            vec![Problem::new(malformed.position, String::new(), &malformed.message)],
        )
    })?;
    let variables =
        Variables::new(env, base).map_err(|message| Invalid::whole(origin, &message))?;
    let masked_source = masked(&tree);

    let found = Findings::default();
    found.borrow_mut().extend(wrong.into_iter().map(|(node, message)| Finding { node, message }));
    found.borrow_mut().extend(variables.fill(&mut tree));
    let source_hash = tree.hash();
    let outcome = validate::validate(&tree, &variables, base.unwrap_or(Path::new("")), &found);

    let found = found.into_inner();
    if !found.is_empty() {
        return Err(Invalid {
            files: outcome.files,
            ..Invalid::of(origin, problems(text, &tree, found))
        });
    }
    let warnings = problems(text, &tree, outcome.warnings);
    let plan = Plan {
        seed: outcome.seed,
        scenarios: outcome.scenarios,
        buckets: outcome.buckets,
        warnings: Vec::new(),
        masked_source,
        source_hash,
        files: outcome.files,
        shard: Shard::ALL,
    };
    Ok((plan, warnings))
}

/// The JSON Schema of the file, short and long form.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(document::Document).to_value()
}

fn read(path: &Path) -> std::io::Result<String> {
    // A pipe or a device could keep the reader for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    // One byte more than allowed is enough to see that it is too large.
    std::fs::File::open(path)?.take(yaml::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Findings with their places, in the order of the text.
fn problems(text: &str, tree: &Tree, mut found: Vec<Finding>) -> Vec<Problem> {
    // The order of nodes is the order of the text, so that the first ones are kept.
    found.sort_by_key(|finding| tree.anchor(finding.node));
    found.dedup();
    let more = found.len().saturating_sub(MAX_PROBLEMS);
    found.truncate(MAX_PROBLEMS);
    let mut problems: Vec<Problem> = found
        .iter()
        .map(|finding| {
            let position = yaml::locate(text, tree.anchor(finding.node));
            let message = as_written(tree, finding);
            Problem::new(position, tree.path(finding.node), &message)
        })
        .collect();
    // Aliases stand where they were defined, so the text's order may still differ a little.
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if more > 0
        && let Some(last) = problems.last()
    {
        let position = Position { line: last.line, column: last.column };
        problems.push(Problem::new(position, String::new(), &format!("and {more} more problems")));
    }
    problems
}

/// Messages quote what they cannot take. Where a variable filled it, it may be a secret: then what
/// was written is quoted instead.
fn as_written(tree: &Tree, finding: &Finding) -> String {
    let mut message = finding.message.clone();
    if let Some(tree::Text { written, filled: Some(filled) }) = tree.text(finding.node) {
        let written = tree::excerpt(written);
        for text in [filled.text.as_str(), filled.text.trim()] {
            for text in [text.to_owned(), tree::excerpt(text)] {
                message = message.replace(&format!("`{text}`"), &format!("`{written}`"));
                // A value this short is no secret, and might be part of our own words.
                if text.len() >= 8 {
                    message = message.replace(&text, &written);
                }
            }
        }
    }
    message
}

/// The file for everybody's eyes: the texts of headers and queries masked, whatever they are, and
/// those under a name among the extra fields of a request that looks like a secret's. No number and
/// no truth value is a secret.
fn masked(tree: &Tree) -> String {
    let mut hidden = std::collections::HashSet::new();
    let mut visit = vec![(NodeId::ROOT, Place::Elsewhere)];
    while let Some((node, place)) = visit.pop() {
        match tree.value(node) {
            Value::List(items) => visit.extend(items.iter().map(|item| (*item, place))),
            Value::Map(entries) => {
                visit.extend(
                    entries.iter().map(|(key, value)| (*value, place.under(tree.key(*key)))),
                );
            }
            Value::Text(_) if matches!(place, Place::ValueSource | Place::Secret) => {
                _ = hidden.insert(node)
            }
            _ => {}
        }
    }
    yaml::write(tree, &|node| hidden.contains(&node))
}

/// What stands where, as far as secrets go.
#[derive(Clone, Copy)]
enum Place {
    Elsewhere,
    /// Headers or a query, by name.
    ValueSources,
    /// The value of one of them; as a map, where it is read.
    ValueSource,
    /// The extra fields of a request, at any depth.
    Extra,
    /// What stands there under a name of a secret, at any depth.
    Secret,
}

impl Place {
    fn under(self, key: &str) -> Place {
        match (self, key) {
            (Place::ValueSources, _) => Place::ValueSource,
            (Place::Secret, _) => Place::Secret,
            (Place::Extra, _) if validate::is_sensitive(key) => Place::Secret,
            (Place::Extra, _) | (Place::Elsewhere, "extra") => Place::Extra,
            (Place::Elsewhere, "headers" | "query") => Place::ValueSources,
            (Place::ValueSource | Place::Elsewhere, _) => Place::Elsewhere,
        }
    }
}
