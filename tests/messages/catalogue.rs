//! The catalogues of texts, each compared with the committed file.

use std::process::Command;

use crate::source::{Kind, texts, without_tests};
use crate::{files, read, repository};

/// Files with texts for models, not for people.
const CONTENT: &[&str] =
    &["src/prompts/builtin.rs", "src/prompts/prose.rs", "src/simulator/prose.rs"];

/// Compares a catalogue with its file, or writes the file if `UPDATE_EXPECTED` is set.
pub fn assert_committed(name: &str, expected: &str) {
    let path = format!("tests/messages/{name}.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(repository(&path), expected).unwrap();
    }
    let committed = std::fs::read_to_string(repository(&path)).unwrap_or_default();
    assert!(
        committed == expected,
        "{path} is out of date; run `UPDATE_EXPECTED=1 cargo test --test messages` and read the diff"
    );
}

/// Returns true for a sentence or phrase, and false for a key, a path or a pattern.
pub fn is_prose(literal: &str) -> bool {
    let is_word = |word: &&str| {
        let letters = word.trim_matches(|c: char| c.is_ascii_punctuation());
        letters.len() > 1 && letters.chars().all(|c| c.is_alphabetic() || c == '-' || c == '\'')
    };
    literal.split_whitespace().filter(is_word).count() > 1
        && !literal.contains("\r\n")
        && !literal.trim_start().starts_with(['<', '{'])
}

/// Returns the texts for people in a source file, each on one line.
pub fn messages(path: &str) -> Vec<String> {
    let source = read(path);
    let literals =
        texts(without_tests(&source)).into_iter().filter(|text| text.kind == Kind::Literal);
    let lines = literals.flat_map(|text| text.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let squeezed = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    squeezed.filter(|line| is_prose(line)).collect()
}

pub fn sources_with_messages() -> Vec<String> {
    let mut sources = files("src", ".rs");
    sources.retain(|path| !path.ends_with("tests.rs") && !path.contains("/tests/"));
    sources.retain(|path| !CONTENT.contains(&path.as_str()));
    sources
}

#[test]
fn every_message_of_the_source_is_in_the_catalogue() {
    let mut catalogue = String::new();
    for path in sources_with_messages() {
        let messages = messages(&path);
        if !messages.is_empty() {
            catalogue += &format!("{path}\n");
            for message in &messages {
                catalogue += &format!("  {message}\n");
            }
            catalogue.push('\n');
        }
    }
    assert_committed("source", &catalogue);
}

#[test]
fn the_help_of_every_command_is_in_the_catalogue() {
    let help = |command: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_llmload")).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = help(&["--help"]);
    let commands = overview.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<_> =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let mut catalogue = format!("$ llmload --help\n{overview}");
    for command in commands.iter().filter(|command| !command.is_empty() && **command != "help") {
        catalogue += &format!("\n\n$ llmload {command} --help\n{}", help(&[command, "--help"]));
    }
    assert!(commands.contains(&"run") && commands.contains(&"check"), "{commands:?}");
    assert_committed("help", &catalogue);
}

#[test]
fn every_text_of_the_pages_is_in_the_catalogue() {
    let mut catalogue = String::new();
    for path in ["src/web/page.html", "src/report/page.html"] {
        catalogue += &format!("{path}\n");
        for text in page_texts(&read(path)) {
            catalogue += &format!("  {text}\n");
        }
        catalogue.push('\n');
    }
    assert_committed("pages", &catalogue);
}

/// Returns the texts of an HTML page: between tags, and in the literals of its scripts.
fn page_texts(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        found.extend(rest[..open].lines().map(str::to_owned));
        rest = &rest[open..];
        let script = ["script", "style"].into_iter().find(|name| rest[1..].starts_with(name));
        if let Some(name) = script {
            let end = rest.find(&format!("</{name}")).unwrap_or(rest.len());
            if name == "script" {
                found.extend(script_literals(&rest[..end]));
            }
            rest = &rest[end..];
        }
        rest = rest.find('>').map_or("", |close| &rest[close + 1..]);
    }
    let squeezed = found.iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let without_templates =
        squeezed.filter(|text| !text.starts_with("{%") && !text.starts_with("{{"));
    without_templates
        .filter(|text| text.chars().filter(|c| c.is_alphabetic()).count() > 1)
        .collect()
}

fn script_literals(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in script.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for quote in ['"', '\'', '`'] {
            let parts: Vec<&str> = line.split(quote).collect();
            found.extend(parts.iter().skip(1).step_by(2).map(|part| (*part).to_owned()));
        }
    }
    found.retain(|text| is_prose(text));
    found
}

#[test]
fn every_panel_is_in_the_catalogue() {
    let mut catalogue = String::new();
    for path in files("grafana/dashboards", ".json") {
        let dashboard: serde_json::Value = serde_json::from_str(&read(&path)).unwrap();
        catalogue +=
            &format!("{}: {}\n", text(&dashboard["title"]), text(&dashboard["description"]));
        for panel in dashboard["panels"].as_array().unwrap() {
            let nested = panel["panels"].as_array().cloned().unwrap_or_default();
            for panel in std::iter::once(panel).chain(&nested) {
                if panel["type"] == "row" {
                    catalogue += &format!("\n  {}\n", text(&panel["title"]));
                } else {
                    catalogue += &format!(
                        "  - {}: {}\n",
                        text(&panel["title"]),
                        text(&panel["description"])
                    );
                }
            }
        }
        catalogue.push('\n');
    }
    assert_committed("panels", &catalogue);
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn every_alert_is_in_the_catalogue() {
    let mut catalogue = String::new();
    for path in files("grafana/rules", ".yml").iter().filter(|path| !path.contains("/tests/")) {
        let rules: serde_json::Value = serde_yaml::from_str(&read(path)).unwrap();
        let groups = rules["groups"].as_array().unwrap();
        let all = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        for rule in all.filter(|rule| rule["alert"].is_string()) {
            let annotations = &rule["annotations"];
            let severity = text(&rule["labels"]["severity"]);
            catalogue += &format!("{} ({severity})\n", text(&rule["alert"]));
            catalogue += &format!("  {}\n", text(&annotations["summary"]).trim());
            catalogue += &format!("  {}\n\n", text(&annotations["description"]).trim());
        }
    }
    assert_committed("alerts", &catalogue);
}
