//! The one place that knows the YAML crate: text to [`Tree`], a node's line and column, and back
//! to text.
//!
//! The crate gives positions to errors only. So a position is found by reading the text a second
//! time and failing on purpose at the node in question; the crate then says where that was. It
//! costs one more pass, and only for a file that has problems.

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::tree::{NodeId, Step, Text, Tree, Value, excerpt};

/// The largest file, in bytes. Checked before anything is parsed.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// The most nodes, once aliases are followed.
pub const MAX_NODES: usize = 20_000;

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1; 0 where there is no text to point at.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where it was noticed.
    pub position: Position,
    /// What is wrong and, after a semicolon, what would be right.
    pub message: String,
}

/// Reads one document, and what is wrong in it without keeping the rest from being read: a key that
/// stands a second time in its map, of which the tree holds what the first says, and a number that is
/// none.
///
/// # Errors
/// Where the text is not YAML, not one document, or beyond the bounds above.
pub fn read(text: &str) -> Result<(Tree, Vec<(NodeId, String)>), Malformed> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        let message = format!(
            "the file is larger than {} KiB; keep prompts in files of their own",
            MAX_BYTES / 1024
        );
        return Err(Malformed { position: start, message });
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let empty = || Malformed {
        position: start,
        message: "the file is empty; at its shortest it says `target: http://localhost:8000/v1` \
                  and `rate: 5/s`"
            .into(),
    };
    let first = documents.next().ok_or_else(empty)?;
    let mut build = TreeBuilder::new(None);
    NodeSeed { build: &mut build, parent: NodeId::ROOT, step: Step::Root, depth: 0 }
        .deserialize(first)
        .map_err(|error| build.malformed(&error))?;
    if let Value::Null = build.tree.value(NodeId::ROOT) {
        return Err(empty());
    }
    if let Some(second) = documents.next() {
        let mut again = TreeBuilder::new(Some(NodeId::ROOT));
        again.fault = Some("a second document begins here; write one document a file".into());
        let seed = NodeSeed { build: &mut again, parent: NodeId::ROOT, step: Step::Root, depth: 0 };
        // A trailing `---` or `...` with nothing after it does no harm.
        if let Err(error) = seed.deserialize(second) {
            return Err(again.malformed(&error));
        }
    }
    Ok((build.tree, build.wrong))
}

/// Where a node of this text stands.
pub fn locate(text: &str, node: NodeId) -> Position {
    let mut build = TreeBuilder::new(Some(node));
    let seed = NodeSeed { build: &mut build, parent: NodeId::ROOT, step: Step::Root, depth: 0 };
    let found = serde_yaml::Deserializer::from_str(text)
        .next()
        .and_then(|document| seed.deserialize(document).err())
        .and_then(|error| error.location());
    found.map_or(Position { line: 1, column: 1 }, |at| Position {
        line: at.line(),
        column: at.column(),
    })
}

/// The document as text again, with each value that `mask` names replaced by `***`.
pub fn write(tree: &Tree, mask: &dyn Fn(NodeId) -> bool) -> String {
    serde_yaml::to_string(&MaskedTree { tree, node: NodeId::ROOT, mask }).unwrap_or_default()
}

/// A value as text.
pub fn print(value: &serde_json::Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

struct TreeBuilder {
    tree: Tree,
    /// What is wrong here and there, in words.
    wrong: Vec<(NodeId, String)>,
    /// Fail here, so that the crate tells the position.
    stop_at: Option<NodeId>,
    /// Our own words for the error under way; the crate's have its path mixed in.
    fault: Option<String>,
}

impl TreeBuilder {
    fn new(stop_at: Option<NodeId>) -> TreeBuilder {
        TreeBuilder { tree: Tree::default(), wrong: Vec::new(), stop_at, fault: None }
    }

    fn refuse<E: de::Error>(&mut self, message: &str) -> E {
        self.fault = Some(message.to_owned());
        E::custom(message)
    }

    fn malformed(&self, error: &serde_yaml::Error) -> Malformed {
        let position = error.location().map_or(Position { line: 1, column: 1 }, |at| Position {
            line: at.line().max(1),
            column: at.column().max(1),
        });
        let message = self.fault.clone().unwrap_or_else(|| syntax(&error.to_string()));
        Malformed { position, message }
    }
}

/// The parser's words without its own account of the position, and with a remedy where its words
/// are known to puzzle people.
fn syntax(message: &str) -> String {
    let bare = message.split(" at line ").next().unwrap_or(message);
    let remedy = if bare.contains("cannot start any token") {
        "; indent with spaces, not tabs, and quote text that begins with `@` or a backtick"
    } else if bare.contains("mapping values are not allowed") {
        "; quote text that contains `: `"
    } else if bare.contains("repetition limit") {
        "; aliases multiply beyond every bound"
    } else if bare.contains("recursion limit") {
        "; it is nested too deeply"
    } else {
        ""
    };
    format!("not valid YAML: {}{remedy}", excerpt(bare))
}

/// One node about to be read.
struct NodeSeed<'b> {
    build: &'b mut TreeBuilder,
    parent: NodeId,
    step: Step,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = NodeId;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<NodeId, D::Error> {
        let id = self.build.tree.push(self.parent, self.step);
        let depth = self.depth;
        let key = self.step == Step::Key;
        from.deserialize_any(Node { build: self.build, id, depth, key })
    }
}

