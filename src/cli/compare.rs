//! `llmload compare`: compares two reports and returns a verdict.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Failed, print};
use crate::report::Report;
use crate::report::comparison::{self, Comparison};

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The report.json of the base run, or its folder
    base: PathBuf,
    /// The report.json of the new run, or its folder
    new: PathBuf,
    /// Ignore changes of latency and output speed up to this percentage. A significant rise of the
    /// failure rate always makes the new run worse
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    tolerance: f64,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// The exit code if a value is worse, or if a run is not valid.
const WORSE: u8 = 3;

/// The size of the largest report, in bytes. A report of a thousand scenarios has some 10 MiB.
const MAX_BYTES: u64 = 64 << 20;

pub(super) fn compare(args: &CompareArgs) -> Result<(), Failed> {
    let (base, new) = (read(&args.base)?, read(&args.new)?);
    let comparison = Comparison::new(&base, &new, args.tolerance / 100.0);
    if args.json {
        print(
            &serde_json::to_string_pretty(&comparison)
                .context("cannot write the comparison as JSON")?,
        )?;
    } else {
        print(comparison.text().trim_end())?;
    }
    if comparison.passed { Ok(()) } else { Err(Failed::Reported(WORSE)) }
}

fn read(path: &Path) -> Result<Report, Failed> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let name = file.display();
    let text = read_text(&file).map_err(|error| {
        Failed::Usage(format!(
            "error: {name}: {error}; pass a report.json that `llmload run --report` wrote"
        ))
    })?;
    comparison::read(&text).map_err(|error| Failed::Usage(format!("error: {name}: {error}")))
}

/// Reads a regular file of a limited size. A pipe or a device could be endless.
fn read_text(file: &Path) -> std::io::Result<String> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("larger than 64 MiB"));
    }
    Ok(text)
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok();
    number
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .ok_or_else(|| "this is not a percentage; write a percentage such as 5".to_owned())
}
