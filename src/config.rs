//! Turns the YAML configuration file into a [`Plan`], or into a list of all problems of the file.
//!
//! Loading has four steps, and each step has a module:
//!
//! 1. `yaml` parses the text into a tree of nodes.
//! 2. `variables` replaces each `${NAME}` in the tree by the value of a variable.
//! 3. `reader` deserializes the tree into the types of `document`.
//! 4. `validate` checks each value and the combinations of values, and builds the plan.
//!
//! The steps record every mistake and continue, so a user sees all mistakes at once. At the end,
//! this module adds the line and the column to each mistake.

mod command_line;
mod document;
mod dotenv;
mod duration;
mod field;
mod file;
mod hints;
mod masking;
mod nesting;
mod problem;
mod reader;
mod scalar;
mod search_options;
mod shard;
mod size;
mod trace;
mod tree;
mod unix_url;
mod user_info;
mod validate;
mod variables;
mod web_file;
mod yaml;

use std::path::{Path, PathBuf};

pub use command_line::{UrlOptions, plan_from_url, simulator_from_options};
pub use duration::{HumanDuration, read_duration};
pub use hints::url_with_scheme;
pub use masking::secret_texts;
pub use problem::{Invalid, Mistake, Problem, ProblemKind};
pub use search_options::{SearchBy, SearchOptions, search_from_options};
pub use shard::{divide, divide_run};
pub use unix_url::unix_url;
pub use user_info::without_user_info;
pub use variables::{Environment, Secrets};
pub use web_file::{
    ClientAuth, Curve, RateLimit, TlsDefect, TlsPart, TlsSettings, TlsVersion, WebFile,
    WebFileRead, read_web_file,
};

use crate::plan::Plan;
use crate::random::Fnv;
use crate::schedule::Shard;
use problem::{MistakeAt, Mistakes, Position, problem_lines};
use tree::{NodeId, Tree};
use variables::Variables;

/// The highest number of problems in one report.
const MAX_PROBLEMS: usize = 100;

/// Loads a configuration file. Paths in the file are relative to the folder of the file. `env`
/// returns the value of an environment variable. A `.env` file in the same folder can define more
/// variables.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path, env: Environment<'_>) -> Result<Plan, Invalid> {
    let base = path.parent().unwrap_or(Path::new(""));
    load_text(path, file::read_configuration(path), base, env, Secrets::Required)
}

/// Loads a configuration and reads it only once, so it can also be a pipe or standard input (`-`).
/// The paths in a pipe are relative to the current folder.
///
/// # Errors
/// All problems of the text. [`Secrets::Optional`] allows secrets that do not exist.
pub fn load_once(path: &Path, env: Environment<'_>, secrets: Secrets) -> Result<Plan, Invalid> {
    let has_folder = !file::is_standard_input(path) && path.is_file();
    let base = path.parent().filter(|_| has_folder).unwrap_or(Path::new(""));
    load_text(path, file::read_once(path), base, env, secrets)
}

fn load_text(
    path: &Path,
    text: Result<String, Invalid>,
    base: &Path,
    env: Environment<'_>,
    secrets: Secrets,
) -> Result<Plan, Invalid> {
    let name = path.display().to_string();
    let own_files = [path.to_owned(), base.join(".env")];
    let plan = text.and_then(|text| {
        let (plan, warnings) = parse_with_warnings(&text, &name, Some(base), env, secrets)?;
        Ok(Plan { warnings: problem_lines(&name, &warnings), ..plan })
    });
    match plan {
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

/// Returns a hash of the files. It changes with the content of a file, and if a file becomes
/// readable or unreadable. For a file larger than 1 MiB, the hash covers the size and the
/// modification time instead of the content.
pub fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hash = Fnv::default();
    for file in files {
        let metadata = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file);
        let length = metadata.as_ref().map_or(u64::MAX, std::fs::Metadata::len);
        hash.update(&length.to_le_bytes());
        if length <= yaml::MAX_BYTES as u64 {
            // If the file has disappeared since the first call, it counts as changed.
            hash.update(&std::fs::read(file).unwrap_or_default());
        } else if let Some(modified) = metadata.and_then(|metadata| metadata.modified().ok()) {
            let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            hash.update(&since.as_nanos().to_le_bytes());
        }
    }
    hash.0
}

