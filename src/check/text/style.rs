//! The width and the colours of text for a terminal or a file.

use std::fmt::Display;

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

    fn in_style(self, code: &str, text: impl Display) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}

/// Breaks text at spaces into lines of at most `width` characters. A longer word gets a separate
/// line.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
