//! `llmload run`: one pass of the schedule, with a report and an exit code.

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
use crate::daemon::{self, Exit};
use crate::generator::Generator;
use crate::report::{self, Report, Run};
use crate::scenario::RunOptions;
use crate::schedule::Shard;
use crate::status::StatusBoard;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Run this scenario only
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Send for this long, such as 10m, in place of one pass of the schedule
    #[arg(long = "for", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Write report.json, report.md and report.html into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// End with exit code 0 also where the run did not pass
    #[arg(long)]
    no_gate: bool,
    /// How long targets may take to be ready, warm-up included
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = config::read_duration)]
    wait: Duration,
    /// Serve /metrics and the status page here while it runs [default: no port is opened]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", value_parser = listen_address)]
    listen_address: Option<std::net::SocketAddr>,
}

/// What a report is written to.
const FILES: [&str; 3] = ["report.json", "report.md", "report.html"];
/// Exit code of a run that did not pass.
const MISSED: u8 = 3;

pub(super) fn run(args: &RunArgs) -> Result<(), Failed> {
    if args.load.url.is_some() && args.length.is_none() {
        return Err(Failed::Usage(
            "error: a rate has no end of its own; say how long the run takes, such as --for 1m"
                .to_owned(),
        ));
    }
    // Where the file has a schedule, it is cut; the one phase of a command line is as long as is said.
    let plan = super::plan_of(&args.load, args.length, Shard::ALL)?;
    let plan = plan
        .for_single_run(args.scenario.as_deref(), args.length.is_some())
        .map_err(|error| Failed::Usage(format!("error: {error}")))?;
    if variable("LLMLOAD_SHARD").or_else(|| variable("LLMLOAD_SHARDS")).is_some() {
        tracing::warn!(
            "a run sends the whole schedule: LLMLOAD_SHARD and LLMLOAD_SHARDS do not count"
        );
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(folder) = &args.report {
        // Before an hour of load, not after it.
        std::fs::create_dir_all(folder)
            .with_context(|| format!("--report {}: the folder cannot be made", folder.display()))?;
        // Nobody shall take the report of another day for that of a run that broke.
        for name in FILES {
            match std::fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let words = format!("--report {}: {name} cannot be replaced", folder.display());
                    return Err(Failed::Runtime(anyhow::Error::new(error).context(words)));
                }
                _ => {}
            }
        }
    }
    let (report, broken) = go(args, plan)?;
    // The files first: stdout may be full.
    if let Some(folder) = &args.report {
        write(&report, folder)?;
    }
    print(report::text(&report).trim_end())?;
    match broken {
        Some(error) => Err(Failed::Runtime(anyhow::Error::new(error))),
        None if report.verdict.passed || args.no_gate => Ok(()),
        None => Err(Failed::Said(MISSED)),
    }
}

/// What came of it, and what broke it, if something did once requests had been sent.
fn go(args: &RunArgs, plan: crate::plan::Plan) -> Result<(Report, Option<daemon::Error>), Failed> {
    let listener = args.listen_address.map(super::listen).transpose()?;
    let (seed, config) = (plan.seed, plan.masked_source.clone());
    let run_options = RunOptions { limit: args.length, ready_timeout: args.wait };
    let (board, generator): (Arc<StatusBoard>, _) = (Arc::default(), Generator::new());
    let runtime = runtime()?;
    let (started, began) = (SystemTime::now(), Instant::now());
    let ended = runtime.block_on(async {
        let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
        signals::watch(stop.clone(), force_stop.clone())?;
        let (control, orders) = AdminHandle::new();
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
        let ended = daemon::run(settings, (control, orders), stop, force_stop).await;
        progress.abort();
        let _aborted = progress.await;
        progress::clear();
        anyhow::Ok(ended)
    })?;
    let sent = board.monitors().iter().any(|stream| stream.state.ledger.read().started > 0);
    let (interrupted, broken) = match ended {
        Ok(ended) => (ended == Exit::Requested, None),
        Err(error) if sent => (false, Some(error)),
        Err(error) => return Err(Failed::Runtime(anyhow::Error::new(error))),
    };
    let run = Run {
        started,
        took: began.elapsed(),
        interrupted,
        broken: broken.as_ref().map(ToString::to_string),
        seed,
        generator: &generator,
        config,
    };
    Ok((Report::of(run, &board.monitors()), broken))
}

fn write(report: &Report, folder: &Path) -> Result<(), Failed> {
    let json = serde_json::to_string_pretty(report).context("the report")?;
    let html = report::html(report).map_err(anyhow::Error::new)?;
    for (name, text) in FILES.into_iter().zip([json, report::markdown(report), html]) {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    tracing::info!("report.json, report.md and report.html are in {}", folder.display());
    Ok(())
}
