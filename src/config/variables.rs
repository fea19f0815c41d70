//! Replaces each variable, such as `${NAME}`, in the texts of the file by its value.
//!
//! The substitution changes the parsed tree. So the value of a variable can never add keys or
//! lists, and `/config` can show `${NAME}` instead of the value.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use super::dotenv::{self, is_variable_name};
use super::problem::{Mistake, MistakeAt};
use super::tree::{NodeId, Substituted, Tree, Value, excerpt};

/// The size of the largest `.env` file that llmload reads, in bytes.
const MAX_DOTENV_BYTES: u64 = 1 << 20;

/// The highest number of nested defaults, as in `${A:-${B:-c}}`.
const MAX_DEPTH: usize = 8;

/// The most bytes that the values of variables add to a file. A file of a megabyte can name a
/// variable a quarter of a million times, so a long value would need gigabytes.
const MAX_ADDED: usize = 1 << 20;

/// The remedy for a `${` that does not begin a valid variable.
const ESCAPE: &str = "write `$${` for a literal `${`";

/// Returns the value of an environment variable. The value can be any bytes.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The treatment of a missing secret: a variable that is not set, or a missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// A mistake, because llmload could send no request.
    Required,
    /// A placeholder, for the check of a file on a machine without secrets.
    Optional,
}

/// The variables that a file can use. The environment overrides the `.env` file.
pub struct Variables<'a> {
    environment: Environment<'a>,
    dotenv: HashMap<String, String>,
    secrets: Secrets,
    /// True for a configuration file, whose folder can contain a `.env` file. False for a command
    /// line.
    has_folder: bool,
}

impl<'a> Variables<'a> {
    /// Reads the `.env` file in `folder`, if the file exists.
    ///
    /// # Errors
    /// If the `.env` file cannot be read. The message quotes no text of the `.env` file.
    pub fn new(
        environment: Environment<'a>,
        folder: Option<&Path>,
        secrets: Secrets,
    ) -> Result<Variables<'a>, Mistake> {
        let mut values = HashMap::new();
        if let Some(path) = folder.map(|folder| folder.join(".env")).filter(|path| path.is_file()) {
            values = read_dotenv(&path)?;
        }
        Ok(Variables { environment, dotenv: values, secrets, has_folder: folder.is_some() })
    }

    /// Returns the sources of variables, for messages.
    pub fn places(&self) -> &'static str {
        if self.has_folder {
            "in the environment or in the `.env` next to the file"
        } else {
            "in the environment"
        }
    }

    /// # Errors
    /// If the value is not UTF-8. The message does not quote the name, which can be a misplaced
    /// secret.
    fn get(&self, name: &str) -> Result<Option<String>, Mistake> {
        match (self.environment)(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Mistake::new(
                "the value of the variable is not UTF-8",
                "set the variable to a text in UTF-8",
            )),
            None => Ok(self.dotenv.get(name).cloned()),
        }
    }

    /// Returns the value of a variable that contains a secret. If secrets are optional, a
    /// placeholder replaces a missing or empty one: CI systems leave the secrets of a fork empty.
    ///
    /// # Errors
    /// If the value is not UTF-8.
    pub fn get_secret(&self, name: &str) -> Result<Option<String>, Mistake> {
        let value = self.get(name)?;
        let is_missing = value.as_ref().is_none_or(|value| value.trim().is_empty());
        Ok(self.placeholder().filter(|_| is_missing).or(value))
    }

    /// Returns the placeholder of a missing secret; `None` if secrets are required.
    pub fn placeholder(&self) -> Option<String> {
        (self.secrets == Secrets::Optional).then(|| "secret".to_owned())
    }

    /// Substitutes the variables in every text, and returns the mistakes. A text with a mistake
    /// becomes [`Value::Unknown`].
    pub fn substitute(&self, tree: &mut Tree, secret_nodes: &HashSet<NodeId>) -> Vec<MistakeAt> {
        let mut mistakes = Vec::new();
        let mut room = MAX_ADDED;
        for (node, text) in tree.value_texts_mut() {
            if !text.written.contains('$') {
                continue;
            }
            let mut expansion = Expansion {
                variables: self,
                is_secret: secret_nodes.contains(&node),
                new: Substituted { text: String::new(), from_variable: false },
                room: &mut room,
            };
            match expansion.add(&text.written, 0) {
                Ok(()) => {
                    let new = expansion.new;
                    text.substituted = Some(new).filter(|new| new.text != text.written);
                }
                Err(mistake) => mistakes.push(MistakeAt { node, mistake }),
            }
        }
        for found in &mistakes {
            tree.set(found.node, Value::Unknown);
        }
        mistakes
    }
}

struct Expansion<'v> {
    variables: &'v Variables<'v>,
    is_secret: bool,
    new: Substituted,
    /// The bytes that further values can add.
    room: &'v mut usize,
}

impl Expansion<'_> {
    /// Appends a text, with its variables expanded. `depth` counts the defaults around the text.
    fn add(&mut self, written: &str, depth: usize) -> Result<(), Mistake> {
        let mut rest = written;
        while let Some((before, after)) = rest.split_once('$') {
            self.new.text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                self.new.text.push('$');
                rest = after;
            } else if let Some(inside) = after.strip_prefix('{') {
                let end = closing_brace(inside)
                    .ok_or_else(|| Mistake::new("`${` has no closing `}`", ESCAPE))?;
                self.add_variable(&inside[..end], depth)?;
                rest = &inside[end + 1..];
            } else {
                self.new.text.push('$');
                rest = after;
            }
        }
        self.new.text.push_str(rest);
        Ok(())
    }

    /// Appends the value of a variable. `inside` is the text between `${` and `}`: `NAME` or
    /// `NAME:-default`.
    fn add_variable(&mut self, inside: &str, depth: usize) -> Result<(), Mistake> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            let message = format!("`${{{}}}` does not name a variable", excerpt(inside));
            return Err(Mistake::new(message, ESCAPE));
        }
        if depth >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} defaults contain each other");
            return Err(Mistake::new(message, "use fewer variables"));
        }
        let is_optional = self.is_secret && default.is_none();
        let value =
            if is_optional { self.variables.get_secret(name) } else { self.variables.get(name) };
        // As in a shell, the default also replaces an empty value.
        match (value?.filter(|v| default.is_none() || !v.is_empty()), default) {
            (Some(value), _) => {
                *self.room = self.room.checked_sub(value.len()).ok_or_else(|| {
                    let message =
                        "the values of the variables in the file add up to more than 1 MiB";
                    Mistake::new(message, "move long texts to separate files")
                })?;
                self.new.from_variable = true;
                self.new.text.push_str(&value);
                Ok(())
            }
            (None, Some(default)) => self.add(default, depth + 1),
            (None, None) => Err(Mistake::new(
                format!("the variable `{name}` is not set {}", self.variables.places()),
                format!("set the variable, or write `${{{name}:-default}}`"),
            )),
        }
    }
}

/// Returns the position of the `}` that closes a `${` before the text, which can contain further
/// variables.
fn closing_brace(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let (mut at, mut open) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'$', Some(b'$')) => at += 1,
            (b'$', Some(b'{')) => (at, open) = (at + 1, open + 1),
            (b'}', _) if open == 0 => return Some(at),
            (b'}', _) => open -= 1,
            _ => {}
        }
        at += 1;
    }
    None
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
