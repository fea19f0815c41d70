//! The command line, from the arguments to the exit code. Only this module uses `clap` and `anyhow`
//! and sets up the log.
//!
//! Exit codes: 0 success, 1 failure at run time, 2 wrong usage or configuration, 3 a run or a
//! comparison that failed, 4 a run that proves nothing.

mod capacity;
mod check;
mod compare;
mod core_dumps;
mod export;
mod failures;
mod health;
mod load;
mod logs;
mod manual;
mod merge;
mod probe;
mod progress;
mod report_files;
mod run;
mod runtime;
mod shard;
mod signals;
mod terminal;
mod web;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use load::{LoadArgs, apply_shard, load_plan};
use runtime::block_on;
use signals::{Hangup, StopSignals};
use web::{WebArgs, listen_tcp, tcp_address};

use crate::archive::Archive;
use crate::check::text::TextStyle;
use crate::check::unlimited_costs;
use crate::config::{self, HumanDuration, Invalid};
use crate::control::AdminHandle;
use crate::daemon::{self, ConfigSource};
use crate::generator::GeneratorMonitor;
use crate::plan::Plan;
use crate::schedule::Shard;
use crate::simulator::{Simulator, SimulatorOptions};
use crate::stderr;

const DEMO: &str = include_str!("../config/demo.yml");

/// A load daemon for LLM endpoints: it sends scheduled, open-loop load and measures TTFT, TPS, QPS
/// and errors as Prometheus histograms.
#[derive(Debug, Parser)]
#[command(
    version,
    subcommand_precedence_over_arg = true,
    override_usage = "llmload [OPTIONS] [URL]\n       llmload <COMMAND>"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    log: logs::LogArgs,
    #[command(flatten)]
    debug: core_dumps::DebugArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the schedule until a signal stops llmload (the default command)
    Daemon(DaemonArgs),
    /// Run the daemon with the built-in simulator, without any configuration
    Demo(WebArgs),
    /// Run the schedule once and print a report: exit code 0 if the run passed, 3 if it failed,
    /// 4 if it proves nothing
    Run(run::RunArgs),
    /// Search the highest rate or concurrency that meets objectives: exit code 0 if one was found,
    /// 3 if not even the lowest level meets them, 4 if the search proves nothing
    Capacity(Box<capacity::CapacityArgs>),
    /// Compare the report.json of runs: exit code 0, 3 if a new run is worse, or 4 if it proves
    /// nothing
    Compare(compare::CompareArgs),
    /// Join the report.json of all shards of a run: the same exit codes as `llmload run`
    Merge(merge::MergeArgs),
    /// List the failed requests in an archive, show one of them or send it again
    Failures(failures::FailuresArgs),
    /// Send two small requests to an endpoint, explain the responses and suggest remedies
    Probe(probe::ProbeArgs),
    /// Validate configuration files and forecast the next 24 h, without sending anything
    Check(check::CheckArgs),
    /// Run only the simulator, an endpoint with an OpenAI-compatible API
    Simulator(SimulatorArgs),
    /// Check whether a running daemon is healthy: exit code 0, or 1 if it is not healthy
    Health(health::HealthArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Write the shipped dashboards, rules or manifests to a folder
    Export(export::ExportArgs),
    /// Print the completions for a shell
    Completions(manual::CompletionsArgs),
    /// Write the manual pages to a folder
    Man(manual::ManArgs),
}

#[derive(Debug, Args)]
struct DaemonArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// With a URL: stop sending after this time, such as 10m [default: never]. The daemon then
    /// still serves /metrics until a signal stops llmload
    #[arg(long = "for", requires = "url", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Reload the configuration when a configuration, prompt or secret file changes. llmload checks
    /// the files every 5 s
    #[arg(long = "config.auto-reload", conflicts_with = "url")]
    auto_reload: bool,
    /// Send only every N-th arrival, as shard I (0 to N-1), so that N daemons share one schedule.
    /// The environment can set this too: `LLMLOAD_SHARD=I/N`, or `LLMLOAD_SHARDS=N` with the number
    /// at the end of the host name as I
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    #[command(flatten)]
    web: WebArgs,
}