/// Parses the text of a configuration. `origin` is the name of the text in messages. `base` is the
/// folder for relative paths and for the `.env` file. Without `base`, paths are relative to the
/// current folder, and llmload reads no `.env` file.
///
/// # Errors
/// All problems of the text.
pub fn parse(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: Environment<'_>,
) -> Result<Plan, Invalid> {
    let (plan, warnings) = parse_with_warnings(text, origin, base, env, Secrets::Required)?;
    Ok(Plan { warnings: problem_lines(origin, &warnings), ..plan })
}

/// Returns a plan without `warnings`, and the warnings as [`Problem`]s.
fn parse_with_warnings(
    text: &str,
    origin: &str,
    base: Option<&Path>,
    env: Environment<'_>,
    secrets: Secrets,
) -> Result<(Plan, Vec<Problem>), Invalid> {
    // Some editors write a byte order mark at the start. The YAML parser would read it as content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut tree, mistakes_of_text) = yaml::read(text).map_err(|malformed| {
        let problem = Problem::new(malformed.position, String::new(), malformed.mistake);
        Invalid::new(origin, vec![problem])
    })?;
    let variables = Variables::new(env, base, secrets)
        .map_err(|mistake| Invalid::about_file(origin, mistake))?;
    // At this point, the tree contains `${NAME}` and not yet the values of variables.
    let secret_nodes = masking::secret_nodes(&tree);
    let masked_source = yaml::write(&tree, &|node| secret_nodes.contains(&node));

    let mistakes = Mistakes::default();
    mistakes.borrow_mut().extend(mistakes_of_text);
    mistakes.borrow_mut().extend(variables.substitute(&mut tree, &secret_nodes));
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
        failures: validated.failures,
        resources: validated.resources,
        state_dir: validated.state_dir,
        warnings: Vec::new(),
        masked_source,
        source_hash,
        files: validated.files,
        shard: Shard::ALL,
    };
    Ok((plan, warnings))
}

/// Returns the JSON Schema of the configuration file. It accepts the short form and the long form.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(document::Document).to_value()
}

/// Adds the line and column to each mistake, and sorts the problems by their place in the text.
fn place(text: &str, tree: &Tree, mut mistakes: Vec<MistakeAt>) -> Vec<Problem> {
    // The ids of nodes rise in the order of the text, so `truncate` keeps the first problems.
    mistakes.sort_by_key(|found| tree.reported_node(found.node));
    mistakes.dedup();
    let more = mistakes.len().saturating_sub(MAX_PROBLEMS);
    mistakes.truncate(MAX_PROBLEMS);
    let mut problems: Vec<Problem> = mistakes
        .into_iter()
        .map(|MistakeAt { node, mistake }| {
            let position = yaml::locate(text, tree.reported_node(node));
            let mistake = without_secrets(tree, node, mistake);
            Problem::new(position, tree.path(node), mistake)
        })
        .collect();
    // A node inside a YAML alias has the position of the anchor, which is earlier in the text.
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

/// Removes secrets from a message that quotes the rejected value. The value of a variable becomes
/// `${NAME}` again, and the value of a key such as `auth` disappears.
fn without_secrets(tree: &Tree, node: NodeId, mistake: Mistake) -> Mistake {
    if let (Some(text), Some(key)) = (tree.text(node), tree.key_of(node))
        && !masking::is_quotable(key)
    {
        let quoted = format!("`{}`", tree::excerpt(text.as_str()));
        let message = mistake.message.replace(&quoted, "the value");
        return Mistake { message, ..mistake };
    }
    let Some(tree::Text { written, substituted: Some(substituted) }) = tree.text(node) else {
        return mistake;
    };
    let written = tree::excerpt(written);
    let restore = |mut text: String| {
        for value in [substituted.text.as_str(), substituted.text.trim()] {
            for value in [value.to_owned(), tree::excerpt(value)] {
                text = text.replace(&format!("`{value}`"), &format!("`{written}`"));
                // A short value can be part of an ordinary word of the message.
                if value.len() >= 8 {
                    text = text.replace(&value, &written);
                }
            }
        }
        text
    };
    Mistake {
        message: restore(mistake.message),
        remedy: mistake.remedy.map(restore),
        kind: mistake.kind,
    }
}
