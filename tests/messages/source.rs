//! Splits Rust source into code, comments and string literals.

use crate::lexer::{Token, token};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The first line, from 1.
    pub line: usize,
    pub kind: Kind,
    /// A comment without its slashes, or a literal without its quotes and escapes.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comment,
    Literal,
}

/// Returns the comments and string literals of a source text, in order.
pub fn texts(source: &str) -> Vec<Passage> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let line = source[..at].matches('\n').count() + 1;
        let previous = source[..at].chars().next_back();
        let Some((token, length)) = token(rest, previous) else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let text = &rest[..length];
        match token {
            Token::Comment => {
                let text = text.trim_start_matches(['/', '!']).trim().to_owned();
                found.push(Passage { line, kind: Kind::Comment, text });
            }
            Token::Text => {
                let text = unescaped(&text[1..length - 1]);
                found.push(Passage { line, kind: Kind::Literal, text });
            }
            Token::RawText => {
                let text = text[1..].trim_matches('#');
                let text = text[1..text.len() - 1].to_owned();
                found.push(Passage { line, kind: Kind::Literal, text });
            }
            Token::Character => {}
        }
        at += length;
    }
    found
}

/// Removes the unit tests at the end of a source text.
pub fn without_tests(source: &str) -> &str {
    &source[..source.find("#[cfg(test)]\nmod ").unwrap_or(source.len())]
}

fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        text += &rest[..at];
        rest = &rest[at + 1..];
        let Some(escape) = rest.chars().next() else { break };
        rest = &rest[escape.len_utf8()..];
        match escape {
            'n' => text.push('\n'),
            '\n' => rest = rest.trim_start(),
            '"' | '\\' | '\'' => text.push(escape),
            other => text.extend(['\\', other]),
        }
    }
    text + rest
}

#[test]
fn comments_and_literals_are_separated_from_code() {
    let source = r##"//! Owns it.
fn f<'a>(c: char) -> bool { c == '"' || c == '\'' } // why
let s = "one \"two\" \
         three"; let r = r#"a "raw" one"#;
"##;
    let found: Vec<_> =
        texts(source).into_iter().map(|text| (text.line, text.kind, text.text)).collect();
    let expected = [
        (1, Kind::Comment, "Owns it."),
        (2, Kind::Comment, "why"),
        (3, Kind::Literal, "one \"two\" three"),
        (4, Kind::Literal, "a \"raw\" one"),
    ];
    assert_eq!(found, expected.map(|(line, kind, text)| (line, kind, text.to_owned())));
}