// These options are strings, because the configuration reader validates them.
#[derive(Debug, Args)]
struct SimulatorArgs {
    /// Address of the endpoint
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = tcp_address)]
    listen_address: SocketAddr,
    /// Name of the only model of this endpoint
    #[arg(long, value_name = "NAME", default_value_t = SimulatorOptions::default().model)]
    model: String,
    /// Highest number of requests that run at the same time
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().slots.to_string())]
    slots: String,
    /// Highest number of requests that wait for a slot. Further requests get status 503
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().queue.to_string())]
    queue: String,
    /// Prompt tokens that one slot processes per second
    #[arg(long, value_name = "NUMBER", default_value_t = SimulatorOptions::default().prefill_tokens_per_second.to_string())]
    prefill_tokens_per_second: String,
    /// Output tokens per second that a request gets if it runs alone
    #[arg(long, value_name = "NUMBER", default_value_t = SimulatorOptions::default().decode_tokens_per_second.to_string())]
    decode_tokens_per_second: String,
    /// Output speed of each request when all slots are busy, as a percentage of the speed of a
    /// request that runs alone
    #[arg(long, value_name = "PERCENT", default_value_t = percent(SimulatorOptions::default().full_load_speed))]
    full_load_speed: String,
    /// Random variation of each delay: its standard deviation, as a percentage of the delay
    #[arg(long, value_name = "PERCENT", default_value_t = percent(SimulatorOptions::default().jitter))]
    jitter: String,
    /// Number of reasoning tokens before the text of each response
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().reasoning_tokens.to_string())]
    reasoning_tokens: String,
    /// Number of tokens that the prefix cache holds, in blocks of 16. Cached tokens of a prompt
    /// need no time. With 0, there is no cache
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().prefix_cache_tokens.to_string())]
    prefix_cache_tokens: String,
    /// Time after the start during which all requests get status 503, as if a model were loading
    #[arg(long, value_name = "DURATION", default_value_t = HumanDuration(SimulatorOptions::default().loading).to_string())]
    loading: String,
    // Not a doc comment, because clippy would require backticks around the names, and the help
    // would show the backticks.
    #[arg(
        long = "fault",
        value_name = "NAME=PERCENT",
        value_parser = fault,
        help = "A fault, and the percentage of requests that have it, such as http_429=1%. The \
                faults are http_429, http_500, reset, stall, stream_error and truncation. Repeat \
                this option for several faults"
    )]
    faults: Vec<(String, String)>,
    /// Seed of all random values, a whole number from 0
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().seed.to_string())]
    seed: String,
}

enum Failed {
    /// Wrong usage or configuration.
    Usage(String),
    /// The output already contains the reason, so only this exit code is left to return.
    Reported(u8),
    /// A failure at run time.
    Runtime(anyhow::Error),
}

impl From<Invalid> for Failed {
    fn from(invalid: Invalid) -> Failed {
        Failed::Usage(invalid.to_string())
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed::Runtime(error)
    }
}

