//! `${NAME}` in text: where its value comes from and how it is put in.
//!
//! Filling happens on the tree, after YAML has been read. So a value can never add structure, and
//! `/config` can show what was written.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::dotenv;
use super::reader::Finding;
use super::tree::{Substituted, Tree, Value, excerpt};

/// The environment first, then the `.env` beside the file.
pub struct Variables<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    beside: HashMap<String, String>,
    /// Whether there is a file beside which a `.env` could lie.
    has_folder: bool,
}

const MAX_DOTENV_BYTES: u64 = 1 << 20;

impl<'a> Variables<'a> {
    /// Reads the `.env` in `folder`, if there is one.
    ///
    /// # Errors
    /// Where it is there and cannot be read. The message quotes nothing of it.
    pub fn new(
        environment: &'a dyn Fn(&str) -> Option<String>,
        folder: Option<&Path>,
    ) -> Result<Variables<'a>, String> {
        let mut beside = HashMap::new();
        if let Some(path) = folder.map(|folder| folder.join(".env")).filter(|path| path.is_file()) {
            let unreadable = |why: String| format!("`{}` cannot be read: {why}", path.display());
            let file = std::fs::File::open(&path).map_err(|error| unreadable(error.to_string()))?;
            let mut text = String::new();
            let read = file.take(MAX_DOTENV_BYTES + 1).read_to_string(&mut text);
            read.map_err(|error| unreadable(error.to_string()))?;
            if text.len() as u64 > MAX_DOTENV_BYTES {
                return Err(unreadable("it is larger than 1 MiB; is it the right file?".into()));
            }
            beside = dotenv::read(&text).map_err(|line| {
                unreadable(format!(
                    "line {line} is not valid; write NAME=value, and close every quote"
                ))
            })?;
        }
        Ok(Variables { environment, beside, has_folder: folder.is_some() })
    }

    /// Where they are looked up, in words.
    pub fn places(&self) -> &'static str {
        if self.has_folder {
            "in the environment or in the `.env` beside the file"
        } else {
            "in the environment"
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.beside.get(name).cloned())
    }

    /// Fills every text of the tree.
    pub fn fill(&self, tree: &mut Tree) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (node, text) in tree.texts_mut() {
            if !text.written.contains('$') {
                continue;
            }
            match self.expand(&text.written) {
                Ok(filled) => text.filled = Some(filled).filter(|f| f.text != text.written),
                Err(message) => findings.push(Finding { node, message }),
            }
        }
        for finding in &findings {
            tree.set(finding.node, Value::Unknown);
        }
        findings
    }

    fn expand(&self, written: &str) -> Result<Substituted, String> {
        let mut filled =
            Substituted { text: String::with_capacity(written.len()), from_variable: false };
        let mut rest = written;
        while let Some((before, after)) = rest.split_once('$') {
            filled.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                filled.text.push('$');
                rest = after;
            } else if let Some(inside) = after.strip_prefix('{') {
                let (inside, after) = inside
                    .split_once('}')
                    .ok_or("`${` without `}`; write `$${` for the characters themselves")?;
                let (name, default) = match inside.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (inside, None),
                };
                if !is_name(name) {
                    return Err(format!(
                        "`${{{}}}` does not name a variable; write `$${{` for the characters themselves",
                        excerpt(inside)
                    ));
                }
                // As in a shell, `:-` also replaces a variable that is set to nothing.
                match (self.get(name).filter(|v| default.is_none() || !v.is_empty()), default) {
                    (Some(value), _) => {
                        filled.from_variable = true;
                        filled.text.push_str(&value);
                    }
                    (None, Some(default)) => filled.text.push_str(default),
                    (None, None) => {
                        return Err(format!(
                            "the variable `{name}` is not set, {}; set it, or write `${{{name}:-default}}`",
                            self.places()
                        ));
                    }
                }
                rest = after;
            } else {
                filled.text.push('$');
                rest = after;
            }
        }
        filled.text.push_str(rest);
        Ok(filled)
    }
}

/// Whether this can be the name of a variable.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
