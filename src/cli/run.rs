//! `llmload run`: runs the schedule once, writes a report and returns an exit code.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::time::Instant;

use super::shard;
use super::signals::{Hangup, StopSignals};
use super::web::RunWebArgs;
use super::{
    Failed, LoadArgs, block_on, print, progress, report_files, stdout_style, terminal, variable,
};
use crate::archive::{Archive, ArchiveSettings};
use crate::calendar::read_rfc3339;
use crate::config;
use crate::control::AdminHandle;
use crate::daemon::{self, EndReason};
use crate::generator::GeneratorMonitor;
use crate::measurement::printable;
use crate::plan::{KeptPrompts, Plan};
use crate::report::{self, ArchiveReport, Outcome, Reason, ReasonCode, Report, RunInfo, Tested};
use crate::scenario::{RunOptions, ScenarioError};
use crate::schedule::Shard;
use crate::status::StatusBoard;
use crate::stderr;

#[derive(Debug, Default, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Run only this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Run the scenarios one after the other, in the order of the file
    #[arg(long, conflicts_with = "scenario")]
    sequential: bool,
    /// Send only every N-th arrival, as shard I (0 to N-1), so that N machines send one run. Needs
    /// --start-at. `llmload merge` joins the reports. The environment can set the shard too, as for
    /// the daemon
    #[arg(long, value_name = "I/N", requires = "start_at")]
    shard: Option<Shard>,
    /// Time at which each schedule starts, such as 2026-12-24T18:00:00Z [default: when the targets
    /// are ready]. The run is invalid if a target is not ready then
    #[arg(long, value_name = "TIME", value_parser = start_time)]
    start_at: Option<SystemTime>,
    /// Length of each scenario, such as 10m [default: one pass through the schedule]
    #[arg(long = "for", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Title of the report, such as the name and the version of the server
    #[arg(long, value_name = "TEXT", value_parser = title)]
    title: Option<String>,
    /// Label of the report, such as gpu=H100. Repeat this option for several labels
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Write report.json, report.md, report.html, report.csv and junit.xml to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    // Not a doc comment, because clippy would require backticks around the file name.
    #[arg(long, value_name = "PART", requires = "report", default_value = "none", value_parser = kept_prompts, help = "With --report: the part of each failed request that failures.jsonl keeps: `full` for the complete request body, `hash` for its size and a hash, or `none`")]
    archive_prompts: KeptPrompts,
    /// Print the report as one JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with code 0 even if the run did not pass
    #[arg(long)]
    no_gate: bool,
    /// Longest time until the targets of a scenario are ready and its warm-up has ended
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = config::read_duration)]
    wait: Duration,
    #[command(flatten)]
    web: RunWebArgs,
}

/// The exit code of a run that failed.
const FAILED: u8 = 1;
/// The exit code of a run whose target did not meet the requirements.
const MISSED: u8 = 3;
/// The exit code of a run that proves nothing.
const INVALID: u8 = 4;

/// The most labels of a report.
const MAX_LABELS: usize = 32;
/// The most characters of a title, and of the name and the value of a label.
const LONGEST_TEXT: usize = 200;

