//! From the tree to typed documents: a serde deserializer that goes on after a mistake.
//!
//! A usual deserializer stops at the first error. This one reads a tree that is already in memory,
//! so a wrong value loses nothing but itself: [`Field`](super::field::Field) takes the error, the
//! reader notes it with its node, and the rest is read on. One pass finds every wrong value and
//! every unknown key.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::hints;
use super::tree::{NodeId, Text, Tree, Value, excerpt};

/// Newtype name by which a field asks for the node's id together with its value.
pub(super) const FIELD: &str = "$field";
/// Enum name by which a type chooses its variant by the node's shape: `text`, `list` or `map`.
pub(super) const SHAPE: &str = "$shape";

/// A problem before its place is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it is.
    pub node: NodeId,
    /// What is wrong and, after a semicolon, what would be right.
    pub message: String,
}

/// Findings so far.
pub type Findings = RefCell<Vec<Finding>>;

/// Why one value could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        ReadError(message.to_string())
    }

    // The value itself is left out on purpose: it may be a secret in the wrong place.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> ReadError {
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "a string" => "text",
            "a sequence" => "a list",
            "a boolean" => "`true` or `false`",
            other if other.starts_with("struct ") => "a map of keys and values",
            other => other,
        };
        let (what, quotes) = match found {
            Unexpected::Unit => ("nothing", false),
            Unexpected::Bool(_) => ("`true` or `false`", true),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => {
                ("a number", true)
            }
            Unexpected::Str(_) => ("text", false),
            Unexpected::Seq => ("a list", false),
            Unexpected::Map => ("a map", false),
            _ => ("something else", false),
        };
        let remedy = if quotes && wanted == "text" { "; put it in quotes" } else { "" };
        ReadError(format!("found {what} where {wanted} belongs{remedy}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> ReadError {
        ReadError::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> ReadError {
        let list = hints::or_list(expected.iter().copied());
        ReadError(format!("`{}` is not a choice here; write {list}", excerpt(variant)))
    }
}

/// One node, ready to be read.
#[derive(Clone, Copy)]
pub struct TreeDeserializer<'t> {
    tree: &'t Tree,
    node: NodeId,
    found: &'t Findings,
}

impl<'t> TreeDeserializer<'t> {
    /// Reads from the document's root.
    pub fn new(tree: &'t Tree, found: &'t Findings) -> TreeDeserializer<'t> {
        TreeDeserializer { tree, node: NodeId::ROOT, found }
    }

    fn at(self, node: NodeId) -> TreeDeserializer<'t> {
        TreeDeserializer { node, ..self }
    }

    fn note(self, error: &ReadError) {
        if let Value::Unknown = self.tree.value(self.node) {
            return;
        }
        let hint = if error.0.contains("; ") {
            None
        } else {
            hints::remedy_for_shape(&self.tree.path(self.node), self.tree.value(self.node))
        };
        let message = hint.map_or_else(|| error.0.clone(), |hint| format!("{}; {hint}", error.0));
        self.found.borrow_mut().push(Finding { node: self.node, message });
    }

    /// What a variable filled may serve as a number or a truth value too: YAML could not tell.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if let Some(Text { filled: Some(filled), .. }) = self.tree.text(self.node) {
            let text = filled.text.trim();
            if let Ok(value) = text.parse::<u64>() {
                return visitor.visit_u64(value);
            }
            if let Ok(value) = text.parse::<f64>() {
                return visitor.visit_f64(value);
            }
            if let Ok(value) = text.parse::<bool>() {
                return visitor.visit_bool(value);
            }
        }
        de::Deserializer::deserialize_any(self, visitor)
    }
}

