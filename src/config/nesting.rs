//! Finds lists and maps that are nested too deeply, and `%TAG` lines, before the YAML parser reads
//! the text.
//!
//! A file of a megabyte can occupy the YAML parser for half an hour, because the time of the parser
//! grows with the square of the number of open `[` and `{`, and of `%TAG` lines. A line of a
//! megabyte with many `- ` needs two hundred megabytes of memory. This scanner reads each byte
//! once. It skips quoted texts, comments, plain texts and block texts, because a bracket in them is
//! not syntax.

use super::problem::{Mistake, Position};

/// Returns the first `%TAG` line, the first bracket at which more than `limit` brackets are open,
/// or the first `-` or `?` after `limit` others on its line, whichever is first.
pub fn find_fault(text: &str, limit: usize) -> Option<(Position, Mistake)> {
    let mut scanner = Scanner::new(text);
    while scanner.at < scanner.text.len() {
        let start = scanner.at;
        if scanner.is_at_tag_line() {
            let mistake = Mistake::new("llmload does not support `%TAG` lines", "remove the line");
            return Some((position(text, start), mistake));
        }
        scanner.skip_token();
        if scanner.open.max(scanner.opened_in_line) > limit {
            let remedy = format!("nest at most {limit} levels");
            let mistake = Mistake::new("the file is nested too deeply", remedy);
            return Some((position(text, start), mistake));
        }
    }
    None
}

