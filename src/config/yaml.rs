//! Builds a [`Tree`] from a YAML text, finds the line and column of a node, and writes a tree as
//! text. No other module uses the YAML crate.
//!
//! The crate reports a position only in an error. To find the position of a node, [`locate`] parses
//! the text again and returns an error at this node on purpose. So each problem costs one more
//! parse; a valid file costs none.

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::nesting;
use super::problem::{Mistake, MistakeAt, Position, ProblemKind};
use super::tree::{NodeId, Step, Text, Tree, Value, excerpt};
use super::user_info::without_user_info;

/// The size of the largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The remedy for a file without content. It shows the shortest valid file.
pub const SHORTEST_FILE: &str = "write at least `target: http://localhost:8000/v1` and `rate: 5/s`";
const PROMPTS_ELSEWHERE: &str = "move the prompts to separate files";
const FEWER_ENTRIES: &str =
    "move prompts to separate files, and write equal phases once, with `repeat` and `phases`";
/// The highest number of nested lists and maps.
pub const MAX_DEPTH: usize = 32;
/// The highest number of nodes. A YAML alias counts at each use.
pub const MAX_NODES: usize = 20_000;

/// A mistake after which the YAML parser cannot continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The place where the parser stopped.
    pub position: Position,
    pub mistake: Mistake,
}

/// Parses a text with one document. After two kinds of mistakes, parsing continues: a duplicate
/// key, whose first value is kept, and a number that is not finite.
///
/// # Errors
/// If the text is not valid YAML, is not exactly one document, or exceeds one of the limits of this
/// module.
pub fn read(text: &str) -> Result<(Tree, Vec<MistakeAt>), Malformed> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        let message = format!("the file is larger than {} KiB", MAX_BYTES / 1024);
        let mistake = Mistake::new(message, PROMPTS_ELSEWHERE).of_kind(ProblemKind::Syntax);
        return Err(Malformed { position: start, mistake });
    }
    if let Some((position, mistake)) = nesting::find_fault(text, MAX_DEPTH) {
        return Err(Malformed { position, mistake: mistake.of_kind(ProblemKind::Syntax) });
    }
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let empty = || Malformed {
        position: start,
        mistake: Mistake::new("the file is empty", SHORTEST_FILE).of_kind(ProblemKind::Syntax),
    };
    let first = documents.next().ok_or_else(empty)?;
    let mut build = TreeBuilder::new(None);
    NodeSeed { build: &mut build, parent: NodeId::ROOT, step: Step::Root, depth: 0 }
        .deserialize(first)
        .map_err(|error| build.malformed(&error))?;
    if let Value::Null = build.tree.value(NodeId::ROOT) {
        return Err(empty());
    }
    // A `---` at the end begins an empty document, which is allowed.
    for further in documents {
        let mut again = TreeBuilder::new(Some(NodeId::ROOT));
        again.own_mistake =
            Some(Mistake::new("a second document begins here", "write one document per file"));
        let seed = NodeSeed { build: &mut again, parent: NodeId::ROOT, step: Step::Root, depth: 0 };
        if let Err(error) = seed.deserialize(further) {
            return Err(again.malformed(&error));
        }
    }
    Ok((build.tree, build.mistakes))
}

/// Returns the position of a node. Its tree must come from `text`.
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

/// Writes the tree as YAML. `***` replaces each node for which `mask` returns true, and the user
/// and password of each URL.
pub fn write(tree: &Tree, mask: &dyn Fn(NodeId) -> bool) -> String {
    serde_yaml::to_string(&MaskedTree { tree, node: NodeId::ROOT, mask }).unwrap_or_default()
}

/// Writes a JSON value as YAML.
pub fn print(value: &serde_json::Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

struct TreeBuilder {
    tree: Tree,
    mistakes: Vec<MistakeAt>,
    /// The node at which the builder returns an error on purpose, for [`locate`].
    stop_at: Option<NodeId>,
    /// The cause of the current error. llmload shows it instead of the message of the crate, which
    /// contains the path of the node.
    own_mistake: Option<Mistake>,
}

impl TreeBuilder {
    fn new(stop_at: Option<NodeId>) -> TreeBuilder {
        TreeBuilder { tree: Tree::default(), mistakes: Vec::new(), stop_at, own_mistake: None }
    }

    fn fail<E: de::Error>(&mut self, message: &str, remedy: &str) -> E {
        self.own_mistake = Some(Mistake::new(message, remedy));
        E::custom(message)
    }

    fn malformed(&self, error: &serde_yaml::Error) -> Malformed {
        let position = error.location().map_or(Position { line: 1, column: 1 }, |at| Position {
            line: at.line().max(1),
            column: at.column().max(1),
        });
        let mistake = self.own_mistake.clone().unwrap_or_else(|| syntax(&error.to_string()));
        Malformed { position, mistake: mistake.of_kind(ProblemKind::Syntax) }
    }
}

/// Turns an error message of the parser into a mistake without a position, and adds a remedy to a
/// message that often confuses people. The parser has no error kinds, so only the text can be
/// compared.
fn syntax(message: &str) -> Mistake {
    let bare = message.split(" at line ").next().unwrap_or(message);
    let remedy = if bare.contains("cannot start any token") {
        "indent with spaces, not tabs, and quote text that begins with `@` or a backtick"
    } else if bare.contains("mapping values are not allowed") {
        "quote text that contains `: `"
    } else if bare.contains("repetition limit") {
        "use fewer aliases of aliases"
    } else if bare.contains("recursion limit") {
        "nest less deeply"
    } else {
        ""
    };
    let mistake = Mistake::without_remedy(format!("the file is not valid YAML: {}", excerpt(bare)));
    let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
    Mistake { remedy, ..mistake }
}

/// Deserializes a node into the tree.
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
        let is_key = self.step == Step::Key;
        from.deserialize_any(NodeVisitor { build: self.build, id, depth, is_key })
    }
}

