//! The command line: arguments to exit code. The one home of `clap`, `anyhow` and the set-up of
//! logs.
//!
//! Exit codes: 0 well, 1 failed at run time, 2 usage or configuration, 3 a run that did not pass.

use std::io::Write as _;
mod check;
mod compare;
mod health;
mod load;
mod logs;
mod probe;
mod progress;
mod run;
mod shard;
mod signals;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use load::{LoadArgs, divided, plan_of};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::check::text::TextStyle;
use crate::config::{self, HumanDuration, Invalid};
use crate::control::AdminHandle;
use crate::daemon::{self, Source};
use crate::generator::Generator;
use crate::plan::Plan;
use crate::schedule::Shard;
use crate::simulator::{Simulator, SimulatorOptions};

const DEMO: &str = include_str!("../config/demo.yml");

/// A load daemon for LLM endpoints: scheduled, open-loop load, and what its clients experience
/// (TTFT, TPS, QPS, errors) as Prometheus histograms.
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
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the schedule for as long as it lives (also without a command)
    Daemon(DaemonArgs),
    /// The daemon on the built-in simulator with a lively schedule: nothing else needed
    Demo(WebArgs),
    /// One pass of the schedule, with a report and an exit code: 0 passed, 3 not
    Run(run::RunArgs),
    /// Hold the report.json of a run against that of another: exit code 0, or 3 where something is worse
    Compare(compare::CompareArgs),
    /// Two small requests to an endpoint, and in words how it answered and what would mend it
    Probe(probe::ProbeArgs),
    /// Read configuration files: print all that is wrong with them, or what the next 24 h will send; send nothing
    Check(check::CheckArgs),
    /// The built-in OpenAI-compatible endpoint, alone
    Simulator(SimulatorArgs),
    /// Ask a running daemon whether it is healthy: exit code 0 or 1
    Health(health::HealthArgs),
    /// Print the JSON Schema of the configuration
    Schema,
}

#[derive(Debug, Args)]
struct DaemonArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// With a URL: send for this long only, such as 10m [default: for ever]. The daemon itself stays up
    /// and goes on serving /metrics until a signal
    #[arg(long = "for", requires = "url", value_name = "DURATION", value_parser = config::read_duration)]
    length: Option<Duration>,
    /// Take the configuration anew when what stands in its files changes: looked at every 5 s, also
    /// prompts and secrets
    #[arg(long = "config.auto-reload", conflicts_with = "url")]
    auto_reload: bool,
    /// Send every N-th arrival only, as number I of 0 to N-1; N daemons then send one schedule. Also by
    /// `LLMLOAD_SHARD=I/N`, or `LLMLOAD_SHARDS=N` and the number at the end of the host's name
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    #[command(flatten)]
    web: WebArgs,
}

#[derive(Debug, Args)]
struct WebArgs {
    /// Where /metrics and the status page are served
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":9899", value_parser = listen_address)]
    listen_address: SocketAddr,
    /// Take orders (/-/reload, /-/pause, /-/resume, /-/quit, rates) from other machines too, not only
    /// from this one
    #[arg(long = "web.enable-lifecycle")]
    enable_lifecycle: bool,
}

