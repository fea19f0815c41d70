//! Variables, `${NAME}`, in the file: looks up their values and fills the texts.
//!
//! Filling works on the tree, after YAML has been read. So a value can never add structure, and
//! `/config` can show the text of the file instead of the value.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::dotenv::{self, is_variable_name};
use super::problem::{Mistake, MistakeAt};
use super::tree::{Filled, Tree, Value, excerpt};

/// The largest `.env` that is read.
const MAX_DOTENV_BYTES: u64 = 1 << 20;

/// The remedy for `${` that does not begin a variable.
const ESCAPE: &str = "write `$${` for a literal `${`";

/// The variables of a file: the environment first, then the `.env` in the folder of the file.
pub struct Variables<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    dotenv: HashMap<String, String>,
    /// True if a `.env` was looked for.
    has_folder: bool,
}

impl<'a> Variables<'a> {
    /// Reads the `.env` in `folder`, if it exists.
    ///
    /// # Errors
    /// A message, if the `.env` cannot be read. It quotes nothing of the file.
    pub fn new(
        environment: &'a dyn Fn(&str) -> Option<String>,
        folder: Option<&Path>,
    ) -> Result<Variables<'a>, Mistake> {
        let mut values = HashMap::new();
        if let Some(path) = folder.map(|folder| folder.join(".env")).filter(|path| path.is_file()) {
            values = read_dotenv(&path)?;
        }
        Ok(Variables { environment, dotenv: values, has_folder: folder.is_some() })
    }

    /// The places of variables, for a message.
    pub fn places(&self) -> &'static str {
        if self.has_folder {
            "in the environment or in the `.env` next to the file"
        } else {
            "in the environment"
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.dotenv.get(name).cloned())
    }

    /// Fills every text of the tree. A text that cannot be filled becomes [`Value::Unknown`].
    pub fn fill(&self, tree: &mut Tree) -> Vec<MistakeAt> {
        let mut mistakes = Vec::new();
        for (node, text) in tree.value_texts_mut() {
            if !text.written.contains('$') {
                continue;
            }
            match self.expand(&text.written) {
                Ok(filled) => text.filled = Some(filled).filter(|f| f.text != text.written),
                Err(mistake) => mistakes.push(MistakeAt { node, mistake }),
            }
        }
        for found in &mistakes {
            tree.set(found.node, Value::Unknown);
        }
        mistakes
    }

    fn expand(&self, written: &str) -> Result<Filled, Mistake> {
        let mut filled =
            Filled { text: String::with_capacity(written.len()), from_variable: false };
        let mut rest = written;
        while let Some((before, after)) = rest.split_once('$') {
            filled.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                filled.text.push('$');
                rest = after;
            } else if let Some(inside) = after.strip_prefix('{') {
                let (inside, after) = inside
                    .split_once('}')
                    .ok_or_else(|| Mistake::new("`${` without `}`", ESCAPE))?;
                self.expand_variable(inside, &mut filled)?;
                rest = after;
            } else {
                filled.text.push('$');
                rest = after;
            }
        }
        filled.text.push_str(rest);
        Ok(filled)
    }

    /// Appends the value of `NAME` or `NAME:-default`.
    fn expand_variable(&self, inside: &str, filled: &mut Filled) -> Result<(), Mistake> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            let message = format!("`${{{}}}` does not name a variable", excerpt(inside));
            return Err(Mistake::new(message, ESCAPE));
        }
        // As in a shell, `:-` also replaces a variable that is set and empty.
        match (self.get(name).filter(|v| default.is_none() || !v.is_empty()), default) {
            (Some(value), _) => {
                filled.from_variable = true;
                filled.text.push_str(&value);
            }
            (None, Some(default)) => filled.text.push_str(default),
            (None, None) => {
                return Err(Mistake::new(
                    format!("the variable `{name}` is not set {}", self.places()),
                    format!("set it, or write `${{{name}:-default}}`"),
                ));
            }
        }
        Ok(())
    }
}

fn read_dotenv(path: &Path) -> Result<HashMap<String, String>, Mistake> {
    let message = |reason: &str| format!("`{}` cannot be read: {reason}", path.display());
    let failed = |error: std::io::Error| Mistake::without_remedy(message(&error.to_string()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_DOTENV_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_DOTENV_BYTES {
        let remedy = "check that it is the right file";
        return Err(Mistake::new(message("it is larger than 1 MiB"), remedy));
    }
    dotenv::read(&text).map_err(|line| {
        let remedy = "write NAME=value, and close every quote";
        Mistake::new(message(&format!("line {line} is not valid")), remedy)
    })
}
