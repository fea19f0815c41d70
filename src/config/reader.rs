//! Deserializes the tree into the types of `document`, and continues after a mistake.
//!
//! Most serde deserializers stop at the first error. This deserializer records a wrong value as a
//! mistake, makes its [`Field`](super::field::Field) invalid, and reads all other values. So one
//! pass finds every wrong value and every unknown key.

use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::hints;
use super::problem::{Mistake, MistakeAt, Mistakes};
use super::tree::{NodeId, Text, Tree, Value};

/// The newtype name of a [`Field`](super::field::Field). For this name, the deserializer returns a
/// sequence of two elements: the id of the node, and the value of the node.
pub(super) const FIELD: &str = "$field";
/// The name of every enum with one variant per YAML type. For this name, the deserializer selects
/// the variant by the type of the node: `text`, `number`, `list` or `map`.
pub(super) const VARIANT_BY_NODE_TYPE: &str = "$node_type";

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(Mistake);

impl From<ReadError> for Mistake {
    fn from(error: ReadError) -> Mistake {
        error.0
    }
}

/// Converts a mistake to the error type `E` of any deserializer.
///
/// serde offers no error with a message and a remedy. Its error `invalid_value` has two texts, so
/// this function passes the message as the first and the remedy as the second.
/// [`ReadError::invalid_value`] turns the two texts back into a mistake.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn into_serde<E: de::Error>(mistake: Mistake) -> E {
    let remedy = mistake.remedy.as_deref().unwrap_or_default();
    E::invalid_value(Unexpected::Other(&mistake.message), &remedy)
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        ReadError(Mistake::without_remedy(message.to_string()))
    }

    // The message omits the value, which can be a secret in the wrong place.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> ReadError {
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "a string" => "text",
            "a sequence" => "a list",
            "a boolean" => "`true` or `false`",
            other if other.starts_with("struct ") => "a map of keys and values",
            other => other,
        };
        // A number or a boolean becomes text if the user puts it in quotes.
        let (found, can_be_quoted) = match found {
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
        wrong_type(found, wanted, can_be_quoted && wanted == "text")
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> ReadError {
        let Unexpected::Other(message) = found else {
            return ReadError::invalid_type(found, expected);
        };
        let remedy = Some(expected.to_string()).filter(|remedy| !remedy.is_empty());
        ReadError(Mistake { remedy, ..Mistake::without_remedy(message) })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> ReadError {
        ReadError(hints::not_a_choice(variant, expected.iter().copied()))
    }
}

/// Returns the error for a value of the wrong type. If `lacks_quotes`, the remedy suggests quotes,
/// which would give the value the expected type.
fn wrong_type(found: &str, expected: &str, lacks_quotes: bool) -> ReadError {
    let mistake = Mistake::without_remedy(format!("found {found}, expected {expected}"));
    let remedy = lacks_quotes.then(|| "put it in quotes".to_owned());
    ReadError(Mistake { remedy, ..mistake })
}

fn noun_of(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Null | Value::Unknown => "nothing",
        Value::Bool(_) => "`true` or `false`",
        Value::Integer(_) | Value::Float(_) => "a number",
    }
}

#[derive(Clone, Copy)]
pub struct TreeDeserializer<'t> {
    tree: &'t Tree,
    node: NodeId,
    mistakes: &'t Mistakes,
}

