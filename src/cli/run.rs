//! `llmload run`: runs the schedule once, writes a report and returns an exit code.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::time::Instant;

use super::signals::{Hangup, StopSignals};
use super::{Failed, LoadArgs, block_on, listen_address, print, progress, report_files, variable};
use crate::config;
use crate::control::AdminHandle;
use crate::daemon::{self, EndReason};
use crate::generator::GeneratorMonitor;
use crate::plan::Plan;
use crate::report::{self, Report, RunInfo};
use crate::scenario::RunOptions;
use crate::schedule::Shard;
use crate::status::StatusBoard;
use crate::stderr;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Run only this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Run the scenarios one after the other, in the order of the file
    #[arg(long, conflicts_with = "scenario")]
    sequential: bool,
    /// Length of each scenario, such as 10m [default: one pass through the schedule]
    #[arg(long = "for", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Write report.json, report.md and report.html to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Exit with code 0 even if the run did not pass
    #[arg(long)]
    no_gate: bool,
    /// Longest time until the targets of a scenario are ready and its warm-up has ended
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = config::read_duration)]
    wait: Duration,
    /// Serve /metrics and the status page at this address during the run [default: no port]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", value_parser = listen_address)]
    listen_address: Option<std::net::SocketAddr>,
}

/// The exit code of a run that failed.
const FAILED: u8 = 1;
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
    let plan = if args.sequential { plan.in_sequence() } else { plan };
    if variable("LLMLOAD_SHARD").or_else(|| variable("LLMLOAD_SHARDS")).is_some() {
        tracing::warn!(
            "LLMLOAD_SHARD and LLMLOAD_SHARDS are ignored, because a run sends the complete schedule"
        );
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    args.report.as_deref().map_or(Ok(()), report_files::prepare)?;
    let signals = StopSignals::watch(Hangup::Stops, NOT_PASSED)?;
    let Ended { report, has_sent, error } = execute(args, plan, &signals)?;
    signals.set_ended();
    // If an error explains why no request was sent, a table of zeros would hide it.
    let has_table = has_sent || error.is_none();
    let mut errors = Vec::from_iter(error.map(anyhow::Error::new));
    // The files are written first, because printing to stdout can fail or wait for a reader.
    let written = args.report.as_deref().map(|folder| report_files::write(&report, folder));
    errors.extend(written.and_then(Result::err));
    let result = if report.verdict.passed || args.no_gate { 0 } else { NOT_PASSED };
    signals.set_exit_code(if errors.is_empty() { result } else { FAILED });
    if has_table {
        errors.extend(print(report::text(&report).trim_end()).err());
    }
    for error in &errors {
        stderr::write_line(format!("llmload: {error:#}\n"));
    }
    match (errors.is_empty(), result) {
        (true, 0) => Ok(()),
        (true, _) => Err(Failed::Reported(result)),
        (false, _) => Err(Failed::Reported(FAILED)),
    }
}

/// A run that has ended.
struct Ended {
    report: Report,
    /// True if the run has sent a request.
    has_sent: bool,
    /// The error that ended the run.
    error: Option<daemon::Error>,
}

/// Runs the plan. Fails if the run could not start.
fn execute(args: &RunArgs, plan: Plan, signals: &StopSignals) -> Result<Ended, Failed> {
    let listener = args.listen_address.map(super::listen).transpose()?;
    let (seed, config) = (plan.seed, plan.masked_source.clone());
    let run_options = RunOptions { time_limit: args.length, ready_timeout: args.wait };
    let (board, generator): (Arc<StatusBoard>, _) = (Arc::default(), GeneratorMonitor::new());
    let (started, began) = (SystemTime::now(), Instant::now());
    let ended = block_on(async {
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
        let (stop, force_stop) = (signals.stop.clone(), signals.force_stop.clone());
        let ended = daemon::run(settings, (control, commands), stop, force_stop).await;
        progress.abort();
        let _aborted = progress.await;
        stderr::end_progress();
        ended
    })?;
    let monitors = board.monitors();
    let (interrupted, error) = match ended {
        Ok(ended) => (ended == EndReason::Stopped, None),
        // The daemon could not start, so nothing exists that a report could show.
        Err(error) if monitors.is_empty() => return Err(anyhow::Error::new(error).into()),
        Err(error) => (false, Some(error)),
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
    let has_sent = monitors.iter().any(|monitor| monitor.state.ledger.counts().started > 0);
    Ok(Ended { report: Report::new(run, &monitors), has_sent, error })
}
