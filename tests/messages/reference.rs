//! Generates `docs/configuration.md` from the JSON Schema: a heading for each key, with its type,
//! default, values and an example from `config/full.yml`.

use serde_json::Value;

use crate::{read, repository};

const OPENING: &str = "# Configuration reference

Every key of the configuration file, generated from
[config/llmload.schema.json](../config/llmload.schema.json) by
`UPDATE_EXPECTED=1 cargo test --test messages`. [config/full.yml](../config/full.yml) shows all keys
in one file. The other pages of this folder explain how the keys work together.

A heading is the path of a key, such as `prompts.NAME.field`. In it, `NAME` stands for a name that
you choose, and `[]` for each entry of a list. A string may contain `${NAME}` or
`${NAME:-default}`: llmload inserts the environment variable. Relative paths of files start at the
folder of the configuration. Unknown and duplicate keys are errors.

| type | form |
|---|---|
| rate | a number and a unit: `5/s`, `300/m`, `0.2/s`, `40/h`; at most 100,000/s |
| duration | whole numbers with units `d h m s ms us ns`: `90s`, `10m`, `1h30m` |
| ratio | a percentage or a fraction: `99%`, `0.99` |
| size | a whole number and a unit: `64KiB`, `256MiB`, `10GB` |
";

/// A path in the configuration file, and the JSON Schema of its value.
struct Place<'a> {
    path: String,
    schema: &'a Value,
}

struct Reference<'a> {
    definitions: &'a Value,
    example: Value,
    /// Definitions that already have a section.
    written: Vec<String>,
    page: String,
}

impl<'a> Reference<'a> {
    /// Writes the section of an object, and then the sections of the objects inside.
    fn section(&mut self, title: &str, place: &Place<'a>) {
        let Some(properties) = place.schema["properties"].as_object() else { return };
        self.page += &format!("\n## {title}\n\n{}\n", sentence(place.schema));
        let mut inside = Vec::new();
        for (key, schema) in properties {
            let path =
                if place.path.is_empty() { key.clone() } else { format!("{}.{key}", place.path) };
            self.key(&path, schema, place.schema);
            self.objects(&path, None, schema, &mut inside);
        }
        for (title, place) in inside {
            self.section(&title, &place);
        }
    }

    fn key(&mut self, path: &str, schema: &Value, parent: &Value) {
        let key = path.rsplit('.').next().unwrap();
        self.page += &format!("\n### `{path}`\n\n{}\n\n", sentence(schema));
        self.page += &format!("- Type: {}\n", Self::kind(schema));
        let is_required =
            parent["required"].as_array().is_some_and(|all| all.iter().any(|k| k == key));
        match &schema["default"] {
            Value::Null if is_required => self.page += "- Required\n",
            Value::Null => {}
            default => self.page += &format!("- Default: `{}`\n", flow(default)),
        }
        for (value, meaning) in values(schema) {
            let entry = wrapped(&format!("- `{value}`: {meaning}"), 98);
            self.page += &format!("{}\n", entry.replace('\n', "\n  "));
        }
        if let Some(example) = find(&self.example, path) {
            self.page += &format!("\n```yaml\n{key}: {}\n```\n", flow(example));
        }
    }

    /// Returns the name of a type: `rate`, `duration`, `map of NAME to …`.
    fn kind(schema: &Value) -> String {
        if let Some(name) = definition(schema) {
            return format!("map, see [{0}](#{1})", title_of(name), anchor(&title_of(name)));
        }
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array());
        if let Some(alternatives) = alternatives {
            let mut kinds: Vec<String> = Vec::new();
            for kind in alternatives.iter().filter(|one| !is_placeholder(one)).map(Self::kind) {
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(", or ");
        }
        let example = schema["examples"][0].as_str().unwrap_or_default();
        match schema["type"].as_str().unwrap_or_default() {
            _ if !schema["const"].is_null() => "one of the values below".to_owned(),
            "array" => format!("list of {}", Self::kind(&schema["items"])),
            "object" if schema["additionalProperties"].is_object() => {
                format!("map of names to {}", Self::kind(&schema["additionalProperties"]))
            }
            "object" => "map".to_owned(),
            "string" if example.ends_with("/s") => "rate".to_owned(),
            "string" if example.ends_with("MiB") => "size".to_owned(),
            "string" if example == "90s" => "duration".to_owned(),
            "number" if schema["maximum"] == 1 => "ratio".to_owned(),
            kind => kind.to_owned(),
        }
    }

