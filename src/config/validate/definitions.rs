//! The targets and the sources of prompts that a file defines by name. A scenario refers to them by
//! name; this module resolves these references, and warns of definitions that no scenario uses.

use std::cell::RefCell;
use std::collections::HashSet;

use super::Validator;
use crate::config::field::{Field, FieldMap};
use crate::config::hints;
use crate::config::tree::NodeId;

/// All targets of a file, or all sources of prompts of a file.
pub(super) struct Definitions<T> {
    /// The key under which a scenario refers to these definitions: `target` or `prompts`.
    kind: &'static str,
    /// The definitions in the order of the file.
    pub(super) entries: Vec<Definition<T>>,
    /// False if the value of the key is not a map, so the names are not known.
    is_readable: bool,
    /// The names to which a scenario refers.
    used: RefCell<HashSet<String>>,
}

/// A target or a source of prompts with its name.
pub(super) struct Definition<T> {
    pub(super) name: String,
    pub(super) node: NodeId,
    /// The valid definition. `None` if it has a mistake, which is already recorded.
    pub(super) value: Option<T>,
}

impl Validator<'_> {
    /// Reads a map of definitions. `kind` is the key under which a scenario refers to them, and
    /// `read` validates one definition.
    pub(super) fn definitions<D, T>(
        &self,
        kind: &'static str,
        field: &Field<FieldMap<D>>,
        read: impl Fn(&str, &D, NodeId) -> Option<T>,
    ) -> Definitions<T> {
        let entries = self.entries(field, kind).map(|(name, document)| Definition {
            name: name.to_owned(),
            node: document.node().unwrap_or(NodeId::ROOT),
            value: document.present().and_then(|located| read(name, &located.value, located.node)),
        });
        Definitions {
            kind,
            entries: entries.collect(),
            is_readable: !field.is_invalid(),
            used: RefCell::default(),
        }
    }

    /// Adds a warning for each definition to which no scenario refers.
    pub(super) fn warn_of_unused<T>(&self, definitions: &Definitions<T>) {
        for Definition { name, node, .. } in &definitions.entries {
            if !definitions.used.borrow().contains(name) {
                let kind = definitions.kind;
                self.warn(
                    *node,
                    "no scenario uses it",
                    format!("remove it, or write its name as the `{kind}` of a scenario"),
                );
            }
        }
    }
}

impl<T> Definitions<T> {
    /// Returns true if the file defines nothing of this kind.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.is_readable
    }

    /// Returns true if the file defines this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }
}

impl<T: Clone> Definitions<T> {
    pub(super) fn empty(kind: &'static str) -> Definitions<T> {
        Definitions { kind, entries: Vec::new(), is_readable: true, used: RefCell::default() }
    }

    /// Creates a set of one definition. `value` is `None` if the definition has a mistake.
    pub(super) fn single(kind: &'static str, name: &str, value: Option<T>) -> Definitions<T> {
        let entries = vec![Definition { name: name.to_owned(), node: NodeId::ROOT, value }];
        Definitions { entries, ..Definitions::empty(kind) }
    }

    /// Returns the definition to which a scenario refers. If the reference is absent and the file
    /// has only one definition, the method returns this definition.
    pub(super) fn resolve(
        &self,
        validator: &Validator<'_>,
        reference: &Field<String>,
        scenario: NodeId,
    ) -> Option<T> {
        if !self.is_readable {
            return None;
        }
        let names = self.entries.iter().map(|entry| entry.name.as_str());
        let entry = match reference {
            Field::Invalid(_) => return None,
            Field::Present(reference) => {
                let entry = self.entries.iter().find(|entry| entry.name == reference.value);
                if entry.is_none() {
                    let mistake =
                        hints::unknown_reference(noun(self.kind), &reference.value, names);
                    validator.report(reference.node, mistake);
                }
                entry?
            }
            Field::Absent => match self.entries.as_slice() {
                [only] => only,
                [] => return None,
                _ => {
                    let message = format!(
                        "`{}` is missing, and the file defines more than one {}",
                        self.kind,
                        noun(self.kind)
                    );
                    let remedy = format!("write {}", hints::or_list(names));
                    validator.problem(scenario, message, remedy);
                    // The user can mean any of the definitions, so none of them gets a warning that
                    // it is unused.
                    let names = self.entries.iter().map(|entry| entry.name.clone());
                    self.used.borrow_mut().extend(names);
                    return None;
                }
            },
        };
        self.used.borrow_mut().insert(entry.name.clone());
        entry.value.clone()
    }
}

/// Returns the noun for definitions of this kind, for a message.
pub(super) fn noun(kind: &str) -> &str {
    if kind == "prompts" { "source of prompts" } else { kind }
}
