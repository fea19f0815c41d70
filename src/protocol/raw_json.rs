//! Reads JSON without allocations. A string without escapes is borrowed, and members and elements
//! are raw JSON.
//!
//! serde's `Cow` allocates for every string. A struct with a derived `Deserialize` refuses a
//! repeated key, which some gateways send.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// `None` if `raw` is not a string. Half a surrogate pair becomes a replacement character, because
/// some gateways cut a character in two.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw);
    deserializer.deserialize_bytes(Unescaped).ok().map(Cow::Owned)
}

/// Returns the raw values of some members of an object, each `null` if the object does not have it.
/// If a key is repeated, the last value counts.
///
/// # Errors
/// The text is not one JSON object.
pub(super) fn fields<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> serde_json::Result<[&'a str; N]> {
    let mut values = ["null"; N];
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let keep = |key: &str, value: &'a str| {
        if let Some(at) = names.iter().position(|name| *name == key) {
            values[at] = value;
        }
    };
    Members(keep).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(values)
}

/// As [`fields`], but each value of anything other than an object is `null`.
pub(super) fn fields_or_null<'a, const N: usize>(
    raw: &'a str,
    names: [&str; N],
) -> serde_json::Result<[&'a str; N]> {
    if raw.starts_with('{') { fields(raw, names) } else { Ok(["null"; N]) }
}

/// False for null, false, 0 and empty values. A key `error` with one of these values is no error.
pub(super) fn is_truthy(raw: &str) -> bool {
    match raw.as_bytes() {
        [b'{' | b'[', inner @ .., _] => !inner.trim_ascii().is_empty(),
        b"null" | b"false" | b"\"\"" => false,
        _ => raw.parse() != Ok(0.0),
    }
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside of strings by null. Returns `None` if the
/// JSON contains none of these names.
pub(super) fn without_non_finite_numbers(json: &str) -> Option<String> {
    let (mut fixed, mut copied, mut at) = (String::new(), 0, 0);
    let mut is_in_string = false;
    while let Some(byte) = json.as_bytes().get(at) {
        let rest = &json.as_bytes()[at..];
        let name: &[&[u8]] = &[b"NaN", b"Infinity", b"-Infinity"];
        let found = name.iter().find(|name| !is_in_string && rest.starts_with(name));
        if let Some(name) = found {
            fixed.push_str(json.get(copied..at)?);
            fixed.push_str("null");
            copied = at + name.len();
            at = copied;
            continue;
        }
        match byte {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => at += 1,
            _ => {}
        }
        at += 1;
    }
    fixed.push_str(json.get(copied..)?);
    (copied > 0).then_some(fixed)
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

/// Calls `each` with the key and the raw value of each member of an object. Does nothing for other
/// JSON.
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

/// Calls `each` with each raw element of an array. Does nothing for other JSON.
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

/// Borrowed if the key has no escapes.
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
    fn strings_without_escapes_are_borrowed() {
        assert!(matches!(string(r#""plain 😀""#), Some(Cow::Borrowed("plain 😀"))));
        assert_eq!(string(r#""a\n\u00e9\ud83d\ude00\"""#).unwrap(), "a\né😀\"");
        assert_eq!(string("null"), None);
        assert_eq!(string("3"), None);
    }

    #[test]
    fn names_of_numbers_that_are_not_finite_become_null_outside_of_strings() {
        for (json, expected) in [
            (r#"{"a":NaN,"b":[-Infinity,Infinity]}"#, Some(r#"{"a":null,"b":[null,null]}"#)),
            (r#"{"a":"é NaN \" NaN","b":NaN}"#, Some(r#"{"a":"é NaN \" NaN","b":null}"#)),
            (r#"{"a":"NaN","b":-1}"#, None),
            (r#"{"a":"\"#, None),
            ("", None),
        ] {
            assert_eq!(without_non_finite_numbers(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_an_absent_key_is_null() {
        let json = r#" {"a": 1, "b": [2], "a": {"c": 3}} "#;
        assert_eq!(fields(json, ["a", "x", "b"]).unwrap(), [r#"{"c": 3}"#, "null", "[2]"]);
        assert!(fields("[1]", ["a"]).is_err() && fields("{}{}", ["a"]).is_err());
        assert_eq!(fields_or_null("[1]", ["a"]).unwrap(), ["null"]);
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_replacement_character() {
        let text = string(r#""a\ud83d""#).unwrap();
        assert!(text.starts_with('a') && text.contains('\u{fffd}'), "{text:?}");
    }

    #[test]
    fn every_occurrence_of_a_repeated_key_is_visited() {
        let mut seen = Vec::new();
        members(r#"{"a": 1, "b": [2], "a": null}"#, |k, v| {
            seen.push((k.to_owned(), v));
        })
        .unwrap();
        assert_eq!(seen, [("a".into(), "1"), ("b".into(), "[2]"), ("a".into(), "null")]);
    }
}
