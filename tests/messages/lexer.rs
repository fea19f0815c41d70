//! Finds comments, string literals and character literals in Rust source, for the catalogue of
//! messages and the rules of the architecture.

/// Any other text, including lifetimes, is code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Comment,
    Text,
    RawText,
    Character,
}

/// Returns the token at the start of `rest` and its length in bytes, or `None` for code. `previous`
/// is the character before `rest`.
pub fn token(rest: &str, previous: Option<char>) -> Option<(Token, usize)> {
    let is_in_name = previous.is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_');
    if rest.starts_with("//") {
        Some((Token::Comment, rest.find('\n').unwrap_or(rest.len())))
    } else if rest.starts_with("/*") {
        Some((Token::Comment, rest.find("*/").map_or(rest.len(), |end| end + 2)))
    } else if rest.starts_with('"') {
        Some((Token::Text, text_length(rest)))
    } else if rest.starts_with('r') && !is_in_name {
        raw_text_length(rest).map(|length| (Token::RawText, length))
    } else if rest.starts_with('\'') {
        character_length(rest).map(|length| (Token::Character, length))
    } else {
        None
    }
}

fn text_length(text: &str) -> usize {
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

fn raw_text_length(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// Returns `None` for a lifetime.
fn character_length(text: &str) -> Option<usize> {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), Some(escaped)) => {
            let from = 2 + escaped.len_utf8();
            text[from..].find('\'').map(|end| from + end + 1)
        }
        (Some(c), Some('\'')) => Some(c.len_utf8() + 2),
        _ => None,
    }
}
