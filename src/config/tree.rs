//! The document as the user wrote it: every node in the order of the text, duplicate keys included.
//!
//! Nodes are in one arena, and the id of a node is its index. A later step needs only this id to
//! name a place: this module derives the path from it, and [`super::yaml`] finds line and column by
//! reading the text again up to the same node.

use std::fmt;

use crate::random::Fnv;

/// The index of a node, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The whole document.
    pub const ROOT: NodeId = NodeId(0);

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A document.
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

/// The relation of a node to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The node has no parent.
    Root,
    /// The key of an entry. Its value, if it has one, is the next node.
    Key,
    /// The value of an entry. Its key is the node before.
    Entry,
    /// An item of a list, with its index.
    Item(usize),
}

/// The value of a node.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Integer(i128),
    /// A number with a fraction, or one too large for an integer.
    Float(f64),
    /// Any other scalar.
    Text(Text),
    /// A sequence.
    List(Vec<NodeId>),
    /// A value with a problem that has been reported, such as a variable that is not set.
    Unknown,
    /// Keys and values. A key is always [`Value::Text`].
    Map(Vec<(NodeId, NodeId)>),
}

/// A text, before and after `${NAME}` was filled.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text in the file. It is safe to show.
    pub written: String,
    /// The text with variables filled, if that differs.
    pub filled: Option<Filled>,
}

/// A text in which `${…}` or `$$` was replaced.
#[derive(Clone)]
pub struct Filled {
    /// The whole text.
    pub text: String,
    /// True if a variable is part of it. If so, the text may be a secret, and the file does not
    /// have it.
    pub from_variable: bool,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filled(***)")
    }
}

impl Text {
    /// The text with variables filled.
    pub fn as_str(&self) -> &str {
        self.filled.as_ref().map_or(&self.written, |filled| &filled.text)
    }
}

impl Tree {
    /// Adds a node without a value. [`Tree::set`] adds the value.
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

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The value of a node; [`Value::Null`] for an unknown id.
    pub fn value(&self, id: NodeId) -> &Value {
        self.nodes.get(id.index()).map_or(&Value::Null, |node| &node.value)
    }

    /// The text of a node, if its value is a text.
    pub fn text(&self, id: NodeId) -> Option<&Text> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key node.
    pub fn key(&self, id: NodeId) -> &str {
        self.text(id).map_or("", |text| text.written.as_str())
    }

    /// The value of `key` in a map.
    pub fn get(&self, map: NodeId, key: &str) -> Option<NodeId> {
        match self.value(map) {
            Value::Map(entries) => {
                entries.iter().find(|(k, _)| self.key(*k) == key).map(|(_, value)| *value)
            }
            _ => None,
        }
    }

    /// Returns the FNV-1a hash of all values with variables filled. Comments and layout do not
    /// affect it. It is the same on every machine and in every release, so daemons can be compared.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut add = |kind: u8, bytes: &[u8]| {
            // Kind and length in front keep neighbouring values apart: `ab`, `c` is not `a`, `bc`.
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

    /// The texts that are values, without the keys.
    pub(super) fn value_texts_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Text)> {
        self.nodes.iter_mut().zip(0u32..).filter_map(|(node, id)| match &mut node.value {
            Value::Text(text) if node.step != Step::Key => Some((NodeId(id), text)),
            _ => None,
        })
    }

    /// Returns the node at whose position a problem of this node is reported: the value itself, or
    /// for a whole map or list its key.
    pub fn anchor(&self, id: NodeId) -> NodeId {
        match (self.value(id), self.nodes.get(id.index()).map(|node| node.step)) {
            (Value::Map(_) | Value::List(_), Some(Step::Entry)) => NodeId(id.0.saturating_sub(1)),
            _ => id,
        }
    }

    /// The parent of a node. The root is its own parent.
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.nodes.get(id.index()).map_or(NodeId::ROOT, |node| node.parent)
    }

    /// The path of a node: `scenarios.baseline.schedule[1].ramp.to`.
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

/// Makes a text from a file fit for a message: at most 64 characters, without control characters.
pub fn excerpt(text: &str) -> String {
    const LIMIT: usize = 64;
    let mut safe: String =
        text.chars().take(LIMIT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LIMIT).is_some() {
        safe.push('…');
    }
    safe
}
