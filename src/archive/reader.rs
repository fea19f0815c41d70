//! Reads the files of an archive, line by line. A line can be cut or foreign, for example after a
//! full disk, so a line that is no record is counted and skipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::FILE_NAME;
use super::record::FailureRecord;

/// The longest line that is read, in bytes. No record is that long.
const MAX_LINE: u64 = 8 << 20;

/// A record and its number in the archive.
#[derive(Debug)]
pub struct Entry {
    /// The position among all records, from 1.
    pub number: usize,
    pub record: FailureRecord,
}

/// Reads the records of one file, or of all files in a folder, the oldest first.
#[derive(Debug)]
pub struct Reader {
    /// The files that are not read yet, in reverse order.
    files: Vec<PathBuf>,
    open: Option<BufReader<File>>,
    records: usize,
    /// The number of lines that are no records.
    pub unreadable: u64,
}

impl Reader {
    /// Opens a file, or the folder of an archive.
    ///
    /// # Errors
    /// The file does not exist, or the folder has no archive.
    pub fn open(path: &Path) -> io::Result<Reader> {
        let files = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
        let mut reader = Reader { files, open: None, records: 0, unreadable: 0 };
        reader.open_next()?;
        Ok(reader)
    }

    /// Returns the next record. `None` is the end.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut line = Vec::new();
        while let Some(file) = &mut self.open {
            line.clear();
            let length = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if length == 0 {
                self.open_next()?;
                continue;
            }
            if length as u64 == MAX_LINE && !line.ends_with(b"\n") {
                skip_line(file)?;
                self.unreadable += 1;
                continue;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(record) => {
                    self.records += 1;
                    return Ok(Some(Entry { number: self.records, record }));
                }
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(None)
    }

    fn open_next(&mut self) -> io::Result<()> {
        self.open = None;
        if let Some(path) = self.files.pop() {
            self.open = Some(BufReader::new(File::open(path)?));
        }
        Ok(())
    }
}

/// Reads up to the end of the line.
fn skip_line(file: &mut BufReader<File>) -> io::Result<()> {
    loop {
        let bytes = file.fill_buf()?;
        let (length, has_ended) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        file.consume(length);
        if has_ended {
            return Ok(());
        }
    }
}

/// Returns the files of an archive, the newest first.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("failures.").and_then(|rest| rest.strip_suffix(".jsonl"));
        if name == FILE_NAME {
            numbered.push((0, path));
        } else if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
            numbered.push((number, path));
        }
    }
    if numbered.is_empty() {
        let message = format!("the folder has no file {FILE_NAME}");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(arrival: u64) -> String {
        format!(
            r#"{{"time":"2026-11-27T15:00:00.000Z","scenario":"s","target":"t","model":"m","arrival":{arrival},"class":"dns","blame":"network","message":"x","lag_seconds":0,"duration_seconds":1,"path":"p","new":1}}"#
        )
    }

    fn read(path: &Path) -> (Vec<(usize, u64)>, u64) {
        let mut reader = Reader::open(path).unwrap();
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            entries.push((entry.number, entry.record.arrival));
        }
        (entries, reader.unreadable)
    }

    #[test]
    fn a_folder_is_read_from_its_oldest_file_to_its_newest() {
        let folder = tempfile::tempdir().unwrap();
        for (name, arrivals) in
            [("failures.jsonl", [5, 6]), ("failures.2.jsonl", [1, 2]), ("failures.1.jsonl", [3, 4])]
        {
            let lines = arrivals.map(|arrival| line(arrival) + "\n");
            fs::write(folder.path().join(name), lines.concat()).unwrap();
        }
        fs::write(folder.path().join("failures.x.jsonl"), "foreign").unwrap();
        let expected: Vec<_> = (1..=6).map(|number| (number, number as u64)).collect();
        assert_eq!(read(folder.path()), (expected, 0));
        let empty = tempfile::tempdir().unwrap();
        assert!(Reader::open(empty.path()).unwrap_err().to_string().contains("failures.jsonl"));
    }

    #[test]
    fn lines_that_are_no_records_are_counted_and_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mixed.jsonl");
        let cut = &line(9)[..40];
        let mut text = [&line(1), "", cut, "null", "[1]", "{}", &line(2)].join("\n").into_bytes();
        text.extend_from_slice(b"\n\xff\xfe\0\n");
        text.extend(std::iter::repeat_n(b'x', 2 * usize::try_from(MAX_LINE).unwrap() + 1));
        text.extend_from_slice(b"\n");
        text.extend_from_slice(line(3).as_bytes());
        fs::write(&file, text).unwrap();
        assert_eq!(read(&file), (vec![(1, 1), (2, 2), (3, 3)], 6));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cut.jsonl");
        let text = line(1) + "\n" + &line(2) + "\n";
        for length in 0..=text.len() {
            fs::write(&file, &text[..length]).unwrap();
            let (entries, unreadable) = read(&file);
            assert!(entries.len() as u64 + unreadable <= 2, "{length}");
        }
    }
}
