//! Targets and sources by name, what scenarios refer to, and which of them nobody does.

use std::cell::RefCell;
use std::collections::HashSet;

use super::Validator;
use crate::config::field::{Field, FieldMap};
use crate::config::hints;
use crate::config::tree::NodeId;

/// Things that scenarios refer to by name. `None` for one that is there and wrong.
pub(super) struct Definitions<T> {
    kind: &'static str,
    /// Name, node and value, in the order of the file. The name is empty for a map that could not
    /// be read.
    pub(super) entries: Vec<(String, NodeId, Option<T>)>,
    used: RefCell<HashSet<String>>,
}

impl Validator<'_> {
    /// Reads a map of things that scenarios refer to.
    pub(super) fn definitions<D, T>(
        &self,
        kind: &'static str,
        field: &Field<FieldMap<D>>,
        read: impl Fn(&str, &D, NodeId) -> Option<T>,
    ) -> Definitions<T> {
        let entries = self
            .entries(field, kind)
            .map(|(name, document)| {
                let value =
                    document.present().and_then(|located| read(name, &located.value, located.node));
                (name.to_owned(), document.node().unwrap_or(NodeId::ROOT), value)
            })
            .collect();
        // Where the whole map could not be read, nobody can say what is missing in it.
        let entries =
            if field.is_invalid() { vec![(String::new(), NodeId::ROOT, None)] } else { entries };
        Definitions { kind, entries, used: RefCell::default() }
    }

    /// Warns of what no scenario refers to.
    pub(super) fn unused<T>(&self, register: &Definitions<T>) {
        for (name, node, _) in &register.entries {
            if !name.is_empty() && !register.used.borrow().contains(name) {
                self.warn(
                    *node,
                    format!("no scenario uses it; name it as a scenario's `{}`", register.kind),
                );
            }
        }
    }
}

impl<T: Clone> Definitions<T> {
    /// Of nothing.
    pub(super) fn none(kind: &'static str) -> Definitions<T> {
        Definitions { kind, entries: Vec::new(), used: RefCell::default() }
    }

    /// Of one thing, good or bad.
    pub(super) fn one(kind: &'static str, name: &str, value: Option<T>) -> Definitions<T> {
        Definitions {
            entries: vec![(name.to_owned(), NodeId::ROOT, value)],
            ..Definitions::none(kind)
        }
    }

    /// What a scenario's reference means; the only one, where it has none.
    pub(super) fn resolve(
        &self,
        check: &Validator<'_>,
        reference: &Field<String>,
        scenario: NodeId,
    ) -> Option<T> {
        let names = self.entries.iter().map(|(name, ..)| name.as_str());
        let unreadable = self.entries.iter().any(|(name, ..)| name.is_empty());
        let (name, _, value) = match reference {
            _ if unreadable => return None,
            Field::Invalid(_) => return None,
            Field::Present(reference) => {
                let found = self.entries.iter().find(|(name, ..)| *name == reference.value);
                if found.is_none() {
                    check.problem(
                        reference.node,
                        hints::unknown_reference(noun(self.kind), &reference.value, names),
                    );
                }
                found?
            }
            Field::Absent => match self.entries.as_slice() {
                [only] => only,
                [] => return None,
                _ => {
                    let list = hints::or_list(names);
                    check.problem(
                        scenario,
                        format!("`{}` is missing, and there are several; write {list}", self.kind),
                    );
                    for (name, ..) in &self.entries {
                        self.used.borrow_mut().insert(name.clone());
                    }
                    return None;
                }
            },
        };
        self.used.borrow_mut().insert(name.clone());
        value.clone()
    }
}

/// What a scenario's key refers to, in a sentence.
pub(super) fn noun(kind: &str) -> &str {
    if kind == "prompts" { "source of prompts" } else { kind }
}
