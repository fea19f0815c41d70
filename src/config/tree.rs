//! The document as it was written: every node in the order of the text, duplicates and all.
//!
//! Nodes lie in one arena and are named by their place in it. That number is all a later stage
//! has to carry to say where something stands: the path follows from it here, line and column by
//! reading the text again up to the same node (see [`super::yaml`]).

use std::fmt;

use crate::random::Fnv;

/// A node's place in the order of the text.
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

/// How a node hangs on its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has none.
    Root,
    /// The key of an entry. Its value, if it has one, is the next node.
    Key,
    /// The value of an entry. Its key is the node before.
    Entry,
    /// In a list.
    Item(usize),
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing was written.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Integer(i128),
    /// A number with one.
    Float(f64),
    /// Anything else that is not a collection.
    Text(Text),
    /// A sequence.
    List(Vec<NodeId>),
    /// Something that has been reported already, such as a variable that is not set.
    Unknown,
    /// Keys and values. A key is always [`Value::Text`].
    Map(Vec<(NodeId, NodeId)>),
}

/// A piece of text, before and after `${NAME}` was filled.
#[derive(Clone, Debug)]
pub struct Text {
    /// As the file has it; safe to show.
    pub written: String,
    /// What it stands for, where that differs.
    pub filled: Option<Substituted>,
}

/// Text that `${…}` or `$$` was replaced in.
#[derive(Clone)]
pub struct Substituted {
    /// The whole text.
    pub text: String,
    /// Whether a variable took part: then the text may be a secret, and is not in the file.
    pub from_variable: bool,
}

impl fmt::Debug for Substituted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Substituted(***)")
    }
}

impl Text {
    /// What it stands for.
    pub fn as_str(&self) -> &str {
        self.filled.as_ref().map_or(&self.written, |filled| &filled.text)
    }
}

impl Tree {
    /// Takes the next number; the value follows by [`Tree::set`].
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

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What a node holds.
    pub fn value(&self, id: NodeId) -> &Value {
        self.nodes.get(id.index()).map_or(&Value::Null, |node| &node.value)
    }

    /// The text of a node, if it is one.
    pub fn text(&self, id: NodeId) -> Option<&Text> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a key.
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

    /// FNV-1a over what stands there once variables are filled, whatever its comments and layout: the
    /// same on every machine and in every release, so that fleets can be compared.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut add = |kind: u8, bytes: &[u8]| {
            // With its kind and length, no value runs into the next.
            let length = (bytes.len() as u64).to_le_bytes();
            hash.add(&[kind]);
            hash.add(&length);
            hash.add(bytes);
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

    /// The texts that are values, not keys.
    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Text)> {
        self.nodes.iter_mut().zip(0u32..).filter_map(|(node, id)| match &mut node.value {
            Value::Text(text) if node.step != Step::Key => Some((NodeId(id), text)),
            _ => None,
        })
    }

    /// Where a reader looks for a problem with this node: at the value itself, or for a whole
    /// collection at the key that holds it.
    pub fn anchor(&self, id: NodeId) -> NodeId {
        match (self.value(id), self.nodes.get(id.index()).map(|node| node.step)) {
            (Value::Map(_) | Value::List(_), Some(Step::Entry)) => NodeId(id.0.saturating_sub(1)),
            _ => id,
        }
    }

    /// What a node hangs on; the root hangs on itself.
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.nodes.get(id.index()).map_or(NodeId::ROOT, |node| node.parent)
    }

    /// The path to a node: `scenarios.baseline.schedule[1].ramp.to`.
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

/// Text from a file made fit for a message: one line, without control characters, not long.
pub fn excerpt(text: &str) -> String {
    const LIMIT: usize = 64;
    let mut safe: String =
        text.chars().take(LIMIT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LIMIT).is_some() {
        safe.push('…');
    }
    safe
}
