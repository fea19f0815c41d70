//! `llmload run`: runs the schedule once, writes a report and returns an exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Failed, LoadArgs, listen_address, print, progress, runtime, signals, variable};
use crate::config;
use crate::control::AdminHandle;
use crate::daemon::{self, EndReason};
use crate::generator::GeneratorMonitor;
use crate::report::{self, Report, RunInfo};
use crate::scenario::RunOptions;
use crate::schedule::Shard;
use crate::status::StatusBoard;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Run only this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Length of the run, such as 10m [default: one pass through the schedule]
    #[arg(long = "for", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Write report.json, report.md and report.html to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Exit with code 0 even if the run did not pass
    #[arg(long)]
    no_gate: bool,
    /// Longest time until all targets are ready and the warm-up has ended
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = config::read_duration)]
    wait: Duration,
    /// Serve /metrics and the status page at this address during the run [default: no port]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", value_parser = listen_address)]
    listen_address: Option<std::net::SocketAddr>,
}

/// The files of a report.
const FILES: [&str; 3] = ["report.json", "report.md", "report.html"];
/// The exit code of a run that did not pass.
const NOT_PASSED: u8 = 3;

pub(super) fn run(args: &RunArgs) -> Result<(), Failed> {
    if args.load.url.is_some() && args.length.is_none() {
        return Err(Failed::Usage(
            "error: a run needs an end; set the length of the run, such as --for 1m".to_owned(),
        ));
    }
    // With a file, `--for` shortens the schedule to this length. With a URL, it is the length of
    // the only phase.
    let plan = super::load_plan(&args.load, args.length, Shard::ALL)?;
    let plan = plan
        .for_single_run(args.scenario.as_deref(), args.length.is_some())
        .map_err(|error| Failed::Usage(format!("error: {error}")))?;
    if variable("LLMLOAD_SHARD").or_else(|| variable("LLMLOAD_SHARDS")).is_some() {
        tracing::warn!(
            "LLMLOAD_SHARD and LLMLOAD_SHARDS are ignored, because a run sends the complete schedule"
        );
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    // An error about the folder should appear before the run, and not after an hour of load.
    args.report.as_deref().map_or(Ok(()), prepare_folder)?;
    let (report, error) = execute(args, plan)?;
    // The files are written first, because printing to stdout can fail.
    if let Some(folder) = &args.report {
        write(&report, folder)?;
    }
    print(report::text(&report).trim_end())?;
    match error {
        Some(error) => Err(Failed::Runtime(anyhow::Error::new(error))),
        None if report.verdict.passed || args.no_gate => Ok(()),
        None => Err(Failed::Reported(NOT_PASSED)),
    }
}

/// Creates the folder of the report and removes an older report. If this run fails, nobody should
/// mistake the older report for the result of this run.
fn prepare_folder(folder: &Path) -> Result<(), Failed> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("--report {}: cannot create the folder", folder.display()))?;
    for name in FILES {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let text = format!("--report {}: cannot replace {name}", folder.display());
                return Err(Failed::Runtime(anyhow::Error::new(error).context(text)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Runs the plan. Returns the report, and an error if the run failed after it had sent requests.
fn execute(
    args: &RunArgs,
    plan: crate::plan::Plan,
) -> Result<(Report, Option<daemon::Error>), Failed> {
    let listener = args.listen_address.map(super::listen).transpose()?;
    let (seed, config) = (plan.seed, plan.masked_source.clone());
    let run_options = RunOptions { time_limit: args.length, ready_timeout: args.wait };
    let (board, generator): (Arc<StatusBoard>, _) = (Arc::default(), GeneratorMonitor::new());
    let runtime = runtime()?;
    let (started, began) = (SystemTime::now(), Instant::now());
    let ended = runtime.block_on(async {
        let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
        signals::watch(stop.clone(), force_stop.clone())?;
        let (control, commands) = AdminHandle::new();
        let settings = daemon::DaemonOptions {
            plan,
            source: None,
            auto_reload: false,
            listener,
            lifecycle: false,
            run_options: Some(run_options),
            board: Arc::clone(&board),
            generator: Arc::clone(&generator),
        };
        let progress = tokio::spawn(progress::show(Arc::clone(&board), Instant::now()));
        let ended = daemon::run(settings, (control, commands), stop, force_stop).await;
        progress.abort();
        let _aborted = progress.await;
        progress::clear();
        anyhow::Ok(ended)
    })?;
    let sent = board.monitors().iter().any(|monitor| monitor.state.ledger.counts().started > 0);
    let (interrupted, error) = match ended {
        Ok(ended) => (ended == EndReason::Stopped, None),
        Err(error) if sent => (false, Some(error)),
        Err(error) => return Err(Failed::Runtime(anyhow::Error::new(error))),
    };
    let run = RunInfo {
        started,
        duration: began.elapsed(),
        interrupted,
        error: error.as_ref().map(ToString::to_string),
        seed,
        generator: &generator,
        config,
    };
    Ok((Report::new(run, &board.monitors()), error))
}

fn write(report: &Report, folder: &Path) -> Result<(), Failed> {
    let json = serde_json::to_string_pretty(report).context("cannot write the report as JSON")?;
    let html = report::html(report).map_err(anyhow::Error::new)?;
    for (name, text) in FILES.into_iter().zip([json, report::markdown(report), html]) {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    tracing::info!("wrote report.json, report.md and report.html to {}", folder.display());
    Ok(())
}
