//! Reads the configuration file, and small files that the configuration names, up to a size limit.
//!
//! Only `llmload check` reads a pipe. A daemon reads its file again at each reload, and a pipe can
//! be read only once.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::{Invalid, Mistake, Position, Problem, ProblemKind};
use super::yaml;
use crate::prompts::is_utf16;

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, or its text is not UTF-8.
pub fn read_configuration(path: &Path) -> Result<String, Invalid> {
    let name = path.display().to_string();
    let opened = open(path).map_err(|error| Invalid::about_file(&name, unreadable(&error)))?;
    decode(&name, opened)
}

/// Reads a configuration from a file, a pipe or standard input (`-`).
///
/// # Errors
/// The text cannot be read, or it is not UTF-8.
pub fn read_once(path: &Path) -> Result<String, Invalid> {
    let name = path.display().to_string();
    if is_standard_input(path) {
        return decode(&name, std::io::stdin().lock());
    }
    let opened =
        File::open(path).map_err(|error| Invalid::about_file(&name, unreadable(&error)))?;
    decode(&name, opened)
}

pub fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-") || path == Path::new("/dev/stdin")
}

/// Reads a small text file.
///
/// # Errors
/// The file cannot be read, is larger than `limit` bytes, or is not UTF-8.
pub fn read_small(path: &Path, limit: u64) -> Result<String, Mistake> {
    let cannot = |reason: String| {
        let remedy = "name a readable file, relative to the configuration file";
        Mistake::new(format!("the file cannot be read: {reason}"), remedy)
    };
    let mut text = String::new();
    let file = open(path).map_err(|error| cannot(error.to_string()))?;
    // One byte above the limit is enough to detect a file that is too large.
    match file.take(limit + 1).read_to_string(&mut text) {
        // The limit can cut a character in two, so a text that is too large can also be invalid
        // UTF-8.
        _ if text.len() as u64 > limit => {
            let message = format!("the file is larger than {} KiB", limit / 1024);
            Err(Mistake::new(message, "make sure that it is the right file"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(cannot(error.to_string())),
    }
}

/// Opens a regular file. A pipe or a device could be endless, or could block llmload.
fn open(path: &Path) -> std::io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    File::open(path)
}

fn unreadable(error: &std::io::Error) -> Mistake {
    if error.kind() == std::io::ErrorKind::NotFound {
        Mistake::without_remedy("there is no such file")
    } else {
        Mistake::new(format!("the file cannot be read: {error}"), "name a readable file")
    }
}

fn decode(name: &str, from: impl Read) -> Result<String, Invalid> {
    let mut bytes = Vec::new();
    from.take(yaml::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Invalid::about_file(name, unreadable(&error)))?;
    if is_utf16(&bytes) {
        let mistake = Mistake::new("the file is UTF-16", "save it as UTF-8");
        return Err(Invalid::about_file(name, mistake.of_kind(ProblemKind::Syntax)));
    }
    String::from_utf8(bytes).or_else(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        if bytes.len() > yaml::MAX_BYTES {
            // The limit has cut the file, perhaps within a character. The parser rejects the size.
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        let before = String::from_utf8_lossy(&bytes[..valid]);
        let line = before.rsplit('\n').next().unwrap_or_default();
        let position =
            Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 };
        let mistake = Mistake::new("the text is not UTF-8", "save the file as UTF-8");
        let mistake = mistake.of_kind(ProblemKind::Syntax);
        Err(Invalid::new(name, vec![Problem::new(position, String::new(), mistake)]))
    })
}
