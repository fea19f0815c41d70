//! Targets and sources by name, what scenarios refer to, and which of them nobody does.

use std::cell::RefCell;
use std::collections::HashSet;

use super::Checker;
use crate::config::field::{Field, Named};
use crate::config::hints;
use crate::config::tree::NodeId;

/// Things that scenarios refer to by name. `None` for one that is there and wrong.
pub(super) struct Register<T> {
    kind: &'static str,
    /// Name, node and value, in the order of the file. The name is empty for a map that could not
    /// be read.
    pub(super) entries: Vec<(String, NodeId, Option<T>)>,
    used: RefCell<HashSet<String>>,
}

impl Checker<'_> {
    /// Reads a map of things that scenarios refer to.
    pub(super) fn register<D, T>(
        &self,
        kind: &'static str,
        field: &Field<Named<D>>,
        read: impl Fn(&str, &D, NodeId) -> Option<T>,
    ) -> Register<T> {
        let entries = self
            .entries(field, kind)
            .map(|(name, document)| {
                let value = document.given().and_then(|at| read(name, &at.value, at.node));
                (name.to_owned(), document.node().unwrap_or(NodeId::ROOT), value)
            })
            .collect();
        // Where the whole map could not be read, nobody can say what is missing in it.
        let entries =
            if field.is_bad() { vec![(String::new(), NodeId::ROOT, None)] } else { entries };
        Register { kind, entries, used: RefCell::default() }
    }

    /// Warns of what no scenario refers to.
    pub(super) fn unused<T>(&self, register: &Register<T>) {
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

impl<T: Clone> Register<T> {
    /// Of nothing.
    pub(super) fn none(kind: &'static str) -> Register<T> {
        Register { kind, entries: Vec::new(), used: RefCell::default() }
    }

    /// Of one thing, good or bad.
    pub(super) fn one(kind: &'static str, name: &str, value: Option<T>) -> Register<T> {
        Register { entries: vec![(name.to_owned(), NodeId::ROOT, value)], ..Register::none(kind) }
    }

    /// What a scenario's reference means; the only one, where it has none.
    pub(super) fn resolve(
        &self,
        check: &Checker<'_>,
        reference: &Field<String>,
        at: NodeId,
    ) -> Option<T> {
        let names = self.entries.iter().map(|(name, ..)| name.as_str());
        let unreadable = self.entries.iter().any(|(name, ..)| name.is_empty());
        let (name, _, value) = match reference {
            _ if unreadable => return None,
            Field::Bad(_) => return None,
            Field::Given(reference) => {
                let found = self.entries.iter().find(|(name, ..)| *name == reference.value);
                if found.is_none() {
                    check.problem(
                        reference.node,
                        hints::dangling(noun(self.kind), &reference.value, names),
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
                        at,
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
