//! The files of a report. llmload writes each file completely under another name and then renames
//! it, so no program ever reads a half of a report.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::archive;
use crate::report::{self, Report};

const NAMES: [&str; 5] = ["report.json", "report.md", "report.html", "report.csv", "junit.xml"];

/// Creates the folder of the report and removes an older report. If this run fails, nobody should
/// mistake the older report for the result of this run.
///
/// Fails if no file can be created in the folder. This error should appear before the run, and not
/// after an hour of load.
pub(super) fn prepare(folder: &Path) -> anyhow::Result<()> {
    let failed = |action: &str, error: io::Error| {
        anyhow::anyhow!(
            "--report {}: cannot {action}: {error}; make the folder writable, or choose another \
             folder",
            folder.display()
        )
    };
    fs::create_dir_all(folder).map_err(|error| failed("create the folder", error))?;
    for name in NAMES.into_iter().chain([archive::FILE_NAME]) {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(&format!("replace {name}"), error));
            }
            _ => {}
        }
    }
    let probe = partial(&folder.join(NAMES[0]));
    let created = File::create(&probe).and_then(|_file| fs::remove_file(&probe));
    created.map_err(|error| failed("create a file in the folder", error))
}

/// Writes all files that can be written. Returns the first error.
pub(super) fn write(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let texts = [
        json(report)?,
        report::markdown(report),
        report::html(report)?,
        report::csv(report),
        report::junit(report),
    ];
    let mut result = Ok(());
    for (name, text) in NAMES.into_iter().zip(texts) {
        let path = folder.join(name);
        let written = write_and_rename(&path, &text).map_err(|error| {
            anyhow::anyhow!(
                "cannot write {}: {error}; free space on that disk, or choose another folder with \
                 --report",
                path.display()
            )
        });
        result = result.and(written);
    }
    if result.is_ok() {
        // The archive of failed requests exists only if a request failed.
        let archive = folder.join(archive::FILE_NAME).exists().then_some(archive::FILE_NAME);
        let names: Vec<&str> = NAMES.into_iter().chain(archive).collect();
        tracing::info!("wrote {} to {}", names.join(", "), folder.display());
    }
    result
}

pub(super) fn json(report: &Report) -> anyhow::Result<String> {
    serde_json::to_string_pretty(report).context("cannot write the report as JSON")
}

fn write_and_rename(path: &Path, text: &str) -> io::Result<()> {
    let partial = partial(path);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        // Some file systems report a full disk only here.
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    let written = write();
    if written.is_err() {
        // The first error explains the problem.
        let _ignored = fs::remove_file(&partial);
    }
    written
}

/// Returns the name of a file that is not complete yet: `report.json.partial`.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
