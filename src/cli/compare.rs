//! `llmload compare`: two reports, a verdict.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Failed, print};
use crate::report::Report;
use crate::report::comparison::{self, Comparison};

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The report.json of the run to be held against, or its folder
    base: PathBuf,
    /// That of the other run
    new: PathBuf,
    /// A change of a time or speed up to this much counts for nothing, however sure it is: a share of it in
    /// percent. More failures count if they are sure
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    tolerance: f64,
    /// Print one JSON document instead of words
    #[arg(long)]
    json: bool,
}

/// Exit code where something is worse.
const WORSE: u8 = 3;

pub(super) fn compare(args: &CompareArgs) -> Result<(), Failed> {
    let (base, new) = (read(&args.base)?, read(&args.new)?);
    let comparison = Comparison::of(&base, &new, args.tolerance / 100.0);
    if args.json {
        print(&serde_json::to_string_pretty(&comparison).context("the comparison")?)?;
    } else {
        print(comparison.text().trim_end())?;
    }
    if comparison.passed { Ok(()) } else { Err(Failed::Reported(WORSE)) }
}

fn read(path: &Path) -> Result<Report, Failed> {
    let file = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
    let name = file.display();
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Failed::Usage(format!(
            "error: {name}: {error}; name a report.json that `llmload run --report` wrote"
        ))
    })?;
    comparison::read(&text).map_err(|error| Failed::Usage(format!("error: {name}: {error}")))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok();
    number
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .ok_or_else(|| "write a percentage such as 5".to_owned())
}
