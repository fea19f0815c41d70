//! `llmload check`: validates files and forecasts their load, without sending anything.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::{Failed, apply_shard, print, shard, stdout_style, variable};
use crate::budget_state;
use crate::check::warnings::SystemLimits;
use crate::check::{CheckDocument, FileCheck};
use crate::config::{self, Secrets};
use crate::guard::SavedAccount;
use crate::plan::Plan;
use crate::schedule::Shard;
use crate::web;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration files; `-` reads standard input
    #[arg(required_unless_present = "web_config_file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also validate this web configuration file and its certificates, as the daemon does with the
    /// same option
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Print one JSON document, including problems, instead of text
    #[arg(long)]
    json: bool,
    /// Accept secrets that do not exist, for a CI without secrets: a variable that is not set or is
    /// empty, and a missing file, if the configuration uses it only as a secret
    #[arg(long)]
    without_secrets: bool,
    /// Check only shard I of N (0 to N-1). By default, `LLMLOAD_SHARD` or `LLMLOAD_SHARDS` sets the
    /// shard, as for the daemon
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// Returns the spending that `state_dir` has, or a warning.
fn saved_budgets(plan: &Plan, file: &str) -> (Vec<SavedAccount>, Option<String>) {
    let has_budgets = plan.scenarios.iter().any(|scenario| !scenario.budgets.is_empty());
    let Some(folder) = plan.state_dir.as_deref().filter(|_| has_budgets) else {
        return (Vec::new(), None);
    };
    match budget_state::read(folder) {
        Ok(saved) => (saved, None),
        Err(error) => {
            let warning = format!("{file}: the forecast starts all budgets at 0, because {error}");
            (Vec::new(), Some(warning))
        }
    }
}

pub(super) fn check(args: &CheckArgs) -> Result<(), Failed> {
    let shard = shard::of_this_process(args.shard).map_err(Failed::Usage)?;
    let secrets = if args.without_secrets { Secrets::Optional } else { Secrets::Required };
    let (style, limits) = (stdout_style(), SystemLimits::read());
    let (mut checks, mut errors) = (Vec::new(), Vec::new());
    for file in &args.files {
        let loaded = config::load_once(file, &variable, secrets);
        match loaded.and_then(|plan| apply_shard(plan, file, shard)) {
            Ok(plan) => {
                let name = file.display().to_string();
                let (saved, unread) = saved_budgets(&plan, &name);
                let mut check = FileCheck::valid(&name, &plan, SystemTime::now(), limits, &saved)
                    .map_err(anyhow::Error::new)?;
                check.warnings.extend(unread);
                if let (Some(text), false) = (check.text(&plan, style), args.json) {
                    print(&format!("{name}: valid\n\n{text}"))?;
                }
                checks.push(check);
            }
            Err(invalid) => {
                checks.push(FileCheck::invalid(&invalid));
                errors.push(invalid.to_string());
            }
        }
    }
    if let Some(file) = &args.web_config_file {
        match web::check_file(file) {
            Ok(()) if args.json => {}
            Ok(()) => print(&format!("{}: valid", file.display()))?,
            Err(invalid) => {
                checks.push(FileCheck::invalid(&invalid));
                errors.push(invalid.to_string());
            }
        }
    }
    if args.json {
        print(
            &serde_json::to_string_pretty(&CheckDocument { files: checks })
                .context("cannot write the forecast as JSON")?,
        )?;
    }
    match (errors.is_empty(), args.json) {
        (true, _) => Ok(()),
        (false, true) => Err(Failed::Reported(2)),
        (false, false) => Err(Failed::Usage(errors.join("\n"))),
    }
}
