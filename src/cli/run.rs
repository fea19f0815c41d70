//! `llmload run`: one pass of the schedule, with a report and an exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Failed, LoadArgs, listen_address, print, progress, runtime, signals};
use crate::config;
use crate::control::Control;
use crate::daemon;
use crate::generator::Generator;
use crate::report::{self, Report, Run};
use crate::scenario::Pass;
use crate::schedule::Shard;
use crate::status::Board;

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

/// Exit code of a run that did not pass.
const MISSED: u8 = 3;

pub(super) fn run(args: &RunArgs) -> Result<(), Failed> {
    if args.load.url.is_some() && args.length.is_none() {
        return Err(Failed::Usage(
            "error: a rate has no end of its own; say how long the run takes, such as --for 1m".to_owned(),
        ));
    }
    // Where the file has a schedule, it is cut; the one phase of a command line is as long as is said.
    let plan = super::plan_of(&args.load, args.length, Shard::ALL)?;
    let plan = plan
        .one_pass(args.scenario.as_deref(), args.length.is_some())
        .map_err(|error| Failed::Usage(format!("error: --scenario: {error}")))?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(folder) = &args.report {
        // Before an hour of load, not after it.
        std::fs::create_dir_all(folder)
            .with_context(|| format!("--report {}: the folder cannot be made", folder.display()))?;
    }
    let report = go(args, plan)?;
    print(report::text(&report).trim_end())?;
    if let Some(folder) = &args.report {
        write(&report, folder)?;
    }
    if report.verdict.passed || args.no_gate { Ok(()) } else { Err(Failed::Said(MISSED)) }
}

fn go(args: &RunArgs, plan: crate::plan::Plan) -> Result<Report, Failed> {
    let listener = args.listen_address.map(super::listen).transpose()?;
    let (seed, config) = (plan.seed, plan.masked_source.clone());
    let pass = Pass { limit: args.length, patience: args.wait };
    let (board, generator): (Arc<Board>, _) = (Arc::default(), Generator::new());
    let runtime = runtime()?;
    let started = SystemTime::now();
    let interrupted = runtime.block_on(async {
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        // The daemon ends its own token too when it is done; this one only a signal cancels.
        let signalled = CancellationToken::new();
        signals::watch(signalled.clone(), hurry.clone())?;
        let (control, orders) = Control::new();
        let settings = daemon::Settings {
            plan,
            source: None,
            auto_reload: false,
            listener,
            lifecycle: false,
            pass: Some(pass),
            board: Arc::clone(&board),
            generator: Arc::clone(&generator),
        };
        let progress = tokio::spawn(progress::show(Arc::clone(&board), Instant::now()));
        let stopped = stop.clone();
        let forward = async {
            signalled.cancelled().await;
            stopped.cancel();
            std::future::pending().await
        };
        let ended = tokio::select! {
            ended = daemon::run(settings, (control, orders), stop, hurry) => ended,
            () = forward => Ok(()),
        };
        progress.abort();
        let _aborted = progress.await;
        progress::clear();
        ended.map_err(anyhow::Error::new)?;
        anyhow::Ok(signalled.is_cancelled())
    })?;
    let run = Run { started, ended: SystemTime::now(), interrupted, seed, generator: &generator, config };
    Ok(Report::of(run, &board.streams()))
}

fn write(report: &Report, folder: &Path) -> Result<(), Failed> {
    let json = serde_json::to_string_pretty(report).context("the report")?;
    let html = report::html(report).map_err(anyhow::Error::new)?;
    let files = [("report.json", json), ("report.md", report::markdown(report)), ("report.html", html)];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    tracing::info!("report.json, report.md and report.html are in {}", folder.display());
    Ok(())
}