impl<'de> de::Deserializer<'de> for TreeDeserializer<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.tree.value(self.node) {
            Value::Null | Value::Unknown => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                #[allow(clippy::cast_precision_loss)]
                _ => visitor.visit_f64(*value as f64),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text.as_str()),
            Value::List(items) => visitor.visit_seq(Items { reader: self, items: items.iter() }),
            Value::Map(entries) => visitor.visit_map(Entries {
                reader: self,
                rest: entries.iter(),
                known: None,
                value: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == FIELD {
            visitor.visit_seq(FieldAccess { reader: self, part: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.tree.value(self.node) {
            Value::Map(entries) => visitor.visit_map(Entries {
                reader: self,
                rest: entries.iter(),
                known: Some(known),
                value: None,
            }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let value = self.tree.value(self.node);
        if name == SHAPE {
            let (shape, found) = match value {
                Value::Text(_) => ("text", "text"),
                Value::List(_) => ("list", "a list"),
                Value::Map(_) => ("map", "a map"),
                Value::Null | Value::Unknown => ("", "nothing"),
                Value::Bool(_) => ("", "`true` or `false`"),
                Value::Integer(_) | Value::Float(_) => ("number", "a number"),
            };
            // A filled variable is text, and may be meant as a number.
            let shape =
                if shape == "text" && !variants.contains(&shape) && variants.contains(&"number") {
                    "number"
                } else {
                    shape
                };
            if !variants.contains(&shape) {
                let wanted: Vec<_> = variants
                    .iter()
                    .map(|v| match *v {
                        "list" => "a list",
                        "map" => "a map",
                        "number" => "a number",
                        other => other,
                    })
                    .collect();
                let scalar = shape.is_empty() || shape == "number";
                let quotes = if scalar && found != "nothing" && variants.contains(&"text") {
                    "; put it in quotes"
                } else {
                    ""
                };
                return Err(ReadError(format!(
                    "found {found} where {} belongs{quotes}",
                    wanted.join(" or ")
                )));
            }
            return visitor.visit_enum(ShapeAccess { reader: self, shape });
        }
        match value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, ReadError> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            _ => Err(ReadError(format!(
                "found something else where one word belongs; write {}",
                hints::or_list(variants.iter().copied())
            ))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// A field's two parts: the node's id, then its value.
struct FieldAccess<'t> {
    reader: TreeDeserializer<'t>,
    part: u8,
}

impl<'de> SeqAccess<'de> for FieldAccess<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.part += 1;
        if self.part == 1 {
            let id: U32Deserializer<ReadError> = self.reader.node.0.into_deserializer();
            return seed.deserialize(id).map(Some);
        }
        seed.deserialize(self.reader).map(Some).inspect_err(|error| self.reader.note(error))
    }
}

struct Items<'t> {
    reader: TreeDeserializer<'t>,
    items: std::slice::Iter<'t, NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.items.next().map(|item| seed.deserialize(self.reader.at(*item))).transpose()
    }
}

struct Entries<'t> {
    reader: TreeDeserializer<'t>,
    rest: std::slice::Iter<'t, (NodeId, NodeId)>,
    /// The keys of a struct; `None` where any key may stand.
    known: Option<&'static [&'static str]>,
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        for (key, value) in self.rest.by_ref() {
            let name = self.reader.tree.key(*key);
            if let Some(known) = self.known
                && !known.contains(&name)
            {
                let message = hints::unknown_key(name, known);
                self.reader.found.borrow_mut().push(Finding { node: *key, message });
                continue;
            }
            self.value = Some(*value);
            return seed.deserialize(self.reader.at(*key)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let value = self.value.take().ok_or_else(|| ReadError("a value without a key".into()))?;
        seed.deserialize(self.reader.at(value))
    }
}

/// A node read as the variant that its shape names.
struct ShapeAccess<'t> {
    reader: TreeDeserializer<'t>,
    shape: &'static str,
}

impl<'de> de::EnumAccess<'de> for ShapeAccess<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        let shape: StrDeserializer<'_, ReadError> = self.shape.into_deserializer();
        Ok((seed.deserialize(shape)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for ShapeAccess<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_any(self.reader, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        de::Deserializer::deserialize_struct(self.reader, "", known, visitor)
    }
}
