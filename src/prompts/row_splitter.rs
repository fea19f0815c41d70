//! Where one row of a file ends and the next begins, found as the bytes go by: lines, or the objects
//! of a JSON list.
//!
//! A file may be larger than memory, so nothing is kept but the row in progress, and a row has a
//! largest size. What a row means is not looked into; only so much of JSON is known here as it takes
//! to see where an object ends.

use std::mem;

/// The largest row in bytes. It fits into the lower bits of an index entry.
pub(super) const LARGEST_ROW: usize = (1 << 24) - 1;

/// A row in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawRow<'a> {
    /// Its first byte in the file.
    pub(super) start: u64,
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// What it holds, spaces around it included.
    pub(super) bytes: &'a [u8],
}

/// Why a file cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct SplitError {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong and, after a semicolon, what would be right.
    pub(super) message: &'static str,
}

const TOO_LARGE: &str = "a row of more than 16 MiB; no endpoint takes it, leave it out";

/// Where in a JSON list the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before anything; from here it may also become lines.
    Start,
    /// Not a list: rows end at each newline.
    Lines,
    /// After the bracket: an object, or the end of an empty list.
    First,
    /// After a comma: an object.
    Next,
    /// Inside an object, so many brackets deep.
    Inside { depth: u32, quoted: bool, escaped: bool },
    /// After an object: a comma, or the end.
    Between,
    /// After the list.
    End,
}

/// Cuts what it is fed.
#[derive(Debug)]
pub(super) struct RowSplitter {
    place: Place,
    /// Of the next byte.
    offset: u64,
    line: usize,
    /// The row in progress: what it holds so far, where and on which line it began.
    row: Vec<u8>,
    start: (u64, usize),
}

impl RowSplitter {
    /// For a file that has not been read yet. Where `json` is true, it may also be one list.
    pub(super) fn new(json: bool) -> RowSplitter {
        let place = if json { Place::Start } else { Place::Lines };
        RowSplitter { place, offset: 0, line: 1, row: Vec::new(), start: (0, 1) }
    }

    /// Takes more of the file, and tells each row that ends in it.
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
                    self.between(*byte)?;
                    // The byte that decides is read again as what it turned out to be.
                    usize::from(!matches!(self.place, Place::Lines | Place::Inside { .. }))
                }
            };
            self.offset += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The file has ended; tells the last row.
    pub(super) fn end(mut self, mut each: impl FnMut(RawRow<'_>)) -> Result<(), SplitError> {
        match self.place {
            Place::Lines => self.finish(&mut each),
            Place::Start | Place::End => {}
            _ => return Err(self.wrong("the list does not end; the file is cut off")),
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

    /// A byte that belongs to no object.
    fn between(&mut self, byte: u8) -> Result<(), SplitError> {
        self.place = match (self.place, byte) {
            // The byte order mark, of which some editors are fond.
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
                return Err(self.wrong("not an object; write a list of objects"));
            }
            (Place::Between, _) => {
                return Err(self.wrong("neither `,` nor `]` after an object; put one there"));
            }
            _ => {
                return Err(self.wrong(
                    "something follows the list; take it away, or write one object a line",
                ));
            }
        };
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), SplitError> {
        if self.row.len() + part.len() > LARGEST_ROW {
            return Err(SplitError { line: self.start.1, message: TOO_LARGE });
        }
        self.row.extend_from_slice(part);
        Ok(())
    }

    fn finish(&mut self, each: &mut impl FnMut(RawRow<'_>)) {
        let (start, line) = self.start;
        let mut bytes = mem::take(&mut self.row);
        each(RawRow { start, line, bytes: &bytes });
        // Its room is used again.
        bytes.clear();
        self.row = bytes;
    }

    fn wrong(&self, message: &'static str) -> SplitError {
        SplitError { line: self.line, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(u64, usize, String)>;

    fn cut(text: &str, json: bool, split: usize) -> Result<Rows, SplitError> {
        let mut rows = Vec::new();
        let mut each = |row: RawRow<'_>| {
            let held = String::from_utf8(row.bytes.to_vec()).unwrap();
            let start = usize::try_from(row.start).unwrap();
            assert_eq!(&text[start..start + held.len()], held, "its place is where it stands");
            rows.push((row.start, row.line, held));
        };
        let mut splitter = RowSplitter::new(json);
        splitter.feed(&text.as_bytes()[..split], &mut each)?;
        splitter.feed(&text.as_bytes()[split..], &mut each)?;
        splitter.end(&mut each)?;
        Ok(rows)
    }

    /// The same however the bytes are cut.
    fn rows(text: &str, json: bool) -> Result<Vec<(usize, String)>, SplitError> {
        let whole = cut(text, json, 0);
        for split in 1..=text.len() {
            assert_eq!(cut(text, json, split), whole, "split at {split}");
        }
        Ok(whole?.into_iter().map(|(_, line, held)| (line, held)).collect())
    }

    fn told(rows: &[(usize, &str)]) -> Vec<(usize, String)> {
        rows.iter().map(|(line, held)| (*line, (*held).to_owned())).collect()
    }

    #[test]
    fn lines_end_at_newlines_and_at_the_end() {
        assert_eq!(
            rows("a\r\n\nb é\n", false).unwrap(),
            told(&[(1, "a\r"), (2, ""), (3, "b é"), (4, "")])
        );
        assert_eq!(
            rows("[1]\n]", false).unwrap(),
            told(&[(1, "[1]"), (2, "]")]),
            "text is not JSON"
        );
        assert_eq!(rows("\n\n{\"a\":1}\n{}", true).unwrap(), told(&[(3, "{\"a\":1}"), (4, "{}")]));
        assert_eq!(rows("\u{feff}{}\n", true).unwrap(), told(&[(1, "{}"), (2, "")]));
    }

    #[test]
    fn a_list_is_cut_into_its_objects() {
        let text = "\u{feff} [\n {\"a\": \"]}\\\"{\\\\\"},\n{\"b\": [{}, {\n}]} , {}\n]\n";
        let expected = [(2, "{\"a\": \"]}\\\"{\\\\\"}"), (3, "{\"b\": [{}, {\n}]}"), (4, "{}")];
        assert_eq!(rows(text, true).unwrap(), told(&expected));
        assert_eq!(rows("[ ]", true).unwrap(), []);
        assert_eq!(rows(" \n", true).unwrap(), []);
    }

    #[test]
    fn what_is_not_a_list_of_objects_is_told_by_line() {
        for (text, line, words) in [
            ("[\n{},\n5]", 3, "not an object"),
            ("[{}\n{}]", 2, "neither"),
            ("[{},\n]", 2, "not an object"),
            ("[{}]\n[", 2, "something follows"),
            ("[{}\n", 2, "does not end"),
            ("[{\n", 2, "does not end"),
        ] {
            let wrong = rows(text, true).unwrap_err();
            assert!(wrong.line == line && wrong.message.contains(words), "{text:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_row_without_end_is_not_kept() {
        let mut splitter = RowSplitter::new(false);
        let part = vec![b'a'; 1 << 20];
        for _ in 0..15 {
            splitter.feed(&part, |_| {}).unwrap();
        }
        let wrong = splitter.feed(&part, |_| {}).unwrap_err();
        assert!(wrong.line == 1 && wrong.message.contains("16 MiB"), "{wrong:?}");
    }
}
