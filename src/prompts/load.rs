//! Prompts from files. A file has rows, or pairs. A pair is a JSON object with a context and a
//! prompt, and a template makes one text from both.

mod indexer;
mod rows;

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use minijinja::{Environment, Template, UndefinedBehavior};

pub use rows::{PromptUnavailable, Rows, load_rows};

/// The size limit of a file that llmload keeps in memory, in bytes. The prompts of a file of pairs
/// have the same limit together.
pub const MAX_BYTES: usize = 64 << 20;

/// The template for pairs if the configuration has none.
pub const DEFAULT_TEMPLATE: &str = "{{context}}\n\n{{prompt}}";

/// An error in a prompt file. `config` adds the line of the configuration that names the file.
#[derive(Debug)]
pub enum LoadError {
    Unreadable {
        path: String,
        reason: String,
    },
    /// The file exceeds `limit`, such as `64 MiB`.
    TooLarge {
        path: String,
        limit: &'static str,
    },
    Utf16(String),
    Encoding {
        path: String,
        /// The line, from 1.
        line: usize,
    },
    Empty(String),
    Json {
        path: String,
        /// The line, from 1.
        line: usize,
        problem: String,
        remedy: String,
    },
    /// `count` further wrong rows, which have no separate error.
    More {
        path: String,
        count: usize,
    },
    /// The template is invalid, or a pair lacks a field of the template.
    Template {
        problem: String,
        remedy: Option<String>,
    },
}

impl LoadError {
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            LoadError::Unreadable { path, reason } => format!("`{path}` cannot be read: {reason}"),
            LoadError::TooLarge { path, limit } => format!("`{path}` is larger than {limit}"),
            LoadError::Utf16(path) => format!("`{path}` is UTF-16"),
            LoadError::Encoding { path, line } => format!("`{path}` is not UTF-8 at line {line}"),
            LoadError::Empty(path) => format!("`{path}` contains no prompts"),
            LoadError::Json { path, line, problem, .. } => {
                format!("`{path}` line {line}: {problem}")
            }
            LoadError::More { path, count } => format!("`{path}`: {count} more rows are wrong"),
            LoadError::Template { problem, .. } => problem.clone(),
        }
    }

    /// The remedy, in the imperative.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        Some(match self {
            LoadError::Unreadable { .. } => {
                "write the path of an existing file, relative to the folder of the configuration file"
            }
            LoadError::TooLarge { .. } => "use a part of the file",
            LoadError::Utf16(_) | LoadError::Encoding { .. } => "convert the file to UTF-8",
            LoadError::Empty(_) => "write at least one prompt",
            LoadError::Json { remedy, .. } => remedy,
            LoadError::More { .. } => "fix the reported rows first",
            LoadError::Template { remedy, .. } => return remedy.as_deref(),
        })
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem())?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for LoadError {}

/// Loads a file of pairs: a JSON list of objects, or one object. Each object becomes a prompt.
///
/// # Errors
/// The file cannot be read, its JSON has another form, or an object lacks a field of the template.
pub fn load_pairs(path: &Path, template: &str) -> Result<Vec<String>, LoadError> {
    let name = path.display().to_string();
    let entries = parse_entries(&name, &read(path)?)?;

    let mut environment = Environment::new();
    // By default, a missing field would become an empty text.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let template = environment.template_from_str(template).map_err(|error| {
        LoadError::Template { problem: format!("not a template: {}", reason(&error)), remedy: None }
    })?;
    let mut total = 0;
    let mut prompts = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let prompt = render(&template, entry).map_err(|(problem, remedy)| LoadError::Template {
            problem: format!("`{name}` entry {} {problem}", index + 1),
            remedy: Some(remedy),
        })?;
        total += prompt.len();
        if total > MAX_BYTES {
            return Err(LoadError::TooLarge { path: name, limit: "64 MiB" });
        }
        prompts.push(prompt);
    }
    Ok(prompts)
}

type Entry = serde_json::Map<String, serde_json::Value>;

fn parse_entries(name: &str, text: &str) -> Result<Vec<Entry>, LoadError> {
    let json = |error: serde_json::Error| LoadError::Json {
        path: name.to_owned(),
        line: error.line().max(1),
        problem: format!("not JSON in the expected form ({})", without_position(&error)),
        remedy: "write [{\"context\": \"…\", \"prompt\": \"…\"}]".to_owned(),
    };
    let is_single = text.trim_start().starts_with('{');
    let entries: Vec<Entry> = match text.trim() {
        "" => Vec::new(),
        _ if is_single => vec![serde_json::from_str(text).map_err(json)?],
        _ => serde_json::from_str(text).map_err(json)?,
    };
    if entries.is_empty() { Err(LoadError::Empty(name.to_owned())) } else { Ok(entries) }
}

/// The error is the problem and its remedy. The problem is a predicate, such as `is blank`.
fn render(template: &Template<'_, '_>, entry: &Entry) -> Result<String, (String, String)> {
    let must_be_text = |field: &str| field == "context" || field == "prompt";
    if let Some((field, _)) =
        entry.iter().find(|(field, value)| must_be_text(field) && !value.is_string())
    {
        let problem = format!("has no text in `{}`", field.escape_debug());
        return Err((problem, "put the text in quotes".to_owned()));
    }
    let prompt = template.render(minijinja::value::Serde(entry)).map_err(|error| {
        let fields: Vec<_> = entry.keys().map(|key| format!("`{}`", key.escape_debug())).collect();
        let problem = format!("does not fit the template ({})", reason(&error));
        (problem, format!("use only the fields of the entry: {}", fields.join(", ")))
    })?;
    if prompt.trim().is_empty() {
        return Err(("is blank".to_owned(), "write a prompt".to_owned()));
    }
    Ok(prompt)
}

fn reason(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(", line {line} of the template"));
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

/// Removes the position, because [`LoadError::Json`] has the line.
fn without_position(error: &serde_json::Error) -> String {
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
    if is_utf16(&bytes) {
        return Err(LoadError::Utf16(name()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        LoadError::Encoding { path: name(), line: 1 + memchr::memchr_iter(b'\n', before).count() }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// True if a text begins with the byte order mark of UTF-16, or if each of its first characters has
/// a zero byte.
#[must_use]
pub fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, third, fourth, ..] => {
            let are_zero = [first, second, third, fourth].map(|byte| *byte == 0);
            are_zero == [true, false, true, false] || are_zero == [false, true, false, true]
        }
        _ => false,
    }
}

fn open(path: &Path) -> Result<(File, Metadata), LoadError> {
    let unreadable =
        |reason: String| LoadError::Unreadable { path: path.display().to_string(), reason };
    let failed = |error: std::io::Error| unreadable(error.to_string());
    // Opening or reading a pipe could block forever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unreadable("not a file".into()));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // Files of the system, such as `/proc/kmsg`, have the length 0, and a read can block forever.
    if metadata.len() == 0 {
        return Err(LoadError::Empty(path.display().to_string()));
    }
    Ok((file, metadata))
}
