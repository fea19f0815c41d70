//! Collects every text that a person reads in `tests/messages/*.txt`. A reviewer reads them from
//! top to bottom, and sees each change in the diff. `UPDATE_EXPECTED=1 cargo test --test messages`
//! writes these files.
//!
//! Other files have configuration problems (`tests/config/invalid/*.txt`), HELP texts
//! (`docs/metrics.md`) and configuration keys (`docs/configuration.md`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::format_push_string)]

mod catalogue;
mod english;
mod lexer;
mod reference;
mod rendered;
mod source;

use std::path::{Path, PathBuf};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the paths, from the root of the repository, of all files below a folder with this
/// ending.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let relative = path.strip_prefix(repository("")).unwrap();
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}