impl<'t> TreeDeserializer<'t> {
    /// Creates the deserializer of the complete document.
    pub fn new(tree: &'t Tree, mistakes: &'t Mistakes) -> TreeDeserializer<'t> {
        TreeDeserializer { tree, node: NodeId::ROOT, mistakes }
    }

    fn at(self, node: NodeId) -> TreeDeserializer<'t> {
        TreeDeserializer { node, ..self }
    }

    /// Records the error of this node as a mistake.
    fn record(self, error: &ReadError) {
        let value = self.tree.value(self.node);
        // Another mistake made the value unknown, and that mistake is already recorded.
        if let Value::Unknown = value {
            return;
        }
        let mut mistake = error.0.clone();
        if mistake.remedy.is_none() {
            mistake.remedy = hints::remedy_for_wrong_type(&self.tree.path(self.node), value);
        }
        self.mistakes.borrow_mut().push(MistakeAt { node: self.node, mistake });
    }

    /// Returns the variant that the type of this node selects: see [`VARIANT_BY_NODE_TYPE`].
    fn variant_by_node_type(self, variants: &[&str]) -> Result<&'static str, ReadError> {
        let value = self.tree.value(self.node);
        let variant = match value {
            // After its substitution, a text such as `${SLOTS}` can be a number.
            Value::Text(_) if !variants.contains(&"text") && variants.contains(&"number") => {
                "number"
            }
            Value::Text(_) => "text",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Null | Value::Unknown | Value::Bool(_) => "",
            Value::Integer(_) | Value::Float(_) => "number",
        };
        let found = noun_of(value);
        if variants.contains(&variant) {
            return Ok(variant);
        }
        let names = variants.iter().map(|variant| match *variant {
            "list" => "a list",
            "map" => "a map",
            "number" => "a number",
            other => other,
        });
        let expected = names.collect::<Vec<_>>().join(" or ");
        let is_scalar = matches!(value, Value::Integer(_) | Value::Float(_) | Value::Bool(_));
        Err(wrong_type(found, &expected, is_scalar && variants.contains(&"text")))
    }

    /// Reads a number or a boolean. YAML reads `${SLOTS}` as a string, so this function parses the
    /// substituted text again.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if let Some(Text { substituted: Some(substituted), .. }) = self.tree.text(self.node) {
            let text = substituted.text.trim();
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
            Value::List(items) => {
                visitor.visit_seq(ItemAccess { reader: self, items: items.iter() })
            }
            Value::Map(entries) => visitor.visit_map(EntryAccess {
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
            Value::Map(entries) => visitor.visit_map(EntryAccess {
                reader: self,
                rest: entries.iter(),
                known: Some(known),
                value: None,
            }),
            // The library would read the entries of a list as the keys, in their order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
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
        if name == VARIANT_BY_NODE_TYPE {
            let variant = self.variant_by_node_type(variants)?;
            return visitor.visit_enum(NodeTypeAccess { reader: self, variant });
        }
        match value {
            Value::Text(text) => {
                let text: StrDeserializer<'_, ReadError> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            other => Err(ReadError(Mistake::new(
                format!("found {}, expected one word", noun_of(other)),
                format!("write {}", hints::or_list(variants.iter().copied())),
            ))),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The sequence that a [`Field`](super::field::Field) reads: the id of the node, then its value.
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
        seed.deserialize(self.reader).map(Some).inspect_err(|error| self.reader.record(error))
    }
}

struct ItemAccess<'t> {
    reader: TreeDeserializer<'t>,
    items: std::slice::Iter<'t, NodeId>,
}

impl<'de> SeqAccess<'de> for ItemAccess<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.items.next().map(|item| seed.deserialize(self.reader.at(*item))).transpose()
    }
}

/// The entries of a map or struct. An unknown key becomes a mistake, and its entry is skipped.
struct EntryAccess<'t> {
    reader: TreeDeserializer<'t>,
    rest: std::slice::Iter<'t, (NodeId, NodeId)>,
    /// The keys of the struct. `None` for a map, which allows any key.
    known: Option<&'static [&'static str]>,
    /// The value of the latest key.
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for EntryAccess<'_> {
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
                let mistake = hints::unknown_key(name, known);
                self.reader.mistakes.borrow_mut().push(MistakeAt { node: *key, mistake });
                continue;
            }
            self.value = Some(*value);
            return seed.deserialize(self.reader.at(*key)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let value = self.value.take().ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(self.reader.at(value))
    }
}

/// A node that is read as the variant of an enum with the name [`VARIANT_BY_NODE_TYPE`].
struct NodeTypeAccess<'t> {
    reader: TreeDeserializer<'t>,
    variant: &'static str,
}

impl<'de> de::EnumAccess<'de> for NodeTypeAccess<'_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), ReadError> {
        let variant: StrDeserializer<'_, ReadError> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for NodeTypeAccess<'_> {
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
