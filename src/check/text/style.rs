//! The width and the colours of text for a terminal or a file.

use std::fmt::Display;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Characters per line.
    pub width: usize,
    pub colours: bool,
}

impl TextStyle {
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.in_style("1", text)
    }

    pub(crate) fn faint(self, text: impl Display) -> String {
        self.in_style("2", text)
    }

    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.in_style("33", text)
    }

    pub(crate) fn red(self, text: impl Display) -> String {
        self.in_style("31", text)
    }

    pub(crate) fn green(self, text: impl Display) -> String {
        self.in_style("32", text)
    }

    fn in_style(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Returns the number of columns of a text on a terminal. A Chinese character needs two columns.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Shortens a text to a number of columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let fits = |character: &char| {
        let left = room.checked_sub(character.width().unwrap_or(0));
        room = left.unwrap_or(0);
        left.is_some()
    };
    let start: String = text.chars().take_while(fits).collect();
    if columns == 0 { String::new() } else { format!("{}…", start.trim_end()) }
}

/// Breaks text at spaces into lines of at most `width` characters. A longer word gets a separate
/// line.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if self::width(line) + 1 + self::width(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_its_columns_and_not_by_its_characters() {
        for (text, columns, expected) in [
            ("plain", 5, "plain"),
            ("plain", 4, "pla…"),
            ("并发 35", 7, "并发 35"),
            ("并发 35", 6, "并发…"),
            ("并发 35", 4, "并…"),
            ("并发 35", 1, "…"),
            ("并发 35", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected);
            assert!(width(expected) <= columns);
        }
    }
}
