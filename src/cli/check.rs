//! `llmload check`: files, or one shard's part of them, judged and foretold; nothing is sent.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::{Failed, apply_shard, print, shard, stdout_style, variable};
use crate::check::{Checked, Document};
use crate::config;
use crate::schedule::Shard;

/// The options.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document instead of words, problems included
    #[arg(long)]
    json: bool,
    /// What shard I of N (0 to N-1) would send, and whether it would start at all; also by
    /// `LLMLOAD_SHARD` or `LLMLOAD_SHARDS`, as the daemon reads them
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// Prints what is wrong with each file, or what it would send.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failed> {
    let shard = shard::of_this_process(args.shard).map_err(Failed::Usage)?;
    let paper = stdout_style();
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for file in &args.files {
        match config::load(file, &variable).and_then(|plan| apply_shard(plan, file, shard)) {
            Ok(plan) => {
                let name = file.display().to_string();
                let checked =
                    Checked::plan(&name, &plan, SystemTime::now()).map_err(anyhow::Error::new)?;
                if let (Some(words), false) = (checked.words(&plan, paper), args.json) {
                    print(&format!("{name}: fine\n\n{words}"))?;
                }
                all.push(checked);
            }
            Err(invalid) => {
                all.push(Checked::invalid(&invalid));
                wrong.push(invalid.to_string());
            }
        }
    }
    if args.json {
        print(&serde_json::to_string_pretty(&Document { files: all }).context("the forecast")?)?;
    }
    match (wrong.is_empty(), args.json) {
        (true, _) => Ok(()),
        (false, true) => Err(Failed::Reported(2)),
        (false, false) => Err(Failed::Usage(wrong.join("\n"))),
    }
}
