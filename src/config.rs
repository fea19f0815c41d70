//! The YAML configuration file: reads it, checks it as a whole, and returns a [`Plan`] or every
//! problem of the file.
//!
//! The steps, each in a module: `yaml` builds a tree from the text, `variables` fills `${NAME}`,
//! `reader` reads the tree as the types of `document`, and `validate` checks what the values mean
//! together. No step stops at the first mistake. This module looks up the place of each mistake
//! and sorts the problems in the order of the text.

mod command_line;
mod document;
mod dotenv;
mod duration;
mod field;
mod hints;
mod problem;
mod reader;
mod scalar;
mod shard;
mod trace;
mod tree;
mod validate;
mod variables;
mod yaml;

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use command_line::{UrlOptions, plan_from_url, simulator_from_options};
pub use duration::{HumanDuration, read_duration};
pub use hints::url_with_scheme;
pub use problem::{Invalid, Mistake, Problem, ProblemKind};
pub use shard::divide;

use crate::plan::Plan;
use crate::random::Fnv;
use crate::schedule::Shard;
use problem::{MistakeAt, Mistakes, problem_lines};
use tree::{NodeId, Tree, Value};
use variables::Variables;
use yaml::Position;

/// The highest number of problems that are reported at once. Nobody reads more of them.
const MAX_PROBLEMS: usize = 100;

/// Reads a file. Paths in it are relative to its folder. A `.env` in that folder sets the variables
/// that `env` does not have.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Invalid> {
    let name = path.display().to_string();
    let base = path.parent().unwrap_or(Path::new(""));
    let own_files = [path.to_owned(), base.join(".env")];
    let text = read(path).map_err(|error| {
        let mistake = if error.kind() == std::io::ErrorKind::NotFound {
            Mistake::without_remedy("there is no such file")
        } else {
            Mistake::new(format!("the file cannot be read: {error}"), "name a readable file")
        };
        Invalid::whole_file(&name, mistake)
    });
    match text.and_then(|text| parse(&text, &name, Some(base), env)) {
        Ok(mut plan) => {
            plan.files.extend(own_files);
            Ok(plan)
        }
        Err(mut invalid) => {
            invalid.files.extend(own_files);
            Err(invalid)
        }
    }
}

/// Returns a hash that changes when the content of one of the files changes, or when a file becomes
/// readable or unreadable. For a file larger than 1 MiB it covers only size and modification time.
pub fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hash = Fnv::default();
    for file in files {
        let metadata = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file);
        let length = metadata.as_ref().map_or(u64::MAX, std::fs::Metadata::len);
        hash.update(&length.to_le_bytes());
        if length <= yaml::MAX_BYTES as u64 {
            // A file that disappears between these two calls counts as changed.
            hash.update(&std::fs::read(file).unwrap_or_default());
        } else if let Some(modified) = metadata.and_then(|metadata| metadata.modified().ok()) {
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            hash.update(&since.as_nanos().to_le_bytes());
        }
    }
    hash.0
}

/// Reads a text; messages call it `origin`. Without a `base` folder, paths are relative to the
/// current folder and no `.env` is read.
///
/// # Errors
/// All problems of the text.
pub fn parse(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Invalid> {
    let (mut plan, warnings) = parse_with_warnings(text, origin, base, env)?;
    plan.warnings = problem_lines(origin, &warnings);
    Ok(plan)
}

/// Returns a plan without its warnings, and the warnings with their places.
fn parse_with_warnings(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Plan, Vec<Problem>), Invalid> {
    // Some editors write a byte order mark first, which the YAML parser takes for content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut tree, mistakes_of_text) = yaml::read(text).map_err(|malformed| {
        let problem = Problem::new(malformed.position, String::new(), malformed.mistake);
        Invalid::new(origin, vec![problem])
    })?;
    let variables =
        Variables::new(env, base).map_err(|mistake| Invalid::whole_file(origin, mistake))?;
    // Before variables are filled, so that no value of a variable can appear in it.
    let masked_source = mask_secrets(&tree);

    let mistakes = Mistakes::default();
    mistakes.borrow_mut().extend(mistakes_of_text);
    mistakes.borrow_mut().extend(variables.fill(&mut tree));
    let source_hash = tree.hash();
    let validated = validate::validate(&tree, &variables, base.unwrap_or(Path::new("")), &mistakes);

    let mistakes = mistakes.into_inner();
    if !mistakes.is_empty() {
        let problems = place(text, &tree, mistakes);
        return Err(Invalid { files: validated.files, ..Invalid::new(origin, problems) });
    }
    let warnings = place(text, &tree, validated.warnings);
    let plan = Plan {
        seed: validated.seed,
        scenarios: validated.scenarios,
        buckets: validated.buckets,
        warnings: Vec::new(),
        masked_source,
        source_hash,
        files: validated.files,
        shard: Shard::ALL,
    };
    Ok((plan, warnings))
}

