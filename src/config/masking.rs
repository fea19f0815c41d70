//! Finds the values of a configuration that can be secrets, so that `/config`, messages and quoted
//! server responses do not show them.
//!
//! If a key sounds secret, such as `token`, all texts and numbers below the key are secret. The
//! exceptions are listed here, so a new key hides its secrets by default.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

use super::tree::{NodeId, Tree, Value};
use super::validate::{is_sensitive, is_sensitive_number};

/// Keys of llmload that contain a word such as `key` or `token`, but whose values are no secrets.
const HARMLESS: [&str; 5] = ["api_key_env", "api_key_file", AUTH, "first_token", "key_file"];
/// The key of the header name, such as `auth: bearer`. Some users write the API key there.
const AUTH: &str = "auth";
/// Maps in which a user chooses the keys. A target with the name `auth-gateway` is no secret.
const FREE_NAMES: [&str; 5] = ["targets", "scenarios", "prompts", "mix", "buckets"];

/// Returns the nodes of all texts and numbers that can be secrets.
pub fn secret_nodes(tree: &Tree) -> HashSet<NodeId> {
    let mut secrets = HashSet::new();
    let mut visit = vec![(NodeId::ROOT, Surroundings::Settings)];
    while let Some((node, surroundings)) = visit.pop() {
        match tree.value(node) {
            Value::List(items) => visit.extend(items.iter().map(|item| (*item, surroundings))),
            Value::Map(entries) => visit.extend(
                entries.iter().map(|(key, value)| (*value, surroundings.below(tree.key(*key)))),
            ),
            Value::Text(_) if surroundings.are_secret() => _ = secrets.insert(node),
            Value::Integer(_) | Value::Float(_) if surroundings.are_secret_for_numbers() => {
                secrets.insert(node);
            }
            _ => {}
        }
    }
    secrets
}

/// Returns true if a message is allowed to quote the value of this key.
pub fn is_quotable(key: &str) -> bool {
    key != AUTH && (HARMLESS.contains(&key) || !is_sensitive(key))
}

/// Returns all texts and numbers in a request body that can be secrets, as the body contains them.
pub fn secret_texts(fields: &BTreeMap<String, Json>) -> Vec<String> {
    let mut secrets = Vec::new();
    let below = |(key, value)| (value, Surroundings::Body.below(key));
    let mut visit: Vec<_> =
        fields.iter().map(|(key, value)| below((key.as_str(), value))).collect();
    while let Some((value, surroundings)) = visit.pop() {
        match value {
            Json::Array(items) => visit.extend(items.iter().map(|item| (item, surroundings))),
            Json::Object(entries) => visit.extend(
                entries.iter().map(|(key, value)| (value, surroundings.below(key.as_str()))),
            ),
            Json::String(text) if surroundings.are_secret() => secrets.push(text.clone()),
            Json::Number(number) if surroundings.are_secret_for_numbers() => {
                secrets.push(number.to_string());
            }
            _ => {}
        }
    }
    secrets
}

/// The kind of map that contains a value. It decides whether the value can be a secret.
#[derive(Clone, Copy)]
enum Surroundings {
    /// A map of settings, or the value of a setting.
    Settings,
    /// A map in which a user chooses the keys.
    Names,
    /// The map of all headers, or the map of all query parameters.
    ValueSources,
    /// The value of one header or query parameter. In the form of a map, it only names a variable
    /// or a file, which is not secret.
    ValueSource,
    /// The name of a variable or of a file.
    Reference,
    /// Fields of a request body, at any depth.
    Body,
    /// The value of a key whose name looks like the name of a secret, at any depth.
    Secret,
    /// Like `Secret`, but numbers are not secret: in `stop_token_ids`, they identify tokens.
    SecretTexts,
}

impl Surroundings {
    fn are_secret(self) -> bool {
        self.are_secret_for_numbers() || matches!(self, Surroundings::SecretTexts)
    }

    fn are_secret_for_numbers(self) -> bool {
        matches!(self, Surroundings::ValueSource | Surroundings::Secret)
    }

    /// Returns the surroundings of the value of `key`.
    fn below(self, key: &str) -> Surroundings {
        use Surroundings::{
            Body, Names, Reference, Secret, SecretTexts, Settings, ValueSource, ValueSources,
        };
        match self {
            Secret => Secret,
            SecretTexts => SecretTexts,
            ValueSources => ValueSource,
            ValueSource | Reference => Reference,
            Names => Settings,
            Settings => match key {
                "headers" | "query" => ValueSources,
                "extra" | "extra_body" => Body,
                names if FREE_NAMES.contains(&names) => Names,
                known if HARMLESS.contains(&known) => Settings,
                key if is_sensitive(key) => Secret,
                _ => Settings,
            },
            // A tool in a request can have `headers` with any name.
            Body if key == "headers" || is_sensitive_number(key) => Secret,
            Body if is_sensitive(key) => SecretTexts,
            Body => Body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this test fails, a new key contains a word such as `key`. Add the key to [`HARMLESS`], or
    /// `/config` hides its value.
    #[test]
    fn every_key_of_the_file_that_sounds_secret_is_listed() {
        let mut visit = vec![crate::config::schema()];
        let mut seen = 0;
        while let Some(schema) = visit.pop() {
            if let Some(Json::Object(properties)) = schema.get("properties") {
                for key in properties.keys().filter(|key| is_sensitive(key)) {
                    assert!(HARMLESS.contains(&key.as_str()), "{key}");
                    seen += 1;
                }
            }
            match schema {
                Json::Object(entries) => visit.extend(entries.into_iter().map(|(_, value)| value)),
                Json::Array(items) => visit.extend(items),
                _ => {}
            }
        }
        assert!(seen >= HARMLESS.len(), "{seen}");
    }

    #[test]
    fn secrets_of_a_body_are_found_at_any_depth() {
        let fields = serde_json::json!({
            "api_key": "one", "stop": ["no"], "max_tokens": 500_000, "password": 12_345_678,
            "pin_secret": -4711.5, "stop_token_ids": [151_645, "four"], "seed": 1_234_567,
            "thinking_token_budget": 500_000, "auth": {"a": ["two", true]},
            "tools": [{"type": "mcp", "headers": {"x-team": "three"}, "name": "no"}],
        });
        let fields = serde_json::from_value(fields).unwrap();
        let mut secrets = secret_texts(&fields);
        secrets.sort_unstable();
        assert_eq!(secrets, ["-4711.5", "12345678", "four", "one", "three", "two"]);
    }
}
