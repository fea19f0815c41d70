//! `llmload merge`: joins the reports of the shards of a run.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failed, compare, print, report_files, run, stdout_style};
use crate::report::{self, ShardRun};

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The report.json of each shard, or its folder
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// Write report.json, report.md, report.html, report.csv and junit.xml to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the report as one JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with code 0 even if the run did not pass
    #[arg(long)]
    no_gate: bool,
}

pub(super) fn merge(args: &MergeArgs) -> Result<(), Failed> {
    let mut runs = Vec::new();
    for path in &args.reports {
        let (file, report) = compare::read_report(path)?;
        if args.report.as_deref().is_some_and(|folder| is_in(&file, folder)) {
            return Err(Failed::Usage(format!(
                "error: {} would replace the report of a shard; choose another folder with --report",
                file.display()
            )));
        }
        runs.push(ShardRun { argument: file.display().to_string(), report });
    }
    let report = report::merge(&runs).map_err(|error| Failed::Usage(format!("error: {error}")))?;
    if let Some(folder) = &args.report {
        report_files::prepare(folder)?;
        report_files::write(&report, folder)?;
    }
    let text = if args.json {
        report_files::json(&report)?
    } else {
        report::styled_text(&report, stdout_style())
    };
    print(text.trim_end())?;
    match run::exit_code(&report, args.no_gate) {
        0 => Ok(()),
        code => Err(Failed::Reported(code)),
    }
}

/// True if the folder exists and contains the file.
fn is_in(file: &Path, folder: &Path) -> bool {
    let of_file = file.canonicalize().ok();
    of_file.is_some_and(|file| file.parent() == folder.canonicalize().ok().as_deref())
}
