//! JSON read without building it: strings borrowed where they have no escapes, objects and arrays
//! walked member by member with each value still raw.
//!
//! serde's own `Cow` allocates for every string, and derived structs refuse a repeated key, which
//! gateways do send; hence these few visitors.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The string that `raw` is, or `None` where it is no string. Lone surrogates, which arrive where a
/// gateway cut a character in two, become replacement characters instead of an error.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    deserializer.deserialize_bytes(Unescaped).ok().map(Cow::Owned)
}

struct Unescaped;

impl Visitor<'_> for Unescaped {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Calls `each` with every member of the object that `raw` is; any other value has none.
pub(super) fn members<'a, F: FnMut(&str, &'a str)>(
    raw: &'a str,
    each: F,
) -> serde_json::Result<()> {
    if !raw.starts_with('{') {
        return Ok(());
    }
    Members(each).deserialize(&mut serde_json::Deserializer::from_str(raw))
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de str)> DeserializeSeed<'de> for Members<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            self.0(&key.0, map.next_value::<&'de RawValue>()?.get());
        }
        Ok(())
    }
}

/// Calls `each` with every element of the array that `raw` is; any other value has none.
pub(super) fn elements<'a, F: FnMut(&'a str)>(raw: &'a str, each: F) -> serde_json::Result<()> {
    if !raw.starts_with('[') {
        return Ok(());
    }
    Elements(each).deserialize(&mut serde_json::Deserializer::from_str(raw))
}

struct Elements<F>(F);

impl<'de, F: FnMut(&'de str)> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            self.0(element.get());
        }
        Ok(())
    }
}

/// An object's key.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key<'de>, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_borrowed_until_they_have_escapes() {
        assert!(matches!(string(r#""plain 😀""#), Some(Cow::Borrowed("plain 😀"))));
        assert_eq!(string(r#""a\n\u00e9\ud83d\ude00\"""#).unwrap(), "a\né😀\"");
        assert_eq!(string("null"), None);
        assert_eq!(string("3"), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_not_refused() {
        let text = string(r#""a\ud83d""#).unwrap();
        assert!(text.starts_with('a') && text.contains('\u{fffd}'), "{text:?}");
    }

    #[test]
    fn repeated_keys_are_all_handed_out() {
        let mut seen = Vec::new();
        members(r#"{"a": 1, "b": [2], "a": null}"#, |k, v| {
            seen.push((k.to_owned(), v));
        })
        .unwrap();
        assert_eq!(seen, [("a".into(), "1"), ("b".into(), "[2]"), ("a".into(), "null")]);
    }
}
