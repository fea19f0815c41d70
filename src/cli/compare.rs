//! `llmload compare`: compares reports and returns a verdict.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Failed, print, stdout_style};
use crate::report::comparison::{self, Comparison, Rules, Run, TOLERANCE};
use crate::report::{Outcome, Report};

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The report.json of the base run, or its folder. With #SCENARIO/TARGET at the end, only this
    /// route is compared
    #[arg(value_name = "BASE[#SCENARIO/TARGET]")]
    base: String,
    /// The report.json of each new run, or its folder
    #[arg(value_name = "NEW[#SCENARIO/TARGET]", required = true)]
    new: Vec<String>,
    /// Ignore changes of latency and throughput up to this percentage. A significant rise of the
    /// failure rate always makes the new run worse
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0 * TOLERANCE, value_parser = percent)]
    tolerance: f64,
    /// Compare runs with different schedules: only the phases with the same name and the same load
    #[arg(long)]
    allow_different_schedules: bool,
    /// Format of the output. Markdown is for a comment in a pull request
    // The log format already has the id `format`.
    #[arg(long = "format", value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

/// The exit code if a value is worse.
const WORSE: u8 = 3;
/// The exit code if the comparison proves nothing.
const INVALID: u8 = 4;

/// The size of the largest report, in bytes. A report of a thousand scenarios has some 10 MiB.
const MAX_BYTES: u64 = 64 << 20;

pub(super) fn compare(args: &CompareArgs) -> Result<(), Failed> {
    let base = read(&args.base)?;
    let new = args.new.iter().map(|argument| read(argument)).collect::<Result<Vec<_>, _>>()?;
    let rules = Rules {
        tolerance: args.tolerance / 100.0,
        allow_different_schedules: args.allow_different_schedules,
    };
    let comparison = Comparison::new(&base, &new, rules)
        .map_err(|refusal| Failed::Usage(format!("error: {refusal}")))?;
    let shown = match args.output {
        Format::Text => comparison.text(stdout_style()),
        Format::Markdown => comparison.markdown(),
        Format::Json => serde_json::to_string_pretty(&comparison)
            .context("cannot write the comparison as JSON")?,
    };
    print(shown.trim_end())?;
    match comparison.result {
        Outcome::Passed => Ok(()),
        Outcome::Failed => Err(Failed::Reported(WORSE)),
        Outcome::Invalid => Err(Failed::Reported(INVALID)),
    }
}

/// Reads the report of an argument such as `out#chat/main`.
fn read(argument: &str) -> Result<Run, Failed> {
    // The name of a file can contain the separator too.
    let (path, route) = match comparison::split_route(argument) {
        _ if Path::new(argument).exists() => (argument, None),
        parts => parts,
    };
    let (file, report) = read_report(Path::new(path))?;
    Run::new(argument, report, route)
        .map_err(|error| Failed::Usage(format!("error: {}: {error}", file.display())))
}

/// Reads a report.json, or the report.json in a folder. Returns the path of the file too.
pub(super) fn read_report(path: &Path) -> Result<(PathBuf, Report), Failed> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let name = file.display();
    let text = read_text(&file).map_err(|error| {
        Failed::Usage(format!(
            "error: {name}: {error}; pass a report.json that `llmload run --report` wrote"
        ))
    })?;
    let report = comparison::read(&text)
        .map_err(|error| Failed::Usage(format!("error: {name}: {error}")))?;
    Ok((file, report))
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
