//! Sources of prompts: written in place, or read from files.

use super::Checker;
use crate::config::document::{self, Source, SourceKeys};
use crate::config::field::{Field, List};
use crate::config::tree::NodeId;
use crate::prompts::{self, LoadError, Order, Prompts};

impl Checker<'_> {
    /// A source by name.
    pub(super) fn source(&self, name: &str, source: &Source, node: NodeId) -> Option<Prompts> {
        match source {
            Source::List(list) => self.inline(name, node, list),
            Source::Map(keys) => self.source_keys(name, keys, node),
        }
    }

    /// Prompts written in place.
    pub(super) fn inline(&self, name: &str, node: NodeId, list: &List<String>) -> Option<Prompts> {
        self.texts(node, list).and_then(|texts| Prompts::new(name, texts, Order::Sequential))
    }

    fn texts(&self, node: NodeId, list: &List<String>) -> Option<Vec<String>> {
        if list.0.is_empty() {
            self.problem(node, "the list is empty; write at least one prompt");
            return None;
        }
        let texts: Vec<Option<String>> = list
            .0
            .iter()
            .map(|entry| {
                let at = entry.given()?;
                if at.value.trim().is_empty() {
                    self.problem(at.node, "the prompt is blank; write one");
                    return None;
                }
                Some(at.value.clone())
            })
            .collect();
        texts.into_iter().collect()
    }

    fn source_keys(&self, name: &str, keys: &SourceKeys, node: NodeId) -> Option<Prompts> {
        let order = match &keys.order {
            Field::Bad(_) => None,
            Field::Absent => Some(Order::Sequential),
            Field::Given(at) => Some(match at.value {
                document::Order::Sequential => Order::Sequential,
                document::Order::Random => Order::Random,
            }),
        };
        if let (Some(template), true) = (keys.template.node(), keys.pairs.is_absent()) {
            self.problem(template, "`template` without `pairs`; only pairs are put through a template");
        }
        let there = [keys.inline.node(), keys.lines.node(), keys.pairs.node()].into_iter().flatten().count();
        if there != 1 {
            let message = if there == 0 {
                "the source has no prompts; write one of `inline: […]`, `lines: FILE`, `pairs: FILE`"
            } else {
                "the source has more than one origin; write one of `inline`, `lines`, `pairs`"
            };
            self.problem(node, message);
            return None;
        }
        let texts = if let Some(list) = keys.inline.given() {
            self.texts(list.node, &list.value)?
        } else if let Some(file) = keys.lines.given() {
            self.loaded(file.node, prompts::lines(&self.path(&file.value)))?
        } else {
            let file = keys.pairs.given()?;
            let template = match &keys.template {
                Field::Bad(_) => return None,
                Field::Absent => prompts::DEFAULT_TEMPLATE,
                Field::Given(at) => &at.value,
            };
            let read = prompts::pairs(&self.path(&file.value), template);
            let at = match (&read, keys.template.node()) {
                (Err(LoadError::Template(_)), Some(template)) => template,
                _ => file.node,
            };
            self.loaded(at, read)?
        };
        Prompts::new(name, texts, order?)
    }

    fn loaded(&self, node: NodeId, read: Result<Vec<String>, LoadError>) -> Option<Vec<String>> {
        read.map_err(|error| self.problem(node, error.to_string())).ok()
    }
}
