//! Replaces each variable, such as `${NAME}`, in the texts of the file by its value.
//!
//! The substitution changes the tree, after the YAML parser has read the file. The value of a
//! variable can therefore never add keys or lists to the document, and the page `/config` can show
//! the text of the file instead of the value.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::dotenv::{self, is_variable_name};
use super::problem::{Mistake, MistakeAt};
use super::tree::{Substituted, Tree, Value, excerpt};

/// The size of the largest `.env` file that llmload reads, in bytes.
const MAX_DOTENV_BYTES: u64 = 1 << 20;

/// The remedy for a `${` that does not begin a valid variable.
const ESCAPE: &str = "write `$${` for a literal `${`";

/// The variables that a file can use. A variable of the environment overrides a variable with the
/// same name in the `.env` file, which is in the folder of the configuration file.
pub struct Variables<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    dotenv: HashMap<String, String>,
    /// True if the configuration is a file, so its folder can contain a `.env` file. False if the
    /// configuration is from the command line.
    has_folder: bool,
}

impl<'a> Variables<'a> {
    /// Reads the `.env` file in `folder`, if the file exists.
    ///
    /// # Errors
    /// If the `.env` file cannot be read. The message quotes no text of the `.env` file.
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

    /// Returns the places where llmload looks for variables, for a message.
    pub fn places(&self) -> &'static str {
        if self.has_folder {
            "in the environment or in the `.env` next to the file"
        } else {
            "in the environment"
        }
    }

    /// Returns the value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.environment)(name).or_else(|| self.dotenv.get(name).cloned())
    }

    /// Substitutes the variables in every text of the tree, and returns the mistakes. A text with a
    /// mistake becomes [`Value::Unknown`].
    pub fn substitute(&self, tree: &mut Tree) -> Vec<MistakeAt> {
        let mut mistakes = Vec::new();
        for (node, text) in tree.value_texts_mut() {
            if !text.written.contains('$') {
                continue;
            }
            match self.expand(&text.written) {
                Ok(new) => text.substituted = Some(new).filter(|new| new.text != text.written),
                Err(mistake) => mistakes.push(MistakeAt { node, mistake }),
            }
        }
        for found in &mistakes {
            tree.set(found.node, Value::Unknown);
        }
        mistakes
    }

    fn expand(&self, written: &str) -> Result<Substituted, Mistake> {
        let mut new =
            Substituted { text: String::with_capacity(written.len()), from_variable: false };
        let mut rest = written;
        while let Some((before, after)) = rest.split_once('$') {
            new.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                new.text.push('$');
                rest = after;
            } else if let Some(inside) = after.strip_prefix('{') {
                let (inside, after) = inside
                    .split_once('}')
                    .ok_or_else(|| Mistake::new("`${` has no closing `}`", ESCAPE))?;
                self.expand_variable(inside, &mut new)?;
                rest = after;
            } else {
                new.text.push('$');
                rest = after;
            }
        }
        new.text.push_str(rest);
        Ok(new)
    }

    /// Appends the value of a variable to `new`. `inside` is the text between `${` and `}`: `NAME`
    /// or `NAME:-default`.
    fn expand_variable(&self, inside: &str, new: &mut Substituted) -> Result<(), Mistake> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            let message = format!("`${{{}}}` does not name a variable", excerpt(inside));
            return Err(Mistake::new(message, ESCAPE));
        }
        // As in a shell, the default after `:-` also replaces a variable that is set but empty.
        match (self.get(name).filter(|v| default.is_none() || !v.is_empty()), default) {
            (Some(value), _) => {
                new.from_variable = true;
                new.text.push_str(&value);
            }
            (None, Some(default)) => new.text.push_str(default),
            (None, None) => {
                return Err(Mistake::new(
                    format!("the variable `{name}` is not set {}", self.places()),
                    format!("set the variable, or write `${{{name}:-default}}`"),
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
        let remedy = "make sure that it is the right file";
        return Err(Mistake::new(message("it is larger than 1 MiB"), remedy));
    }
    dotenv::read(&text).map_err(|line| {
        let remedy = "write NAME=value, and close every quote";
        Mistake::new(message(&format!("line {line} is not valid")), remedy)
    })
}