struct Node<'b> {
    build: &'b mut TreeBuilder,
    id: NodeId,
    depth: usize,
    key: bool,
}

impl Node<'_> {
    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        if self.build.stop_at == Some(self.id) {
            return Err(E::custom("here"));
        }
        if self.build.tree.len() > MAX_NODES {
            return Err(self.build.refuse(
                "the file has too many entries, counting each use of an alias; \
                 keep prompts in files of their own",
            ));
        }
        if self.depth > MAX_DEPTH {
            return Err(self.build.refuse("it is nested too deeply; 32 levels are allowed"));
        }
        Ok(())
    }

    fn below(&mut self, step: Step) -> NodeSeed<'_> {
        NodeSeed { step, parent: self.id, depth: self.depth + 1, build: self.build }
    }

    fn leaf<E: de::Error>(mut self, value: Value) -> Result<NodeId, E> {
        self.enter()?;
        if self.key && !matches!(value, Value::Text(_)) {
            return Err(self.build.refuse("a key must be text; put it in quotes"));
        }
        self.build.tree.set(self.id, value);
        Ok(self.id)
    }
}

#[allow(clippy::cast_precision_loss)]
impl<'de> Visitor<'de> for Node<'_> {
    type Value = NodeId;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<NodeId, E> {
        self.leaf(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<NodeId, E> {
        self.leaf(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<NodeId, E> {
        self.leaf(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<NodeId, E> {
        self.leaf(Value::Integer(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<NodeId, E> {
        self.leaf(Value::Integer(value.into()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<NodeId, E> {
        self.leaf(i128::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<NodeId, E> {
        self.leaf(Value::Integer(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<NodeId, E> {
        if !value.is_finite() && !self.key {
            let message = "not a finite number; write one, nothing here is infinite";
            self.build.wrong.push((self.id, message.to_owned()));
            return self.leaf(Value::Unknown);
        }
        self.leaf(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<NodeId, E> {
        self.leaf(Value::Text(Text { written: value.to_owned(), filled: None }))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        if self.key {
            return Err(self.build.refuse("a key must be text, not a list"));
        }
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below(Step::Item(list.len())))? {
            list.push(item);
        }
        self.build.tree.set(self.id, Value::List(list));
        Ok(self.id)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        if self.key {
            return Err(self.build.refuse("a key must be text, not a map"));
        }
        let mut map = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key_seed(self.below(Step::Key))? {
            let value = entries.next_value_seed(self.below(Step::Entry))?;
            if seen.insert(self.build.tree.key(key).to_owned()) {
                map.push((key, value));
            } else {
                let message = format!(
                    "the key `{}` stands twice; keep one",
                    excerpt(self.build.tree.key(key))
                );
                self.build.wrong.push((key, message));
            }
        }
        self.build.tree.set(self.id, Value::Map(map));
        Ok(self.id)
    }

    fn visit_enum<A: de::EnumAccess<'de>>(mut self, _: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        Err(self.build.refuse("tags such as `!name` have no meaning here; leave it out"))
    }
}

struct MaskedTree<'a> {
    tree: &'a Tree,
    node: NodeId,
    mask: &'a dyn Fn(NodeId) -> bool,
}

impl Serialize for MaskedTree<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let at = |node| MaskedTree { node, ..*self };
        if (self.mask)(self.node) {
            return to.serialize_str("***");
        }
        match self.tree.value(self.node) {
            Value::Null | Value::Unknown => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Integer(value) => to.serialize_i128(*value),
            Value::Float(value) => to.serialize_f64(*value),
            Value::Text(text) => to.serialize_str(&text.written),
            Value::List(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&at(*item)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&at(*key), &at(*value))?;
                }
                map.end()
            }
        }
    }
}
