//! Splits a file into rows, which are lines or the objects of a JSON list.
//!
//! A file can be larger than the memory, so the splitter holds only the current row. It does not
//! parse JSON, but only looks for the end of each object.

use std::mem;

/// In bytes. An index entry has 24 bits for the length of a row.
pub(super) const LARGEST_ROW: usize = (1 << 24) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawRow<'a> {
    /// The offset in the file.
    pub(super) start: u64,
    /// The first line of the row, from 1.
    pub(super) line: usize,
    /// Includes white space at both ends.
    pub(super) bytes: &'a [u8],
}

/// The file cannot be split into rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub(super) struct SplitError {
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) problem: &'static str,
    pub(super) remedy: &'static str,
}

const TOO_LARGE: &str = "the row is larger than 16 MiB";
const REMOVE_ROW: &str = "remove the row, because no endpoint accepts it";

/// The position of the next byte in the structure of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A list or lines can follow.
    Start,
    /// In a file of lines.
    Lines,
    /// After `[`. An object or `]` must follow.
    First,
    /// After a comma. An object must follow.
    Next,
    /// In an object. `depth` is the number of open brackets.
    Inside { depth: u32, quoted: bool, escaped: bool },
    /// After an object. A comma or `]` must follow.
    Between,
    /// After the final `]`.
    End,
}

#[derive(Debug)]
pub(super) struct RowSplitter {
    place: Place,
    /// The offset of the next byte in the file.
    offset: u64,
    /// The line of the next byte, from 1.
    line: usize,
    /// The current row up to the next byte.
    row: Vec<u8>,
    /// The offset and the line of the first byte of the current row.
    start: (u64, usize),
}

impl RowSplitter {
    /// If `json` is true, the file can be a JSON list.
    pub(super) fn new(json: bool) -> RowSplitter {
        let place = if json { Place::Start } else { Place::Lines };
        RowSplitter { place, offset: 0, line: 1, row: Vec::new(), start: (0, 1) }
    }

