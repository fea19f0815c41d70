//! Splits Rust source into code, comments and string literals.

/// One comment or string literal of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The line it begins on, from 1.
    pub line: usize,
    pub kind: Kind,
    /// A comment without its slashes, or a literal without its quotes and with escapes resolved.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comment,
    Literal,
}

/// Returns the comments and string literals of a source text, in order. Character literals and
/// lifetimes count as code.
pub fn texts(source: &str) -> Vec<Passage> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        let line = source[..at].matches('\n').count() + 1;
        let previous = source[..at].chars().next_back();
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let text = rest[..length].trim_start_matches(['/', '!']).trim();
            found.push(Passage { line, kind: Kind::Comment, text: text.to_owned() });
            length
        } else if rest.starts_with('"') {
            let length = literal_length(rest);
            found.push(Passage {
                line,
                kind: Kind::Literal,
                text: unescaped(&rest[1..length - 1]),
            });
            length
        } else if let Some((length, inner)) = raw_literal(rest, previous) {
            found.push(Passage { line, kind: Kind::Literal, text: inner.to_owned() });
            length
        } else if rest.starts_with('\'') {
            character_length(rest)
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += length;
    }
    found
}

/// Removes the unit tests, which are at the end of a source text.
pub fn without_tests(source: &str) -> &str {
    &source[..source.find("#[cfg(test)]\nmod ").unwrap_or(source.len())]
}

fn literal_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length and the content if a raw string literal begins here.
fn raw_literal(text: &str, previous: Option<char>) -> Option<(usize, &str)> {
    if !text.starts_with('r')
        || previous.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_')
    {
        return None;
    }
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let start = hashes + 2;
    if !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let length = text[start..].find(&end)?;
    Some((start + length + end.len(), &text[start..start + length]))
}

/// Returns the length of a character literal, or 1 for the quote of a lifetime.
fn character_length(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escaped)) => {
            let from = 2 + escaped.len_utf8();
            text[from..].find('\'').map_or(1, |end| from + end + 1)
        }
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 1,
    }
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