// What they may be is said once, by the rules of the file.
#[derive(Debug, Args)]
struct SimulatorArgs {
    /// Where it is served
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = listen_address)]
    listen_address: SocketAddr,
    /// The one model it serves
    #[arg(long, value_name = "NAME", default_value_t = SimulatorOptions::default().model)]
    model: String,
    /// Requests it works on at once
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().slots.to_string())]
    slots: String,
    /// Requests that may wait; one more is refused with 503
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().queue.to_string())]
    queue: String,
    /// Prompt tokens read per second by one slot
    #[arg(long, value_name = "NUMBER", default_value_t = SimulatorOptions::default().prefill_tokens_per_second.to_string())]
    prefill_tokens_per_second: String,
    /// Output tokens per second of a request that is alone
    #[arg(long, value_name = "NUMBER", default_value_t = SimulatorOptions::default().decode_tokens_per_second.to_string())]
    decode_tokens_per_second: String,
    /// Share of that speed that is left to each request when all slots are busy
    #[arg(long, value_name = "SHARE", default_value_t = percent(SimulatorOptions::default().full_load_speed))]
    full_load_speed: String,
    /// Relative standard deviation of each delay
    #[arg(long, value_name = "SHARE", default_value_t = percent(SimulatorOptions::default().jitter))]
    jitter: String,
    /// Reasoning tokens before each answer
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().reasoning_tokens.to_string())]
    reasoning_tokens: String,
    /// For how long after its start it answers 503, as a server that loads its model does
    #[arg(long, value_name = "DURATION", default_value_t = HumanDuration(SimulatorOptions::default().loading).to_string())]
    loading: String,
    // Not a doc comment: that would want the names in backticks, and show them.
    #[arg(
        long = "fault",
        value_name = "NAME=SHARE",
        value_parser = fault,
        help = "A fault and the share of requests that meet it, such as http_429=1%: http_429, http_500, reset, \
                stall, stream_error or truncation. May be given several times"
    )]
    faults: Vec<(String, String)>,
    /// Everything random follows from it
    #[arg(long, value_name = "COUNT", default_value_t = SimulatorOptions::default().seed.to_string())]
    seed: String,
}

