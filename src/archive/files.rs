//! The files of the archive, with a rotation by size.
//!
//! Each batch opens the file again. So the archive continues if somebody deletes or moves the file,
//! and it needs no state that a full disk could make wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The folder of an archive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// The highest size of one file, in bytes.
    pub(super) file_bytes: u64,
    /// The number of files. The newest is `failures.jsonl`, and the others are `failures.1.jsonl`
    /// and so on. With one file, there is no rotation.
    pub(super) files: usize,
}

impl Folder {
    /// Appends lines. Returns the number of lines that are completely written, and the error that
    /// prevented the others.
    pub(super) fn append(&self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            let (count, result) = self.append_to_newest(rest);
            written += count;
            if let Err(error) = result {
                return (written, Err(error));
            }
        }
        (written, Ok(()))
    }

    /// Appends the lines that have room in the newest file. Rotates the files first, if the newest
    /// file has no room for any of these lines.
    fn append_to_newest(&self, lines: &[Vec<u8>]) -> (usize, io::Result<()>) {
        match self.open_with_room_for(lines.first().map_or(0, Vec::len)) {
            Ok((mut file, room)) => {
                let mut bytes = Vec::new();
                for line in lines {
                    if (bytes.len() + line.len()) as u64 > room {
                        break;
                    }
                    bytes.extend_from_slice(line);
                }
                write_lines(&mut file, &bytes)
            }
            Err(error) => (0, Err(error)),
        }
    }

    /// Opens the newest file. Returns the number of bytes that it has room for, which is at least
    /// `needed`.
    fn open_with_room_for(&self, needed: usize) -> io::Result<(File, u64)> {
        let (file, room) = self.open()?;
        if room >= needed as u64 {
            return Ok((file, room));
        }
        self.rotate()?;
        let (file, room) = self.open()?;
        if room >= needed as u64 { Ok((file, room)) } else { Err(ErrorKind::FileTooLarge.into()) }
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let path = self.newest();
        let open = || OpenOptions::new().append(true).create(true).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.path)?;
                open()?
            }
            opened => opened?,
        };
        let mut length = file.metadata()?.len();
        if length > 0 && !ends_with_line(&path)? {
            // A full disk or a crash has cut the last line. It must not swallow the next one.
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok((file, self.file_bytes.saturating_sub(length)))
    }

    /// Renames each file to the next number, which replaces the oldest file.
    fn rotate(&self) -> io::Result<()> {
        if self.files < 2 {
            return Err(ErrorKind::StorageFull.into());
        }
        for number in (1..self.files).rev() {
            let from = if number == 1 { self.newest() } else { self.older(number - 1) };
            match fs::rename(from, self.older(number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.delete_excess()
    }

    /// Deletes the oldest files, until the others leave room for a complete new file. Only a lower
    /// limit than before makes this necessary.
    fn delete_excess(&self) -> io::Result<()> {
        let limit = self.file_bytes * (self.files - 1) as u64;
        let mut total = 0;
        for number in 1..self.files {
            let path = self.older(number);
            total += fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if total > limit {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn newest(&self) -> PathBuf {
        self.path.join(super::FILE_NAME)
    }

    fn older(&self, number: usize) -> PathBuf {
        self.path.join(format!("failures.{number}.jsonl"))
    }
}

/// Writes complete lines. Returns the number of lines that are completely written.
fn write_lines(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
    let mut written = 0;
    while written < bytes.len() {
        let error = match file.write(&bytes[written..]) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(count) => {
                written += count;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        return (lines(&bytes[..written]), Err(error));
    }
    (lines(bytes), Ok(()))
}

fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut last = [0];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:09}\n").into_bytes()
    }

    fn folder(path: &Path) -> Folder {
        Folder { path: path.join("new/folder"), file_bytes: 100, files: 4 }
    }

    fn size(folder: &Folder) -> u64 {
        let files = fs::read_dir(&folder.path).unwrap();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn the_newest_lines_are_kept_within_the_limit() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = folder(temporary.path());
        for batch in 0..100 {
            let lines: Vec<_> = (0..7).map(|i| line(batch * 7 + i)).collect();
            let (written, result) = folder.append(&lines);
            assert_eq!((written, result.is_ok()), (7, true));
            assert!(size(&folder) <= 400);
        }
        let newest = fs::read_to_string(folder.newest()).unwrap();
        assert!(newest.ends_with("000000699\n"), "{newest}");
        let oldest = fs::read_to_string(folder.older(3)).unwrap();
        assert_eq!(oldest.lines().count(), 10, "{oldest}");
    }

    #[test]
    fn a_lower_limit_deletes_old_files_at_the_next_rotation() {
        let temporary = tempfile::tempdir().unwrap();
        let large = folder(temporary.path());
        large.append(&(0..40).map(line).collect::<Vec<_>>()).1.unwrap();
        let small = Folder { file_bytes: 50, ..large };
        small.append(&(0..6).map(line).collect::<Vec<_>>()).1.unwrap();
        assert!(size(&small) <= 200, "{}", size(&small));
    }

    #[test]
    fn a_cut_line_does_not_swallow_the_next_line() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = folder(temporary.path());
        folder.append(&[line(1)]).1.unwrap();
        let mut file = OpenOptions::new().append(true).open(folder.newest()).unwrap();
        file.write_all(b"cut").unwrap();
        folder.append(&[line(2)]).1.unwrap();
        let text = fs::read_to_string(folder.newest()).unwrap();
        assert_eq!(text, "000000001\ncut\n000000002\n");
    }

    #[test]
    fn a_folder_that_is_a_file_and_a_line_that_is_too_long_are_errors() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = folder(temporary.path());
        let (written, result) = folder.append(&[vec![b'x'; 200]]);
        assert_eq!((written, result.unwrap_err().kind()), (0, ErrorKind::FileTooLarge));
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Folder { path: file, ..folder.clone() }.append(&[line(1)]).1.is_err());
        let single = Folder { files: 1, ..folder };
        let (written, result) = single.append(&(0..20).map(line).collect::<Vec<_>>());
        assert_eq!((written, result.unwrap_err().kind()), (10, ErrorKind::StorageFull));
    }
}