    /// Collects, once each, the objects inside a value that have keys.
    fn objects(
        &mut self,
        path: &str,
        title: Option<&str>,
        schema: &'a Value,
        inside: &mut Vec<(String, Place<'a>)>,
    ) {
        if let Some(name) = definition(schema) {
            if !self.written.iter().any(|written| written == name) {
                self.written.push(name.to_owned());
                let place = Place { path: path.to_owned(), schema: &self.definitions[name] };
                if place.schema["properties"].is_object() {
                    inside.push((title_of(name), place));
                } else {
                    let (path, schema) = (place.path, place.schema);
                    self.objects(&path, Some(&title_of(name)), schema, inside);
                }
            }
        } else if schema["properties"].is_object() {
            let title = title.map_or_else(|| format!("`{path}`"), str::to_owned);
            if !inside.iter().any(|(other, _)| *other == title) {
                inside.push((title, Place { path: path.to_owned(), schema }));
            }
        }
        for key in ["anyOf", "oneOf"] {
            for one in schema[key].as_array().into_iter().flatten() {
                self.objects(path, title, one, inside);
            }
        }
        if schema["items"].is_object() {
            self.objects(&format!("{path}[]"), None, &schema["items"], inside);
        }
        if schema["additionalProperties"].is_object() {
            self.objects(&format!("{path}.NAME"), None, &schema["additionalProperties"], inside);
        }
    }
}

fn definition(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// Returns true for the alternative that accepts only a string with `${NAME}`.
fn is_placeholder(schema: &Value) -> bool {
    schema["type"] == "string" && schema["pattern"] == "\\$\\{"
}

fn title_of(definition: &str) -> String {
    let mut title = String::new();
    for (index, c) in definition.chars().enumerate() {
        if index > 0 && c.is_uppercase() {
            title.push(' ');
        }
        title.push(if index > 0 { c.to_ascii_lowercase() } else { c });
    }
    title
}

/// The anchor of a heading on GitHub.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn sentence(schema: &Value) -> String {
    wrapped(schema["description"].as_str().unwrap_or_default(), 100)
}

fn wrapped(text: &str, columns: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().unwrap();
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines.join("\n")
}

fn values(schema: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for key in ["anyOf", "oneOf"] {
        for one in schema[key].as_array().into_iter().flatten() {
            if let Some(value) = one["const"].as_str() {
                let meaning = one["description"].as_str().unwrap_or_default();
                found.push((value.to_owned(), meaning.to_owned()));
            } else {
                found.extend(values(one));
            }
        }
    }
    found
}

/// Finds the first value at a path of the example file. `NAME` matches every name, and `[]` matches
/// every entry of a list.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let (step, rest) = path.split_once('.').map_or((path, ""), |(step, rest)| (step, rest));
    let (key, lists) = (step.trim_end_matches("[]"), step.matches("[]").count());
    let starts: Vec<&Value> = match key {
        "NAME" => value.as_object()?.values().collect(),
        _ => vec![value.get(key)?],
    };
    let entries = (0..lists).fold(starts, |values, _| {
        values.into_iter().flat_map(|value| value.as_array().into_iter().flatten()).collect()
    });
    let mut found = entries
        .into_iter()
        .filter_map(|entry| if rest.is_empty() { Some(entry) } else { find(entry, rest) });
    found.find(|value| flow(value).chars().count() < 90)
}

/// A value in the flow style of YAML, on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(all) => format!("[{}]", all.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(all) => {
            let entries = all.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => {
            let is_plain = !text.is_empty()
                && text.trim() == text
                && !text.contains(": ")
                && !text.starts_with(|c: char| "[]{}*&!|>'\"%@`#".contains(c))
                && !text.contains([',', '[', ']', '{', '}', '\n'])
                && text.parse::<f64>().is_err();
            if is_plain { text.clone() } else { format!("{text:?}") }
        }
        other => other.to_string(),
    }
}

#[test]
fn the_configuration_reference_agrees_with_the_schema() {
    let schema: Value = serde_json::from_str(&read("config/llmload.schema.json")).unwrap();
    let definitions = &schema["$defs"];
    let example = serde_yaml::from_str(&read("config/full.yml")).unwrap();
    let mut reference =
        Reference { definitions, example, written: Vec::new(), page: OPENING.to_owned() };
    let long = Place { path: String::new(), schema: &definitions["LongForm"] };
    reference.section("The file", &long);
    let short = &definitions["ShortForm"];
    reference.page += &format!("\n## The short form\n\n{}\n\n", sentence(short));
    for (key, schema) in short["properties"].as_object().unwrap() {
        let kind = Reference::kind(schema);
        reference.page += &format!("- `{key}`: {kind}\n");
    }
    let path = repository("docs/configuration.md");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &reference.page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == reference.page,
        "docs/configuration.md is out of date; run `UPDATE_EXPECTED=1 cargo test --test messages`"
    );
}
