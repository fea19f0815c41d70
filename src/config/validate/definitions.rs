//! The targets and the sources of prompts that a file defines by name. This module resolves the
//! references of scenarios, and warns about definitions that no scenario uses.

use std::cell::RefCell;
use std::collections::HashSet;

use super::Validator;
use crate::config::field::{Field, FieldMap};
use crate::config::hints;
use crate::config::tree::NodeId;

/// All targets of a file, or all sources of prompts of a file.
pub(super) struct Definitions<T> {
    /// The key with which a scenario refers to these definitions: `target` or `prompts`.
    kind: &'static str,
    /// In the order of the file.
    pub(super) entries: Vec<Definition<T>>,
    /// False if the value of the key is not a map, so the names are unknown.
    is_readable: bool,
    /// The names that scenarios use.
    used: RefCell<HashSet<String>>,
}

pub(super) struct Definition<T> {
    pub(super) name: String,
    pub(super) node: NodeId,
    /// `None` if the definition has a mistake, which is already recorded.
    pub(super) value: Option<T>,
}

impl Validator<'_> {
    /// Reads a map of definitions. `read` validates one definition.
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
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.is_readable
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }
}

impl<T: Clone> Definitions<T> {
    pub(super) fn empty(kind: &'static str) -> Definitions<T> {
        Definitions { kind, entries: Vec::new(), is_readable: true, used: RefCell::default() }
    }

    /// Creates a set of one definition. A `value` of `None` means a mistake.
    pub(super) fn single(kind: &'static str, name: &str, value: Option<T>) -> Definitions<T> {
        let entries = vec![Definition { name: name.to_owned(), node: NodeId::ROOT, value }];
        Definitions { entries, ..Definitions::empty(kind) }
    }

    /// Returns the definition to which a scenario refers. An absent reference means the only
    /// definition.
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
                    // The user can mean any of the definitions, so llmload warns about none of them
                    // as unused.
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

pub(super) fn noun(kind: &str) -> &str {
    if kind == "prompts" { "source of prompts" } else { kind }
}
