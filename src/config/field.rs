//! The generic types of the fields in `document`. A field contains the YAML node of its value, for
//! messages. A list or map keeps its valid entries if other entries are invalid.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::reader::FIELD;
use super::tree::NodeId;

/// A value, and the node of the tree that contains it.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The node has the line and the column of the value.
    pub node: NodeId,
    pub value: T,
}

/// The value of a key, which can be absent or invalid.
#[derive(Clone, Debug, Default)]
pub enum Field<T> {
    /// The file does not contain the key.
    #[default]
    Absent,
    /// The value has the wrong form. The reader has already reported this, so later checks must not
    /// report it again.
    Invalid(NodeId),
    /// The file contains the key, and the value has the right form.
    Present(Located<T>),
}

impl<T> Field<T> {
    pub fn present(&self) -> Option<&Located<T>> {
        match self {
            Field::Present(at) => Some(at),
            Field::Absent | Field::Invalid(_) => None,
        }
    }

    /// Returns the node of the value, also if the value has the wrong form.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Field::Absent => None,
            Field::Invalid(node) => Some(*node),
            Field::Present(at) => Some(at.node),
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }

    pub fn is_invalid(&self) -> bool {
        matches!(self, Field::Invalid(_))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Field<T>, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
                let node = NodeId(parts.next_element()?.unwrap_or_default());
                // The deserializer has already recorded the error.
                Ok(match parts.next_element() {
                    Ok(Some(value)) => Field::Present(Located { node, value }),
                    Ok(None) | Err(_) => Field::Invalid(node),
                })
            }
        }
        from.deserialize_newtype_struct(FIELD, Parts(PhantomData))
    }
}

#[derive(Clone, Debug)]
pub struct FieldList<T>(pub Vec<Field<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldList<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FieldList<T>, D::Error> {
        Vec::deserialize(from).map(FieldList)
    }
}

/// The entries of a map whose keys the user chooses, in the order of the file.
#[derive(Clone, Debug)]
pub struct FieldMap<T>(pub Vec<(Located<String>, Field<T>)>);

impl<T> Default for FieldMap<T> {
    fn default() -> FieldMap<T> {
        FieldMap(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldMap<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FieldMap<T>, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = FieldMap<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldMap<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<Field<String>, Field<T>>()? {
                    if let Field::Present(name) = name {
                        entries.push((name, value));
                    }
                }
                Ok(FieldMap(entries))
            }
        }
        from.deserialize_map(Entries(PhantomData))
    }
}

// In the schema, a field looks like its value.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for FieldList<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "array", "items": items })
    }
}

impl<T: JsonSchema> JsonSchema for FieldMap<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": values })
    }
}
