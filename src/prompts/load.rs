//! Prompts from files: rows of many kinds, or pairs of a context and a question.

mod rows;

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use minijinja::{Environment, UndefinedBehavior};

pub use rows::{PromptUnavailable, Rows, load_rows};

/// The largest file that is held in memory, and the most that templates may make of it, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// How a pair becomes a prompt where nothing else is said.
pub const DEFAULT_TEMPLATE: &str = "{{context}}\n\n{{prompt}}";

/// Why a file gives no prompts. The message says which file is meant only where it helps; the
/// caller knows where it was named.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is missing or cannot be read.
    #[error("`{path}` cannot be read: {reason}; paths are relative to the configuration file")]
    Unreadable {
        /// As it was looked for.
        path: String,
        /// The operating system's words.
        reason: String,
    },
    /// Above what can be held or indexed.
    #[error("`{path}` is larger than {limit}; use a part of it")]
    TooLarge {
        /// As it was looked for.
        path: String,
        /// What it may have.
        limit: &'static str,
    },
    /// Not UTF-8.
    #[error("`{path}` is not UTF-8 at line {line}; convert it")]
    Encoding {
        /// As it was looked for.
        path: String,
        /// From 1.
        line: usize,
    },
    /// Nothing in it.
    #[error("`{0}` holds no prompts; write at least one")]
    Empty(String),
    /// Not JSON of the right shape.
    #[error("`{path}` line {line}: {message}")]
    Json {
        /// As it was looked for.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong; what would be right.
        message: String,
    },
    /// Rows with problems beside those that are told.
    #[error("`{path}`: {count} more of its rows are wrong; mend those above first")]
    More {
        /// As it was looked for.
        path: String,
        /// How many.
        count: usize,
    },
    /// The template does not fit an entry, or any.
    #[error("{0}")]
    Template(String),
}

/// One prompt for each object of a JSON list, or for the one object that the file holds.
///
/// # Errors
/// Where the file cannot be read, is not such JSON, or an object lacks what the template needs.
pub fn load_pairs(path: &Path, template: &str) -> Result<Vec<String>, LoadError> {
    type Entry = serde_json::Map<String, serde_json::Value>;

    let text = read(path)?;
    let name = || path.display().to_string();
    let json = |error: &serde_json::Error| LoadError::Json {
        path: name(),
        line: error.line().max(1),
        message: format!(
            "not JSON of the right shape ({}); write [{{\"context\": \"…\", \"prompt\": \"…\"}}]",
            category(error)
        ),
    };
    if text.trim().is_empty() {
        return Err(LoadError::Empty(name()));
    }
    let entries: Vec<Entry> = if text.trim_start().starts_with('{') {
        vec![serde_json::from_str(&text).map_err(|error| json(&error))?]
    } else {
        serde_json::from_str(&text).map_err(|error| json(&error))?
    };
    if entries.is_empty() {
        return Err(LoadError::Empty(name()));
    }

    let mut environment = Environment::new();
    // A field that is missing would otherwise vanish from every prompt without a word.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let template = environment
        .template_from_str(template)
        .map_err(|error| LoadError::Template(format!("not a template: {}", reason(&error))))?;
    let mut total = 0;
    let mut prompts = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let number = index + 1;
        let text_only = |field: &str| field == "context" || field == "prompt";
        if let Some((field, _)) = entry.iter().find(|(f, value)| text_only(f) && !value.is_string())
        {
            return Err(LoadError::Template(format!(
                "`{}` entry {number}: `{}` is not text; put it in quotes",
                name(),
                field.escape_debug()
            )));
        }
        let prompt = template.render(minijinja::value::Serde(entry)).map_err(|error| {
            LoadError::Template(format!(
                "`{}` entry {number} does not fit the template ({}); it has the fields {}",
                name(),
                reason(&error),
                entry
                    .keys()
                    .map(|key| format!("`{}`", key.escape_debug()))
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })?;
        if prompt.trim().is_empty() {
            return Err(LoadError::Template(format!(
                "`{}` entry {number} is blank; write a prompt",
                name()
            )));
        }
        total += prompt.len();
        if total > MAX_BYTES {
            return Err(LoadError::TooLarge { path: name(), limit: "64 MiB" });
        }
        prompts.push(prompt);
    }
    Ok(prompts)
}

fn reason(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(", line {line} of the template"));
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

/// serde's words without the position, which is told by line already.
fn category(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_owned()
}

fn read(path: &Path) -> Result<String, LoadError> {
    let name = || path.display().to_string();
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| LoadError::Unreadable { path: name(), reason: error.to_string() })?;
    if bytes.len() > MAX_BYTES {
        return Err(LoadError::TooLarge { path: name(), limit: "64 MiB" });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        LoadError::Encoding { path: name(), line: 1 + memchr::memchr_iter(b'\n', before).count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn open(path: &Path) -> Result<(File, Metadata), LoadError> {
    let unreadable =
        |reason: String| LoadError::Unreadable { path: path.display().to_string(), reason };
    let failed = |error: std::io::Error| unreadable(error.to_string());
    // A pipe or a device could keep the reader for ever, and the one for opening it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unreadable("not a file".into()));
    }
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    Ok((file, about))
}