    /// Calls `each` for each row that ends in these bytes.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(RawRow<'_>),
    ) -> Result<(), SplitError> {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            let taken = match self.place {
                Place::Lines => self.line_part(rest, &mut each)?,
                Place::Inside { .. } => self.object_part(rest, &mut each)?,
                _ => {
                    self.outside_row(*byte)?;
                    // The next iteration reads the first byte of a row again, as part of the row.
                    usize::from(!matches!(self.place, Place::Lines | Place::Inside { .. }))
                }
            };
            self.offset += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Calls `each` for the last line, unless the file is a list.
    pub(super) fn end(mut self, mut each: impl FnMut(RawRow<'_>)) -> Result<(), SplitError> {
        match self.place {
            Place::Lines => self.finish(&mut each),
            Place::Start | Place::End => {}
            _ => {
                return Err(self.wrong(
                    "the list has no end",
                    "complete the file, because its end is missing",
                ));
            }
        }
        Ok(())
    }

    fn line_part(
        &mut self,
        rest: &[u8],
        each: &mut impl FnMut(RawRow<'_>),
    ) -> Result<usize, SplitError> {
        let newline = memchr::memchr(b'\n', rest);
        let part = &rest[..newline.unwrap_or(rest.len())];
        self.keep(part)?;
        if newline.is_some() {
            self.finish(each);
            self.line += 1;
            self.start = (self.offset + part.len() as u64 + 1, self.line);
        }
        Ok(part.len() + usize::from(newline.is_some()))
    }

    fn object_part(
        &mut self,
        rest: &[u8],
        each: &mut impl FnMut(RawRow<'_>),
    ) -> Result<usize, SplitError> {
        let Place::Inside { mut depth, mut quoted, mut escaped } = self.place else { return Ok(0) };
        for (at, byte) in rest.iter().enumerate() {
            self.line += usize::from(*byte == b'\n');
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.keep(&rest[..=at])?;
                self.finish(each);
                self.place = Place::Between;
                return Ok(at + 1);
            }
        }
        self.place = Place::Inside { depth, quoted, escaped };
        self.keep(rest)?;
        Ok(rest.len())
    }

    fn outside_row(&mut self, byte: u8) -> Result<(), SplitError> {
        self.place = match (self.place, byte) {
            // Some editors begin a file with a byte order mark.
            (Place::Start, 0xEF | 0xBB | 0xBF) if self.offset < 3 => Place::Start,
            (place, b' ' | b'\t' | b'\r' | b'\n') => {
                self.line += usize::from(byte == b'\n');
                place
            }
            (Place::Start, b'[') => Place::First,
            (Place::Start, _) => {
                self.start = (self.offset, self.line);
                Place::Lines
            }
            (Place::First | Place::Next, b'{') => {
                self.start = (self.offset, self.line);
                Place::Inside { depth: 0, quoted: false, escaped: false }
            }
            (Place::First | Place::Between, b']') => Place::End,
            (Place::Between, b',') => Place::Next,
            (Place::First | Place::Next, _) => {
                return Err(self.wrong("no object follows `[` or `,`", "write a list of objects"));
            }
            (Place::Between, _) => {
                return Err(self.wrong("neither `,` nor `]` follows an object", "add one of them"));
            }
            _ => {
                return Err(self.wrong(
                    "text follows the list",
                    "remove the text, or write one object on each line",
                ));
            }
        };
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), SplitError> {
        if self.row.len() + part.len() > LARGEST_ROW {
            return Err(SplitError { line: self.start.1, problem: TOO_LARGE, remedy: REMOVE_ROW });
        }
        self.row.extend_from_slice(part);
        Ok(())
    }

    fn finish(&mut self, each: &mut impl FnMut(RawRow<'_>)) {
        let (start, line) = self.start;
        let mut bytes = mem::take(&mut self.row);
        each(RawRow { start, line, bytes: &bytes });
        // The next row uses the same allocation.
        bytes.clear();
        self.row = bytes;
    }

    fn wrong(&self, problem: &'static str, remedy: &'static str) -> SplitError {
        SplitError { line: self.line, problem, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(u64, usize, String)>;

    fn split(text: &str, json: bool, split_at: usize) -> Result<Rows, SplitError> {
        let mut rows = Vec::new();
        let mut each = |row: RawRow<'_>| {
            let content = String::from_utf8(row.bytes.to_vec()).unwrap();
            let start = usize::try_from(row.start).unwrap();
            assert_eq!(
                &text[start..start + content.len()],
                content,
                "the content begins at the offset of the row"
            );
            rows.push((row.start, row.line, content));
        };
        let mut splitter = RowSplitter::new(json);
        splitter.feed(&text.as_bytes()[..split_at], &mut each)?;
        splitter.feed(&text.as_bytes()[split_at..], &mut each)?;
        splitter.end(&mut each)?;
        Ok(rows)
    }

    /// Splits a text that is fed in two parts, for each possible division. All results must be
    /// equal.
    fn rows(text: &str, json: bool) -> Result<Vec<(usize, String)>, SplitError> {
        let undivided = split(text, json, 0);
        for at in 1..=text.len() {
            assert_eq!(split(text, json, at), undivided, "divided at {at}");
        }
        Ok(undivided?.into_iter().map(|(_, line, content)| (line, content)).collect())
    }

    fn owned(rows: &[(usize, &str)]) -> Vec<(usize, String)> {
        rows.iter().map(|(line, content)| (*line, (*content).to_owned())).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end_of_the_file() {
        assert_eq!(
            rows("a\r\n\nb é\n", false).unwrap(),
            owned(&[(1, "a\r"), (2, ""), (3, "b é"), (4, "")])
        );
        assert_eq!(
            rows("[1]\n]", false).unwrap(),
            owned(&[(1, "[1]"), (2, "]")]),
            "brackets have no meaning in a text file"
        );
        assert_eq!(rows("\n\n{\"a\":1}\n{}", true).unwrap(), owned(&[(3, "{\"a\":1}"), (4, "{}")]));
        assert_eq!(rows("\u{feff}{}\n", true).unwrap(), owned(&[(1, "{}"), (2, "")]));
    }

    #[test]
    fn a_list_is_split_into_its_objects() {
        let text = "\u{feff} [\n {\"a\": \"]}\\\"{\\\\\"},\n{\"b\": [{}, {\n}]} , {}\n]\n";
        let expected = [(2, "{\"a\": \"]}\\\"{\\\\\"}"), (3, "{\"b\": [{}, {\n}]}"), (4, "{}")];
        assert_eq!(rows(text, true).unwrap(), owned(&expected));
        assert_eq!(rows("[ ]", true).unwrap(), []);
        assert_eq!(rows(" \n", true).unwrap(), []);
    }

    #[test]
    fn an_error_in_a_list_names_its_line() {
        for (text, line, message) in [
            ("[\n{},\n5]", 3, "no object follows"),
            ("[{}\n{}]", 2, "neither"),
            ("[{},\n]", 2, "no object follows"),
            ("[{}]\n[", 2, "text follows"),
            ("[{}\n", 2, "has no end"),
            ("[{\n", 2, "has no end"),
        ] {
            let wrong = rows(text, true).unwrap_err();
            assert!(
                wrong.line == line && wrong.to_string().contains(message),
                "{text:?}: {wrong:?}"
            );
        }
    }

    #[test]
    fn a_row_that_is_too_large_is_an_error() {
        let mut splitter = RowSplitter::new(false);
        let part = vec![b'a'; 1 << 20];
        for _ in 0..15 {
            splitter.feed(&part, |_| {}).unwrap();
        }
        let wrong = splitter.feed(&part, |_| {}).unwrap_err();
        assert!(wrong.line == 1 && wrong.to_string().contains("16 MiB"), "{wrong:?}");
    }
}