/// Returns the JSON Schema of the file, in its short and its long form.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(document::Document).to_value()
}

fn read(path: &Path) -> std::io::Result<String> {
    // Reading a pipe or a device might never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    // One byte more than allowed is enough to detect that the file is too large.
    std::fs::File::open(path)?.take(yaml::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Looks up the place of each mistake and returns the problems in the order of the text.
fn place(text: &str, tree: &Tree, mut mistakes: Vec<MistakeAt>) -> Vec<Problem> {
    // Nodes are numbered in the order of the text, so this keeps the first problems.
    mistakes.sort_by_key(|found| tree.anchor(found.node));
    mistakes.dedup();
    let more = mistakes.len().saturating_sub(MAX_PROBLEMS);
    mistakes.truncate(MAX_PROBLEMS);
    let mut problems: Vec<Problem> = mistakes
        .into_iter()
        .map(|MistakeAt { node, mistake }| {
            let position = yaml::locate(text, tree.anchor(node));
            let mistake = without_filled_values(tree, node, mistake);
            Problem::new(position, tree.path(node), mistake)
        })
        .collect();
    // The nodes of an alias have the position of its anchor, so the order may still differ a bit.
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if more > 0
        && let Some(last) = problems.last()
    {
        let position = Position { line: last.line, column: last.column };
        let mistake = Mistake::without_remedy(format!("and {more} more problems"));
        problems.push(Problem::new(position, String::new(), mistake));
    }
    problems
}

/// Replaces the value of a variable in a message by the text that the file has there.
///
/// Messages quote the value that they reject. If a variable filled it, it may be a secret.
fn without_filled_values(tree: &Tree, node: NodeId, mistake: Mistake) -> Mistake {
    let Some(tree::Text { written, filled: Some(filled) }) = tree.text(node) else {
        return mistake;
    };
    let written = tree::excerpt(written);
    let unfill = |mut text: String| {
        for value in [filled.text.as_str(), filled.text.trim()] {
            for value in [value.to_owned(), tree::excerpt(value)] {
                text = text.replace(&format!("`{value}`"), &format!("`{written}`"));
                // A shorter value is no secret, and may be part of llmload's own text.
                if value.len() >= 8 {
                    text = text.replace(&value, &written);
                }
            }
        }
        text
    };
    Mistake {
        message: unfill(mistake.message),
        remedy: mistake.remedy.map(unfill),
        kind: mistake.kind,
    }
}

/// Returns the file as everybody may see it. It masks each text among headers and queries, and
/// each text among the extra fields of a request that has a name like a secret's. Numbers and
/// truth values are never secrets.
fn mask_secrets(tree: &Tree) -> String {
    let mut masked = HashSet::new();
    let mut visit = vec![(NodeId::ROOT, Surroundings::Ordinary)];
    while let Some((node, surroundings)) = visit.pop() {
        match tree.value(node) {
            Value::List(items) => visit.extend(items.iter().map(|item| (*item, surroundings))),
            Value::Map(entries) => visit.extend(
                entries.iter().map(|(key, value)| (*value, surroundings.below(tree.key(*key)))),
            ),
            Value::Text(_) if surroundings.are_secret() => _ = masked.insert(node),
            _ => {}
        }
    }
    yaml::write(tree, &|node| masked.contains(&node))
}

/// The part of a file that a value is in, as far as secrets are concerned.
#[derive(Clone, Copy)]
enum Surroundings {
    Ordinary,
    /// The map of headers, or of query parameters.
    ValueSources,
    /// The value of one of them. If it is a map, it only names a variable or a file.
    ValueSource,
    /// The extra fields of a request, at any depth.
    Extra,
    /// The value of an extra field with a name like a secret's, at any depth.
    Secret,
}

impl Surroundings {
    fn are_secret(self) -> bool {
        matches!(self, Surroundings::ValueSource | Surroundings::Secret)
    }

    fn below(self, key: &str) -> Surroundings {
        match (self, key) {
            (Surroundings::ValueSources, _) => Surroundings::ValueSource,
            (Surroundings::Secret, _) => Surroundings::Secret,
            (Surroundings::Extra, _) if validate::is_sensitive(key) => Surroundings::Secret,
            (Surroundings::Extra, _) | (Surroundings::Ordinary, "extra") => Surroundings::Extra,
            (Surroundings::Ordinary, "headers" | "query") => Surroundings::ValueSources,
            (Surroundings::ValueSource | Surroundings::Ordinary, _) => Surroundings::Ordinary,
        }
    }
}