impl RunArgs {
    /// The options of `llmload capacity`, which has a separate plan.
    pub(super) fn for_search(
        title: Option<String>,
        labels: Vec<(String, String)>,
        report: Option<PathBuf>,
        wait: Duration,
    ) -> RunArgs {
        RunArgs { title, labels, report, wait, ..RunArgs::default() }
    }
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failed> {
    if args.load.url.is_some() && args.length.is_none() {
        return Err(Failed::Usage(
            "error: a run needs an end; set the length of the run, such as --for 1m".to_owned(),
        ));
    }
    // With a file, `--for` shortens the schedule to this length. With a URL, it is the length of
    // the only phase.
    let shard = shard::of_this_process(args.shard).map_err(Failed::Usage)?;
    let plan = super::load_plan(&args.load, args.length, Shard::ALL)?;
    let plan = plan
        .for_single_run(args.scenario.as_deref(), args.length.is_some())
        .map_err(|error| Failed::Usage(format!("error: {error}")))?;
    let plan = if args.sequential { plan.in_sequence() } else { plan };
    if args.start_at.is_some_and(|start| start <= SystemTime::now()) {
        return Err(Failed::Usage(
            "error: the time of --start-at has passed; set a later time".to_owned(),
        ));
    }
    if shard.count() > 1 && args.start_at.is_none() {
        return Err(Failed::Usage(format!(
            "error: this process is shard {shard}, and all shards of a run need the same start; set \
             it with --start-at, such as --start-at 2026-12-24T18:00:00Z"
        )));
    }
    let origin = args.load.file().unwrap_or_else(|| "the command line".to_owned());
    run_plan(args, config::divide_run(plan, &origin, shard)?)
}

/// Runs a plan, writes the report and returns the exit code.
pub(super) fn run_plan(args: &RunArgs, plan: Plan) -> Result<(), Failed> {
    if args.labels.len() > MAX_LABELS {
        return Err(Failed::Usage(format!(
            "error: a report has at most {MAX_LABELS} labels; remove some of the {}",
            args.labels.len()
        )));
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    args.report.as_deref().map_or(Ok(()), report_files::prepare)?;
    let signals = StopSignals::watch(Hangup::Stops, INVALID)?;
    let Ended { report, error } = execute(args, plan, &signals)?;
    signals.set_ended();
    let has_ended_early = error.is_some();
    let mut errors = Vec::from_iter(error.map(anyhow::Error::new));
    // The files are written first, because printing to stdout can fail or wait for a reader.
    let written = args.report.as_deref().map(|folder| report_files::write(&report, folder));
    errors.extend(written.and_then(Result::err));
    let result = exit_code(&report, args.no_gate);
    // The verdict contains the error that ended the run. Only other errors, such as a full disk,
    // change the exit code.
    let of_run = usize::from(has_ended_early);
    signals.set_exit_code(if errors.len() > of_run { FAILED } else { result });
    if stderr::is_terminal() {
        // The table must not begin inside the block of the progress.
        stderr::flush();
    }
    let text = if args.json {
        report_files::json(&report)
    } else {
        Ok(report::styled_text(&report, stdout_style()))
    };
    errors.extend(text.and_then(|text| print(text.trim_end())).err());
    // On a terminal, the table has already shown the reason why the run ended.
    let is_shown = !args.json && std::io::stdout().is_terminal();
    for error in errors.iter().skip(if is_shown { of_run } else { 0 }) {
        stderr::write_line(format!("llmload: {error:#}\n"));
    }
    match (errors.len() > of_run, result) {
        (false, 0) => Ok(()),
        (false, _) => Err(Failed::Reported(result)),
        (true, _) => Err(Failed::Reported(FAILED)),
    }
}

/// Returns the exit code of a report. With `no_gate`, a report without an error has exit code 0.
pub(super) fn exit_code(report: &Report, no_gate: bool) -> u8 {
    let is_error = report.verdict.has(ReasonCode::Error);
    match report.verdict.result {
        _ if is_error => FAILED,
        _ if no_gate => 0,
        Outcome::Passed => 0,
        Outcome::Failed => MISSED,
        Outcome::Invalid => INVALID,
    }
}

fn start_time(text: &str) -> Result<SystemTime, String> {
    read_rfc3339(text).ok_or_else(|| {
        "expected a date and a time with its offset from UTC, such as 2026-12-24T18:00:00Z"
            .to_owned()
    })
}

fn kept_prompts(text: &str) -> Result<KeptPrompts, String> {
    match text {
        "full" => Ok(KeptPrompts::Full),
        "hash" => Ok(KeptPrompts::Hash),
        "none" => Ok(KeptPrompts::None),
        _ => Err("expected full, hash or none".to_owned()),
    }
}

/// A run that has ended.
struct Ended {
    report: Report,
    /// The error that ended the run.
    error: Option<daemon::Error>,
}

/// Runs the plan. Fails if the run could not start.
fn execute(args: &RunArgs, plan: Plan, signals: &StopSignals) -> Result<Ended, Failed> {
    let web = args.web.open()?;
    let (seed, config) = (plan.seed, plan.masked_source.clone());
    let (scenarios, config_hash) = (plan.scenarios.clone(), format!("{:016x}", plan.source_hash));
    let run_options =
        RunOptions { time_limit: args.length, ready_timeout: args.wait, start_at: args.start_at };
    let shard = plan.shard;
    let (board, generator): (Arc<StatusBoard>, _) = (Arc::default(), GeneratorMonitor::new());
    let (started, began) = (SystemTime::now(), Instant::now());
    let archive = Archive::new();
    let prompts = args.archive_prompts;
    archive.configure(args.report.as_deref().map(|dir| ArchiveSettings::of_run(dir, prompts)));
    let ended = block_on(async {
        let (control, commands) = AdminHandle::new();
        let settings = daemon::DaemonOptions {
            plan,
            source: None,
            auto_reload: false,
            web,
            run_options: Some(run_options),
            board: Arc::clone(&board),
            generator: Arc::clone(&generator),
            archive: Arc::clone(&archive),
        };
        let progress = progress::show(
            Arc::clone(&board),
            scenarios.clone(),
            args.length,
            terminal::has_cursor(stderr::is_terminal(), &variable),
        );
        let progress = tokio::spawn(progress);
        let (stop, force_stop) = (signals.stop.clone(), signals.force_stop.clone());
        let ended = daemon::run(settings, (control, commands), stop, force_stop).await;
        progress.abort();
        let _aborted = progress.await;
        stderr::end_progress();
        ended
    });
    let duration = began.elapsed();
    archive.close();
    let ended = ended?;
    let monitors = board.monitors();
    let (interrupted, error) = match ended {
        Ok(ended) => (ended == EndReason::Stopped, None),
        // The daemon could not start, so nothing exists that a report could show.
        Err(error) if monitors.is_empty() => return Err(anyhow::Error::new(error).into()),
        Err(error) => (false, Some(error)),
    };
    let run = RunInfo {
        started,
        duration,
        interrupted,
        error: error.as_ref().map(reason),
        time_limit: args.length,
        seed,
        shard: args.start_at.filter(|_| shard.count() > 1).map(|start| (shard, start)),
        generator: &generator,
        scenarios: &scenarios,
        tested: tested(args, config_hash),
        archive: ArchiveReport::new(archive.counts()),
        config_file: args.load.file(),
        config,
    };
    Ok(Ended { report: Report::new(run, &monitors), error })
}

/// Returns the reason that the verdict gives for an error.
fn reason(error: &daemon::Error) -> Reason {
    let code = match error {
        daemon::Error::Scenario(
            ScenarioError::NotReady { .. } | ScenarioError::MissedStart { .. },
        ) => ReasonCode::NotReady,
        daemon::Error::Scenario(ScenarioError::Refused { .. }) => ReasonCode::Refused,
        daemon::Error::Scenario(ScenarioError::Hopeless { .. }) => ReasonCode::ObjectiveMissed,
        _ => ReasonCode::Error,
    };
    Reason::new(code, error.to_string())
}

fn tested(args: &RunArgs, config_hash: String) -> Tested {
    let arguments = std::env::args_os().skip(1).map(|argument| {
        let text = argument.to_string_lossy();
        report::shell_quoted(&config::without_user_info(&text))
    });
    let command: Vec<String> = std::iter::once("llmload".to_owned()).chain(arguments).collect();
    let tested = Tested {
        title: args.title.clone(),
        labels: args.labels.iter().cloned().collect(),
        command: Some(printable(&command.join(" "), 4096)),
        config_hash,
        ..Tested::default()
    };
    tested.on_this_machine(Path::new("/proc"))
}

pub(super) fn title(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("the text is blank".to_owned()),
        long if long.chars().count() > LONGEST_TEXT => {
            Err(format!("the text has more than {LONGEST_TEXT} characters; shorten it"))
        }
        text if text.chars().any(char::is_control) => {
            Err("the text contains control characters; remove them".to_owned())
        }
        text => Ok(text.to_owned()),
    }
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as gpu=H100")?;
    Ok((title(name)?, title(value)?))
}