struct NodeVisitor<'b> {
    build: &'b mut TreeBuilder,
    id: NodeId,
    depth: usize,
    is_key: bool,
}

impl NodeVisitor<'_> {
    /// Checks the limits. At the node of [`locate`], it returns an error, to which the YAML crate
    /// adds the position.
    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        if self.build.stop_at == Some(self.id) {
            return Err(E::custom("here"));
        }
        if self.build.tree.len() > MAX_NODES {
            let message =
                "the file has too many entries (each use of an alias counts its entries again)";
            return Err(self.build.fail(message, FEWER_ENTRIES));
        }
        if self.depth > MAX_DEPTH {
            return Err(self.build.fail("the file is nested too deeply", "nest at most 32 levels"));
        }
        Ok(())
    }

    fn child(&mut self, step: Step) -> NodeSeed<'_> {
        NodeSeed { step, parent: self.id, depth: self.depth + 1, build: self.build }
    }

    fn leaf<E: de::Error>(mut self, value: Value) -> Result<NodeId, E> {
        self.enter()?;
        if self.is_key && !matches!(value, Value::Text(_)) {
            return Err(self.build.fail("a key must be text", "put it in quotes"));
        }
        self.build.tree.set(self.id, value);
        Ok(self.id)
    }
}

#[allow(clippy::cast_precision_loss)]
impl<'de> Visitor<'de> for NodeVisitor<'_> {
    type Value = NodeId;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<NodeId, E> {
        // The position of an empty document appears in no message.
        if self.id == NodeId::ROOT { Ok(self.id) } else { self.leaf(Value::Null) }
    }

    fn visit_none<E: de::Error>(self) -> Result<NodeId, E> {
        self.visit_unit()
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
        if !value.is_finite() && !self.is_key {
            let mistake = Mistake::new("the number is not finite", "write a finite number");
            self.build.mistakes.push(MistakeAt { node: self.id, mistake });
            return self.leaf(Value::Unknown);
        }
        self.leaf(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<NodeId, E> {
        self.leaf(Value::Text(Text { written: value.to_owned(), substituted: None }))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        if self.is_key {
            return Err(self.build.fail("a list cannot be a key", "write a name"));
        }
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.child(Step::Item(list.len())))? {
            list.push(item);
        }
        self.build.tree.set(self.id, Value::List(list));
        Ok(self.id)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        if self.is_key {
            return Err(self.build.fail("a map cannot be a key", "write a name"));
        }
        let mut map = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key_seed(self.child(Step::Key))? {
            let value = entries.next_value_seed(self.child(Step::Entry))?;
            if seen.insert(self.build.tree.key(key).to_owned()) {
                map.push((key, value));
            } else {
                let message =
                    format!("the key `{}` appears twice", excerpt(self.build.tree.key(key)));
                let mistake = Mistake::new(message, "remove one of them");
                self.build.mistakes.push(MistakeAt { node: key, mistake });
            }
        }
        self.build.tree.set(self.id, Value::Map(map));
        Ok(self.id)
    }

    fn visit_enum<A: de::EnumAccess<'de>>(mut self, _: A) -> Result<NodeId, A::Error> {
        self.enter()?;
        Err(self.build.fail("llmload does not support tags such as `!name`", "remove the tag"))
    }
}

struct MaskedTree<'a> {
    tree: &'a Tree,
    node: NodeId,
    mask: &'a dyn Fn(NodeId) -> bool,
}

impl Serialize for MaskedTree<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let child = |node| MaskedTree { node, ..*self };
        if (self.mask)(self.node) {
            return to.serialize_str("***");
        }
        match self.tree.value(self.node) {
            Value::Null | Value::Unknown => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Integer(value) => to.serialize_i128(*value),
            Value::Float(value) => to.serialize_f64(*value),
            Value::Text(text) => to.serialize_str(&without_user_info(&text.written)),
            Value::List(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&child(*item)))?;
                list.end()
            }
            Value::Map(entries) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&child(*key), &child(*value))?;
                }
                map.end()
            }
        }
    }
}
