//! The document as the user wrote it: a tree of nodes in the order of the text. A duplicate key has
//! a second node.
//!
//! The id of a node is its index in one vector. This module finds the path of a key from the id,
//! and [`super::yaml`] finds the line and column.

use std::fmt;

use super::user_info::without_user_info;
use crate::random::Fnv;

/// The index of a node, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    pub const ROOT: NodeId = NodeId(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A parsed document.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    parent: NodeId,
    step: Step,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Root,
    /// A key of a map. The next node is its value.
    Key,
    /// A value of a map. The previous node is its key.
    Entry,
    /// An item of a list, with its index.
    Item(usize),
}

#[derive(Clone, Debug)]
pub enum Value {
    /// No value, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Integer(i128),
    /// A number with a fraction, or a number too large for `Integer`.
    Float(f64),
    /// Any other scalar.
    Text(Text),
    List(Vec<NodeId>),
    /// The value has a mistake that is already recorded, such as a variable that is not set.
    Unknown,
    /// Keys and values. A key is always [`Value::Text`].
    Map(Vec<(NodeId, NodeId)>),
}

/// A text of the file, before and after the substitution of variables such as `${NAME}`.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text in the file. It contains no values of variables, so llmload can show it.
    pub written: String,
    /// The text after the substitution. `None` if both are equal.
    pub substituted: Option<Substituted>,
}

/// A text in which the value of the variable replaces each `${NAME}`, and `$` replaces each `$$`.
#[derive(Clone)]
pub struct Substituted {
    pub text: String,
    /// True if the text contains the value of a variable, which can be a secret.
    pub from_variable: bool,
}

impl fmt::Debug for Substituted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Substituted(***)")
    }
}

impl Text {
    /// Returns the text after the substitution of variables.
    pub fn as_str(&self) -> &str {
        self.substituted.as_ref().map_or(&self.written, |substituted| &substituted.text)
    }
}

impl Tree {
    /// Adds a node with the value `Null`, which [`Tree::set`] replaces.
    pub(super) fn push(&mut self, parent: NodeId, step: Step) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { parent, step, value: Value::Null });
        id
    }

    pub(super) fn set(&mut self, id: NodeId, value: Value) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.value = value;
        }
    }

    /// Removes the entries without a value from all maps, so that an empty key counts as absent.
    pub(super) fn remove_empty_entries(&mut self) {
        let is_empty = |node: &Node| matches!(node.value, Value::Null);
        let empty: Vec<bool> = self.nodes.iter().map(is_empty).collect();
        for node in &mut self.nodes {
            if let Value::Map(entries) = &mut node.value {
                entries.retain(|(_, value)| !empty.get(value.index()).is_some_and(|empty| *empty));
            }
        }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the value of a node, or [`Value::Null`] for an unknown id.
    pub fn value(&self, id: NodeId) -> &Value {
        self.nodes.get(id.index()).map_or(&Value::Null, |node| &node.value)
    }

    pub fn text(&self, id: NodeId) -> Option<&Text> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn key(&self, id: NodeId) -> &str {
        self.text(id).map_or("", |text| text.written.as_str())
    }

    pub fn get(&self, map: NodeId, key: &str) -> Option<NodeId> {
        match self.value(map) {
            Value::Map(entries) => {
                entries.iter().find(|(k, _)| self.key(*k) == key).map(|(_, value)| *value)
            }
            _ => None,
        }
    }

    /// Returns the FNV-1a hash of all values after the substitution of variables. Comments and
    /// layout do not change the hash. It is the same on every machine and in every release, so a
    /// user can compare several daemons.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut add = |kind: u8, bytes: &[u8]| {
            // Without the kind and the length, the values `ab`, `c` and the values `a`, `bc` would
            // have the same hash.
            let length = (bytes.len() as u64).to_le_bytes();
            hash.update(&[kind]);
            hash.update(&length);
            hash.update(bytes);
        };
        for node in &self.nodes {
            match &node.value {
                Value::Null | Value::Unknown => add(0, &[]),
                Value::Bool(value) => add(1, &[u8::from(*value)]),
                Value::Integer(value) => add(2, &value.to_le_bytes()),
                Value::Float(value) => add(3, &value.to_le_bytes()),
                Value::Text(text) => add(4, text.as_str().as_bytes()),
                Value::List(items) => add(5, &(items.len() as u64).to_le_bytes()),
                Value::Map(entries) => add(6, &(entries.len() as u64).to_le_bytes()),
            }
        }
        hash.0
    }

    /// Returns all texts of the document, except the keys of maps.
    pub(super) fn value_texts_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Text)> {
        self.nodes.iter_mut().zip(0u32..).filter_map(|(node, id)| match &mut node.value {
            Value::Text(text) if node.step != Step::Key => Some((NodeId(id), text)),
            _ => None,
        })
    }

    /// Returns the node whose position a message shows: the key of a map or list, or else the node
    /// itself.
    pub fn reported_node(&self, id: NodeId) -> NodeId {
        match (self.value(id), self.nodes.get(id.index()).map(|node| node.step)) {
            (Value::Map(_) | Value::List(_), Some(Step::Entry)) => NodeId(id.0.saturating_sub(1)),
            _ => id,
        }
    }

    /// Returns the parent of a node; for the root, the root.
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.nodes.get(id.index()).map_or(NodeId::ROOT, |node| node.parent)
    }

    /// Returns the key of a value in a map.
    pub fn key_of(&self, id: NodeId) -> Option<&str> {
        match self.nodes.get(id.index())?.step {
            Step::Entry => Some(self.key(NodeId(id.0.saturating_sub(1)))),
            _ => None,
        }
    }

    /// Returns the path of a node, such as `scenarios.baseline.schedule[1].ramp.to`.
    pub fn path(&self, id: NodeId) -> String {
        let step = self.nodes.get(id.index()).map_or(Step::Root, |node| node.step);
        let key = match step {
            Step::Root => return String::new(),
            Step::Item(index) => return format!("{}[{index}]", self.path(self.parent(id))),
            Step::Key => id,
            Step::Entry => NodeId(id.0.saturating_sub(1)),
        };
        let above = self.path(self.parent(id));
        let dot = if above.is_empty() { "" } else { "." };
        format!("{above}{dot}{}", excerpt(self.key(key)))
    }
}

/// Returns the start of a text for a message: at most 64 characters, without control characters and
/// without the passwords of URLs. The name of a special space replaces the space, so that a person
/// sees it.
pub fn excerpt(text: &str) -> String {
    const LIMIT: usize = 64;
    let shown = without_user_info(text);
    // Zero-width characters, and the byte order mark.
    let has_no_width =
        |letter: char| matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let mut safe: String = shown
        .chars()
        .take(LIMIT)
        .map(|letter| match letter {
            '\u{a0}' => "[no-break space]".to_owned(),
            letter if letter.is_control() => '\u{fffd}'.to_string(),
            letter if has_no_width(letter) || letter.is_whitespace() && letter != ' ' => {
                format!("[U+{:04X}]", u32::from(letter))
            }
            letter => letter.to_string(),
        })
        .collect();
    if shown.chars().nth(LIMIT).is_some() {
        safe.push('…');
    }
    safe
}
