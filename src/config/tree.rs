//! The document as the user wrote it: a tree of nodes in the order of the text. If a key appears
//! twice in a map, the tree has a node for each of the two.
//!
//! One vector contains all nodes, and the id of a node is its index in the vector. The id is enough
//! to find the place of a node: this module derives the path of the key from the id, and
//! [`super::yaml`] finds the line and column.

use std::fmt;

use super::user_info::without_user_info;
use crate::random::Fnv;

/// The index of a node, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The root node, which contains all others.
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

/// The relation of a node to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The node has no parent.
    Root,
    /// The node is the key of a map entry. The value of the entry is the next node.
    Key,
    /// The node is the value of a map entry. The key of the entry is the previous node.
    Entry,
    /// The node is an item of a list, with this index.
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
    /// A number with a fraction, or a number that is too large for `Integer`.
    Float(f64),
    /// Any other scalar.
    Text(Text),
    /// A list of nodes.
    List(Vec<NodeId>),
    /// The value is not known because it has a mistake, such as a variable that is not set. The
    /// mistake is already recorded.
    Unknown,
    /// Keys and values. A key is always [`Value::Text`].
    Map(Vec<(NodeId, NodeId)>),
}

/// A text of the file, before and after the substitution of variables such as `${NAME}`.
#[derive(Clone, Debug)]
pub struct Text {
    /// The text in the file. llmload can show it, because it contains no values of variables.
    pub written: String,
    /// The text after the substitution. `None` if the substitution changes nothing.
    pub substituted: Option<Substituted>,
}

/// A text in which each `${NAME}` is replaced by the value of the variable, and each `$$` by `$`.
#[derive(Clone)]
pub struct Substituted {
    pub text: String,
    /// True if the text contains the value of a variable. Such a text is not in the file, and it
    /// can be a secret.
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
    /// Adds a node with the value `Null`, and returns its id. [`Tree::set`] sets the real value.
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

    /// Returns the value of a node, or [`Value::Null`] if the tree has no node with this id.
    pub fn value(&self, id: NodeId) -> &Value {
        self.nodes.get(id.index()).map_or(&Value::Null, |node| &node.value)
    }

    /// Returns the text of a node, if its value is a text.
    pub fn text(&self, id: NodeId) -> Option<&Text> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a node that is a key.
    pub fn key(&self, id: NodeId) -> &str {
        self.text(id).map_or("", |text| text.written.as_str())
    }

    /// Returns the value of `key` in a map, if `map` is a map and has this key.
    pub fn get(&self, map: NodeId, key: &str) -> Option<NodeId> {
        match self.value(map) {
            Value::Map(entries) => {
                entries.iter().find(|(k, _)| self.key(*k) == key).map(|(_, value)| *value)
            }
            _ => None,
        }
    }

    /// Returns the FNV-1a hash of all values after the substitution of variables. Comments and
    /// layout do not change the hash. Every release computes the same hash on every machine, so a
    /// user can compare the configurations of several daemons.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut add = |kind: u8, bytes: &[u8]| {
            // The hash covers the kind and the length of each value, and then the value. Without
            // kind and length, the values `ab`, `c` and the values `a`, `bc` would have the same
            // hash.
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

    /// Returns the node whose position a message about the node `id` shows. For a map or list under
    /// a key, this is the node of the key; for any other node, it is the node itself.
    pub fn reported_node(&self, id: NodeId) -> NodeId {
        match (self.value(id), self.nodes.get(id.index()).map(|node| node.step)) {
            (Value::Map(_) | Value::List(_), Some(Step::Entry)) => NodeId(id.0.saturating_sub(1)),
            _ => id,
        }
    }

    /// Returns the parent of a node. For the root, it returns the root.
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.nodes.get(id.index()).map_or(NodeId::ROOT, |node| node.parent)
    }

    /// Returns the key of a node that is the value of a map entry.
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

/// Returns the start of a text in a form that is safe in a message: at most 64 characters, with a
/// replacement character for each control character, and without the passwords of URLs. A person
/// cannot see a special space, so the result contains its name.
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