pub fn main() -> ExitCode {
    // Clap prints help and usage errors, and exits with 0 or 2.
    let arguments = Cli::command().get_matches();
    let Some(_flush_at_exit) = stderr::start() else { return ExitCode::FAILURE };
    let result = reject_misplaced_options(&arguments).and_then(|()| {
        let cli =
            Cli::from_arg_matches(&arguments).map_err(|error| Failed::Usage(error.to_string()))?;
        execute(cli)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Usage(message)) => {
            stderr::write_line(message + "\n");
            // A person reads the problems of `check`, perhaps page by page.
            if arguments.subcommand_name() == Some("check") && std::io::stdin().is_terminal() {
                stderr::flush_completely();
            }
            ExitCode::from(2)
        }
        Err(Failed::Reported(code)) => ExitCode::from(code),
        Err(Failed::Runtime(error)) => {
            stderr::write_line(format!("llmload: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Rejects an option of the daemon before another command, because it would have no effect.
fn reject_misplaced_options(arguments: &ArgMatches) -> Result<(), Failed> {
    let Some(command) = arguments.subcommand_name() else { return Ok(()) };
    let daemon = DaemonArgs::augment_args(clap::Command::new("daemon"));
    let given = |id: &str| arguments.value_source(id) == Some(ValueSource::CommandLine);
    match daemon.get_arguments().find(|option| given(option.get_id().as_str())) {
        Some(option) => Err(Failed::Usage(format!(
            "error: `{}` has no effect before the command `{command}`; write it after the command, if \
             `llmload {command} --help` lists it",
            option.get_long().map_or_else(|| "URL".to_owned(), |long| format!("--{long}")),
        ))),
        None => Ok(()),
    }
}

fn execute(cli: Cli) -> Result<(), Failed> {
    core_dumps::prevent(&cli.debug).context(core_dumps::REFUSED)?;
    logs::set_up(&cli.log).map_err(Failed::Usage)?;
    match cli.command.unwrap_or(Command::Daemon(cli.daemon)) {
        Command::Daemon(args) => {
            let shard = shard::of_this_process(args.shard).map_err(Failed::Usage)?;
            let plan = load_plan(&args.load, args.length, shard)?;
            let file = args.load.config_file.clone();
            let reload = move || {
                config::load(&file, &variable).and_then(|plan| apply_shard(plan, &file, shard))
            };
            let source = args.load.url.is_none().then(|| Arc::new(reload) as ConfigSource);
            start(plan, source, args.auto_reload, &args.web)
        }
        Command::Demo(web) => {
            let plan = config::parse(DEMO, "the demo", None, &|_| None)?;
            start(plan, None, false, &web)
        }
        Command::Run(args) => run::run(&args),
        Command::Capacity(args) => capacity::capacity(*args),
        Command::Compare(args) => compare::compare(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Failures(args) => failures::failures(&args),
        Command::Probe(args) => probe::probe(&args),
        Command::Check(args) => check::check(&args),
        Command::Simulator(args) => simulate(&args),
        Command::Health(args) => Ok(health::check(&args)?),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema())
                .context("cannot write the schema as JSON")?;
            Ok(print(&schema)?)
        }
        Command::Export(args) => export::export(&args),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    }
}

/// Returns the width and colours of the terminal, or plain text.
fn stdout_style() -> TextStyle {
    let terminal = terminal_size::terminal_size_of(std::io::stdout());
    TextStyle {
        width: terminal.map_or(80, |(width, _)| usize::from(width.0).max(40)),
        colours: terminal::has_colours(std::io::stdout().is_terminal(), &variable),
    }
}

fn start(
    plan: Plan,
    source: Option<ConfigSource>,
    auto_reload: bool,
    web: &WebArgs,
) -> Result<(), Failed> {
    for warning in plan.warnings.iter().chain(&unlimited_costs(&plan, SystemTime::now())) {
        tracing::warn!("{warning}");
    }
    let web = Some(web.open()?);
    // Without a file, a reload has no effect.
    let hangup = if source.is_some() { Hangup::Reloads } else { Hangup::Stops };
    let signals = StopSignals::watch(hangup, 0)?;
    let archive = Archive::new();
    let ended = block_on(async {
        let (control, commands) = AdminHandle::new();
        if hangup == Hangup::Reloads {
            signals::watch_hangups(control.clone())?;
        }
        let (board, generator) = (Arc::default(), GeneratorMonitor::new());
        let options = daemon::DaemonOptions {
            plan,
            source,
            auto_reload,
            web,
            run_options: None,
            board,
            generator,
            archive: Arc::clone(&archive),
        };
        daemon::run(options, (control, commands), signals.stop, signals.force_stop.clone())
            .await
            .map_err(anyhow::Error::new)
    });
    // After a second signal, the process does not wait for a slow disk.
    if !signals.force_stop.is_cancelled() {
        archive.close();
    }
    ended??;
    Ok(())
}

fn simulate(args: &SimulatorArgs) -> Result<(), Failed> {
    let options = simulator_options(args)?;
    let listener = listen_tcp(args.listen_address)?;
    let signals = StopSignals::watch(Hangup::Stops, 0)?;
    let simulator =
        Simulator::start(options, listener).context("the simulator could not be started")?;
    tracing::info!("simulator on http://{}/v1", simulator.address());
    block_on(signals.stop.cancelled())?;
    drop(simulator);
    Ok(())
}

fn simulator_options(args: &SimulatorArgs) -> Result<SimulatorOptions, Invalid> {
    let options = [
        ("model", args.model.as_str()),
        ("slots", &args.slots),
        ("queue", &args.queue),
        ("prefill_tokens_per_second", &args.prefill_tokens_per_second),
        ("decode_tokens_per_second", &args.decode_tokens_per_second),
        ("full_load_speed", &args.full_load_speed),
        ("jitter", &args.jitter),
        ("reasoning_tokens", &args.reasoning_tokens),
        ("prefix_cache_tokens", &args.prefix_cache_tokens),
        ("loading", &args.loading),
        ("seed", &args.seed),
    ];
    config::simulator_from_options(&options, &args.faults)
}

fn percent(fraction: f64) -> String {
    format!("{}%", fraction * 100.0)
}

fn fault(text: &str) -> Result<(String, String), String> {
    let (name, percent) =
        text.split_once('=').ok_or("expected NAME=PERCENT, such as http_429=1%")?;
    Ok((name.to_owned(), percent.to_owned()))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Prints to stdout. A reader that closes the pipe early, such as `head`, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}
