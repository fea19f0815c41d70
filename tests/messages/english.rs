//! Checks comments, messages and documents by the rules for English in CONTRIBUTING.md.

use crate::catalogue::{messages, sources_with_messages};
use crate::source::{Kind, texts};
use crate::{files, read};

const COLUMNS: usize = 100;

/// Words that must not open a sentence, except a question: the subject would be a clause.
const OPENINGS: &[&str] =
    &["What ", "Whatever ", "Whoever ", "Whose ", "Of what ", "From when ", "Whence "];

/// Forbidden phrases. CONTRIBUTING.md lists the words to use instead.
const DIALECT: &[&str] = &[
    "held against",
    "by hand",
    "over there",
    "is told",
    "are told",
    "was told",
    "were told",
    "so many as",
    "whoever",
    "whence",
    "what mends",
    "of its own accord",
    "stands in the file",
    "asked for",
];

fn complaints(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let sentences = text.split_inclusive(['.', '?', '!', ':']).map(str::trim_start);
    for sentence in sentences.filter(|sentence| !sentence.ends_with('?')) {
        if let Some(opening) = OPENINGS.iter().find(|opening| sentence.starts_with(**opening)) {
            found.push(format!("opens a sentence with `{}`", opening.trim()));
        }
    }
    let lower = text.to_lowercase().replace(INTERFACE, "");
    found.extend(
        DIALECT
            .iter()
            .filter(|phrase| has(&lower, phrase))
            .map(|phrase| format!("says `{phrase}`")),
    );
    found
}

fn has(text: &str, phrase: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    text.match_indices(phrase).any(|(at, _)| {
        let after = at + phrase.len();
        !is_letter(text[..at].chars().next_back()) && !is_letter(text[after..].chars().next())
    })
}

fn rust_files() -> Vec<String> {
    let mut all = files("src", ".rs");
    all.extend(files("tests", ".rs"));
    all.extend(files("benches", ".rs"));
    all
}

/// A value in the status JSON. The interface does not follow the rules for English.
const INTERFACE: &str = "set by hand";

/// Returns true for the files that must quote the forbidden phrases.
fn is_exempt(path: &str) -> bool {
    path == "tests/messages/english.rs" || path == "CONTRIBUTING.md"
}

fn documents() -> Vec<String> {
    let mut all = files("docs", ".md");
    all.extend(files("deploy", ".md"));
    all.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned),
    );
    all
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} places:\n{}\n", wrong.len(), wrong.join("\n"));
}

#[test]
fn comments_follow_the_house_rules() {
    let mut wrong = Vec::new();
    for path in rust_files().iter().filter(|path| !is_exempt(path)) {
        for comment in texts(&read(path)).iter().filter(|text| text.kind == Kind::Comment) {
            for complaint in complaints(&comment.text) {
                wrong.push(format!("{path}:{}: {complaint}: {}", comment.line, comment.text));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn messages_follow_the_house_rules() {
    let mut wrong = Vec::new();
    for path in sources_with_messages() {
        for message in messages(&path) {
            let found = complaints(&message);
            wrong.extend(found.iter().map(|complaint| format!("{path}: {complaint}: {message}")));
        }
    }
    for name in ["help", "pages", "panels", "alerts"] {
        for line in read(&format!("tests/messages/{name}.txt")).lines() {
            let found = complaints(line.trim());
            wrong.extend(found.iter().map(|complaint| format!("{name}: {complaint}: {line}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn documents_follow_the_house_rules() {
    let mut wrong = Vec::new();
    for path in documents().iter().filter(|path| !is_exempt(path)) {
        for (number, line) in prose_of(&read(path)) {
            for complaint in complaints(line.trim_start_matches(['#', '-', '*', '>', ' ', '|'])) {
                wrong.push(format!("{path}:{number}: {complaint}: {line}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn prose_keeps_to_a_hundred_columns() {
    let mut wrong = Vec::new();
    let is_wide = |line: &str| line.chars().count() > COLUMNS;
    for path in rust_files() {
        for (number, line) in read(&path).lines().enumerate() {
            let line_is_comment = line.trim_start().starts_with("//");
            if line_is_comment && is_wide(line) && !line.contains("http") && !line.contains("//! |")
            {
                wrong.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    for path in documents() {
        let text = read(&path);
        let lines = prose_of(&text).into_iter().filter(|(_, line)| {
            is_wide(line) && !line.trim_start().starts_with('|') && !line.contains("](http")
        });
        wrong.extend(lines.map(|(number, line)| format!("{path}:{number}: {line}")));
    }
    assert_none(&wrong);
}

/// Returns the numbered lines of a document outside of its code blocks.
fn prose_of(document: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut prose = Vec::new();
    for (index, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push((index + 1, line));
        }
    }
    prose
}

#[test]
fn a_sentence_that_breaks_a_rule_is_found() {
    let wrong = [
        "What cannot be sent is dropped.",
        "It ends. Whoever waits gets an error.",
        "The observer is told.",
        "A rate changed by hand.",
    ];
    for sentence in wrong {
        assert!(!complaints(sentence).is_empty(), "{sentence}");
    }
    for sentence in ["What failed?", "llmload drops late arrivals.", "The retold story"] {
        assert_eq!(complaints(sentence), Vec::<String>::new());
    }
}
