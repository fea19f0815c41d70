//! Targets and sources of prompts by name: it resolves the references of scenarios to them, and
//! finds those that no scenario uses.

use std::cell::RefCell;
use std::collections::HashSet;

use super::Validator;
use crate::config::field::{Field, FieldMap};
use crate::config::hints;
use crate::config::tree::NodeId;

/// The things of one kind that scenarios refer to by name.
pub(super) struct Definitions<T> {
    kind: &'static str,
    /// In the order of the file.
    pub(super) entries: Vec<Definition<T>>,
    /// True if the map as a whole could be read. If not, nobody knows which names it has.
    is_readable: bool,
    used: RefCell<HashSet<String>>,
}

/// A thing with a name.
pub(super) struct Definition<T> {
    pub(super) name: String,
    pub(super) node: NodeId,
    /// `None` if it has a mistake, which has been reported.
    pub(super) value: Option<T>,
}

impl Validator<'_> {
    /// Reads a map of things that scenarios refer to. `kind` is the key of such a reference.
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

    /// Warns of definitions that no scenario refers to.
    pub(super) fn warn_of_unused<T>(&self, definitions: &Definitions<T>) {
        for Definition { name, node, .. } in &definitions.entries {
            if !definitions.used.borrow().contains(name) {
                let kind = definitions.kind;
                self.warn(
                    *node,
                    "no scenario uses it",
                    format!("remove it, or name it as the `{kind}` of a scenario"),
                );
            }
        }
    }
}

impl<T> Definitions<T> {
    /// Returns true if nothing is defined.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.is_readable
    }
}

impl<T: Clone> Definitions<T> {
    pub(super) fn empty(kind: &'static str) -> Definitions<T> {
        Definitions { kind, entries: Vec::new(), is_readable: true, used: RefCell::default() }
    }

    /// Creates a set of one thing. `value` is `None` if it has a mistake.
    pub(super) fn single(kind: &'static str, name: &str, value: Option<T>) -> Definitions<T> {
        let entries = vec![Definition { name: name.to_owned(), node: NodeId::ROOT, value }];
        Definitions { entries, ..Definitions::empty(kind) }
    }

    /// Returns the thing that a scenario refers to. Without a reference it is the only thing there
    /// is.
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
                    let message = format!("`{}` is missing, and there are several", self.kind);
                    let remedy = format!("write {}", hints::or_list(names));
                    validator.problem(scenario, message, remedy);
                    // Any of them may be the missing one, so none counts as unused.
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

/// The noun for the value of a scenario's key, for a message.
pub(super) fn noun(kind: &str) -> &str {
    if kind == "prompts" { "source of prompts" } else { kind }
}