/// Why a command ended badly.
enum Failed {
    /// The user can mend it: usage or configuration.
    Usage(String),
    /// It stands in what was printed; with this exit code.
    Said(u8),
    /// It went wrong at run time.
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

/// Does what the arguments say.
pub fn main() -> ExitCode {
    // Clap prints and exits by itself: 0 for --help, 2 for what it cannot understand.
    let arguments = Cli::command().get_matches();
    let done = misplaced(&arguments).and_then(|()| {
        let cli =
            Cli::from_arg_matches(&arguments).map_err(|error| Failed::Usage(error.to_string()))?;
        obey(cli)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Usage(words)) => {
            complain(&words);
            ExitCode::from(2)
        }
        Err(Failed::Said(code)) => ExitCode::from(code),
        Err(Failed::Runtime(error)) => {
            complain(&format!("llmload: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The daemon's own options mean nothing to a command that follows them, and must not be dropped in
/// silence.
fn misplaced(arguments: &ArgMatches) -> Result<(), Failed> {
    let Some(command) = arguments.subcommand_name() else { return Ok(()) };
    let daemon = DaemonArgs::augment_args(clap::Command::new("daemon"));
    let given = |id: &str| arguments.value_source(id) == Some(ValueSource::CommandLine);
    match daemon.get_arguments().find(|option| given(option.get_id().as_str())) {
        Some(option) => Err(Failed::Usage(format!(
            "error: write `{}` after the command `{command}`, if it takes it; see `llmload {command} --help`",
            option.get_long().map_or_else(|| "URL".to_owned(), |long| format!("--{long}")),
        ))),
        None => Ok(()),
    }
}

fn obey(cli: Cli) -> Result<(), Failed> {
    logs::set_up(&cli.log).map_err(Failed::Usage)?;
    match cli.command.unwrap_or(Command::Daemon(cli.daemon)) {
        Command::Daemon(args) => {
            let shard = shard::of_this_process(args.shard).map_err(Failed::Usage)?;
            let plan = plan_of(&args.load, args.length, shard)?;
            let file = args.load.config_file.clone();
            let again =
                move || config::load(&file, &variable).and_then(|plan| divided(plan, &file, shard));
            let source = args.load.url.is_none().then(|| Arc::new(again) as Source);
            start(plan, source, args.auto_reload, &args.web)
        }
        Command::Demo(web) => {
            let plan = config::parse(DEMO, "the demo", None, &|_| None)?;
            start(plan, None, false, &web)
        }
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Probe(args) => probe::probe(&args),
        Command::Check(args) => check::check(&args),
        Command::Simulator(args) => simulate(&args),
        Command::Health(args) => Ok(health::ask(&args)?),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&config::schema()).context("the schema")?;
            Ok(print(&schema)?)
        }
    }
}

/// What stdout is: a terminal as wide as it says, or a file.
fn paper() -> TextStyle {
    let terminal = terminal_size::terminal_size_of(std::io::stdout());
    TextStyle {
        width: terminal.map_or(80, |(width, _)| usize::from(width.0).max(40)),
        // https://no-color.org
        colours: terminal.is_some() && variable("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

fn start(
    plan: Plan,
    source: Option<Source>,
    auto_reload: bool,
    web: &WebArgs,
) -> Result<(), Failed> {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let listener = listen(web.listen_address)?;
    let lifecycle = web.enable_lifecycle;
    let runtime = runtime()?;
    runtime.block_on(async {
        let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
        signals::watch(stop.clone(), force_stop.clone())?;
        let (control, orders) = AdminHandle::new();
        signals::watch_hangups(control.clone())?;
        let (board, generator) = (Arc::default(), Generator::new());
        let listener = Some(listener);
        let settings = daemon::DaemonOptions {
            plan,
            source,
            auto_reload,
            listener,
            lifecycle,
            run_options: None,
            board,
            generator,
        };
        daemon::run(settings, (control, orders), stop, force_stop).await.map_err(anyhow::Error::new)
    })?;
    Ok(())
}

fn simulate(args: &SimulatorArgs) -> Result<(), Failed> {
    let settings = settings(args)?;
    let listener = listen(args.listen_address)?;
    let runtime = runtime()?;
    let stop = CancellationToken::new();
    let simulator =
        Simulator::start(settings, listener).context("the simulator could not be started")?;
    tracing::info!("the simulator serves http://{}/v1", simulator.address());
    runtime.block_on(async {
        signals::watch(stop.clone(), CancellationToken::new())?;
        stop.cancelled().await;
        anyhow::Ok(())
    })?;
    drop(simulator);
    Ok(())
}

fn settings(args: &SimulatorArgs) -> Result<SimulatorOptions, Invalid> {
    let options = [
        ("model", args.model.as_str()),
        ("slots", &args.slots),
        ("queue", &args.queue),
        ("prefill_tokens_per_second", &args.prefill_tokens_per_second),
        ("decode_tokens_per_second", &args.decode_tokens_per_second),
        ("full_load_speed", &args.full_load_speed),
        ("jitter", &args.jitter),
        ("reasoning_tokens", &args.reasoning_tokens),
        ("loading", &args.loading),
        ("seed", &args.seed),
    ];
    config::simulator_from_options(&options, &args.faults)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).or_else(|error| {
        // All interfaces, on a machine without IPv6.
        if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != std::io::ErrorKind::AddrInUse {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        } else {
            Err(error)
        }
    });
    bound.with_context(|| {
        format!("cannot listen on {address}; choose another address with --web.listen-address")
    })
}

/// `:9899` listens on all interfaces, IPv4 and IPv6, as Prometheus and its exporters read it: a pod may
/// have an address of either kind.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    full.parse().or_else(|_| {
        use std::net::ToSocketAddrs as _;
        let resolved = full.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        resolved.ok_or_else(|| {
            "expected ADDRESS:PORT or :PORT, such as 127.0.0.1:9899 or :9899".to_owned()
        })
    })
}

/// A share as a person would write it.
fn percent(share: f64) -> String {
    format!("{}%", share * 100.0)
}

fn fault(text: &str) -> Result<(String, String), String> {
    let (name, share) = text.split_once('=').ok_or("expected NAME=SHARE, such as http_429=1%")?;
    Ok((name.to_owned(), share.to_owned()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whoever reads may have read enough, as `head` has: that is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

fn complain(text: &str) {
    // Where stderr is closed nobody is left to be told.
    let _unheard = writeln!(std::io::stderr(), "{text}");
}