/// Returns the line and the column of a byte. The column counts characters.
fn position(text: &str, at: usize) -> Position {
    let before = &text[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    Position {
        line: memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1,
        column: line.chars().count() + 1,
    }
}

struct Scanner<'t> {
    text: &'t [u8],
    /// The position of the next byte, which begins a token or is a space.
    at: usize,
    /// The position of the first byte of the current line.
    line_start: usize,
    /// The number of open `[` and `{`.
    open: usize,
    /// The number of block lists and maps that `-` and `?` have opened in the current line.
    opened_in_line: usize,
    /// The column, from 0, of the innermost block list or map; -1 outside. The lines of a block
    /// text begin to the right of this column.
    indent: isize,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Scanner<'t> {
        let text = text.as_bytes();
        Scanner { text, at: 0, line_start: 0, open: 0, opened_in_line: 0, indent: -1 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn is_space(&self, at: usize) -> bool {
        self.byte(at).is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
    }

    fn is_line_start(&self) -> bool {
        self.at == self.line_start
    }

    fn is_at_tag_line(&self) -> bool {
        self.is_line_start() && self.text[self.at..].starts_with(b"%TAG")
    }

    /// The column of a byte of the current line, in bytes from 0.
    fn column(&self, at: usize) -> isize {
        isize::try_from(at.saturating_sub(self.line_start)).unwrap_or(isize::MAX)
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
        self.line_start = self.at;
        self.opened_in_line = 0;
    }

    fn skip_token(&mut self) {
        let Some(byte) = self.byte(self.at) else { return };
        let marker = self.is_line_start()
            && [b"---", b"..."].iter().any(|mark| self.text[self.at..].starts_with(*mark))
            && self.is_space(self.at + 3);
        match byte {
            _ if marker => (self.at, self.open, self.indent) = (self.at + 3, 0, -1),
            b'%' if self.is_line_start() => self.skip_line(),
            b'"' | b'\'' => self.skip_quoted(byte),
            b'[' | b'{' => (self.at, self.open) = (self.at + 1, self.open + 1),
            b']' | b'}' if self.open > 0 => (self.at, self.open) = (self.at + 1, self.open - 1),
            b',' | b':' if self.open > 0 => self.at += 1,
            b'|' | b'>' if self.open == 0 => self.skip_block_text(),
            b'-' | b'?' if self.open == 0 && self.is_space(self.at + 1) => {
                self.indent = self.column(self.at);
                self.at += 1;
                self.opened_in_line += 1;
            }
            b':' if self.is_space(self.at + 1) => self.at += 1,
            b'!' | b'&' | b'*' => self.skip_word(),
            b'#' | b'\n' => self.skip_line(),
            _ if self.is_space(self.at) => self.at += 1,
            _ => self.skip_plain(),
        }
    }

    /// Skips a tag, an anchor or an alias.
    fn skip_word(&mut self) {
        let is_end = |at| self.is_space(at) || self.open > 0 && self.is_flow_end(at);
        self.at = (self.at..self.text.len()).find(|at| is_end(*at)).unwrap_or(self.text.len());
    }

    fn is_flow_end(&self, at: usize) -> bool {
        self.byte(at).is_some_and(|byte| b",[]{}".contains(&byte))
    }

    fn skip_quoted(&mut self, quote: u8) {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.byte(self.at) {
            self.at += 1;
            match byte {
                b'\\' if quote == b'"' => self.at += 1,
                // `''` is a quote inside a text in single quotes.
                b'\'' if quote == b'\'' && self.byte(self.at) == Some(b'\'') => self.at += 1,
                b'\n' => self.line_start = self.at,
                end if end == quote => break,
                _ => {}
            }
        }
        self.at = self.at.min(self.text.len());
        self.record_key(start);
    }

    /// Skips a text without quotes up to the end of its line, a comment, a `:` or, inside brackets,
    /// the end of the entry.
    fn skip_plain(&mut self) {
        let start = self.at;
        while let Some(byte) = self.byte(self.at) {
            let is_end = match byte {
                b'\n' => true,
                b':' => {
                    self.is_space(self.at + 1) || self.open > 0 && self.is_flow_end(self.at + 1)
                }
                b'#' => self.at > start && self.is_space(self.at - 1),
                _ => self.open > 0 && self.is_flow_end(self.at),
            };
            if is_end && self.at > start {
                break;
            }
            self.at += 1;
        }
        self.record_key(start);
    }

    /// Records the text from `start` as the key of a block map, if a `:` follows.
    fn record_key(&mut self, start: usize) {
        if self.open == 0 && self.byte(self.at) == Some(b':') && self.is_space(self.at + 1) {
            self.indent = self.column(start);
        }
    }

    /// Skips a block text: the line of its `|` or `>`, and its lines.
    fn skip_block_text(&mut self) {
        let line = &self.text[self.at..];
        let header = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        let header = header.iter().take_while(|byte| !byte.is_ascii_whitespace());
        let digit = header.copied().find(u8::is_ascii_digit);
        self.skip_line();
        let mut indent = digit.map(|digit| self.indent.max(0) + isize::from(digit - b'0'));
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
            let is_blank = matches!(rest.get(spaces), None | Some(b'\n' | b'\r'));
            let spaces = isize::try_from(spaces).unwrap_or(isize::MAX);
            if !is_blank {
                // Without a number after the `|`, the first line sets the indentation.
                let least = *indent.get_or_insert(spaces.max(self.indent + 1).max(1));
                if spaces < least {
                    return;
                }
            }
            self.skip_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(usize, usize)> {
        find_fault(text, 3).map(|(at, _)| (at.line, at.column))
    }

    #[test]
    fn only_brackets_of_the_syntax_count() {
        for text in [
            "a: [[[]]]\nb: {c: [{}, {}, []]}\n",
            "a: \"[[[[\\\"[[\"\nb: '[[[[''[[['\n",
            "a: x[[[[ {{{{\nb: it's [[[[\nc: d #[[[[\n# [[[[\n",
            "a: |\n  [[[[\n\n    {{{{\n  [[[[\nb: >-\n [[[[\nc: 1\n",
            "a:\n  - |\n    [[[[\n   \n    [[[[\n  - b: |2\n      [[[[\n  - c\n",
            "- |\n [[[[\n- \"d\": |\n    [[[[\n",
            "--- |\n [[[[\n--- >\n [[[[\n...\n",
            "a: [x, \"[[[[\", '[[[[', b-[, ]]\n",
            "a: {\"b\":\"[[[[\", c: it's, d: \"[[[[\"}\n",
            "a: !x [[[]]]\nb: &c [[[]]]\nd: *c\n",
            "a: b:[[[[\n",
            "- - - a\n- - - b\nc - - - -: d\n",
            "- \"- - - -\"\n- - - # - -\n",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_level_beyond_the_limit_is_reported_with_its_place() {
        for (text, place) in [
            ("[[[[", (1, 4)),
            ("a: 1\nb: ü\nc: {a: {b: [é, {", (3, 16)),
            ("- - a: [[[[", (1, 11)),
            ("a: |\n  [[[[\nb: [[[[", (3, 7)),
            ("a: \"[[[[\" \nb: [[[\n[", (3, 1)),
            ("? [[[[", (1, 6)),
            ("a: {\"b\":[[[", (1, 11)),
            ("a: !x [[[[", (1, 10)),
            ("--- [[[[", (1, 8)),
            ("a: 1\n%TAG !a! b\n", (2, 1)),
            ("a:\n  - - - - b", (2, 9)),
            ("? - ? - a", (1, 7)),
        ] {
            assert_eq!(fault(text), Some(place), "{text}");
        }
    }

    /// Each call to `skip_token` advances, so the number of calls is at most the number of bytes.
    #[test]
    fn each_token_advances_so_the_scan_is_linear() {
        let texts = ["[{:,\"'x- #|>%!&*?\n ]}\\é", "'", "\"\\", "|", ">9\n", "a: |\n", ": - ? ,]"];
        for text in texts.iter().flat_map(|text| [(*text).to_owned(), text.repeat(3)]) {
            let mut scanner = Scanner::new(&text);
            while scanner.at < scanner.text.len() {
                let before = scanner.at;
                scanner.skip_token();
                assert!(scanner.at > before && scanner.at <= text.len(), "{text:?} at {before}");
            }
        }
    }
}
