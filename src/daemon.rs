//! Composition: a plan becomes running scenarios and a web server, orders change them, and a stop
//! becomes a drain.

mod changes;
mod reload;
mod simulators;
mod supervisor;

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{HumanDuration, Invalid};
use crate::control::{AdminCommand, AdminHandle, CommandError, PendingCommand};
use crate::endpoint::BuildError;
use crate::event::AbortReason;
use crate::generator::{self, Generator};
use crate::guard::Pause;
use crate::launch::RouteState;
use crate::metrics::{self, Metrics};
use crate::plan::{Location, Plan};
use crate::scenario::{RunOptions, ScenarioContext, ScheduleCrashed};
use crate::schedule::Rate;
use crate::status::StatusBoard;
use crate::web::{self, Site};
use reload::Reloader;
use supervisor::Supervisor;

/// How often what was read is looked at again, where that is asked for.
const LOOK: Duration = Duration::from_secs(5);

/// How long requests in flight may go on once the daemon was told to stop. Kubernetes gives 30 s.
const GRACE: Duration = Duration::from_secs(20);
/// File descriptors for everything but requests: the web server's connections among them.
const OTHER_FILES: u64 = 640;

/// Why the daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario's schedule crashed.
    #[error(transparent)]
    ScheduleCrashed(#[from] ScheduleCrashed),
    /// An endpoint's client could not be built.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The built-in simulator could not be started.
    #[error("target {target}: the simulator could not be started: {source}")]
    Simulator {
        /// The target.
        target: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The web server's socket cannot be used.
    #[error("the web server's socket cannot be used: {0}")]
    Socket(#[source] std::io::Error),
    /// Two metric families clash.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] metrics::Defect),
    /// Histograms that run have other buckets than the plan asks for.
    #[error(
        "the buckets of {0} would change, and what was counted in the old ones cannot be counted anew; put them \
         back, or start llmload again"
    )]
    Buckets(String),
    /// A target of a run that ends was not ready in time.
    #[error("scenario {scenario}: nothing was sent within {} (--wait), since it still waits for {what}", HumanDuration(*ready_timeout))]
    NotReady {
        /// The scenario.
        scenario: String,
        /// What it waits for.
        what: String,
        /// How long it did.
        ready_timeout: Duration,
    },
    /// The limit of open files is too low for what the plan may hold open.
    #[error(
        "this process may open {limit} files, and the plan may hold {needed} open (the sum of max_concurrency, \
         and {OTHER_FILES} for the rest); raise `ulimit -n` or lower max_concurrency"
    )]
    Files {
        /// What it may open.
        limit: u64,
        /// What it may need.
        needed: u64,
    },
}

/// What a daemon is started with.
pub struct DaemonOptions {
    /// What to do.
    pub plan: Plan,
    /// Reads the configuration again; where it did not come from a file there is nothing to read.
    pub source: Option<Source>,
    /// Whether a change of what was read is looked for, and taken.
    pub auto_reload: bool,
    /// Where the web server listens, if there shall be one.
    pub listener: Option<TcpListener>,
    /// Whether orders are taken from other machines too.
    pub lifecycle: bool,
    /// Whether it ends with the schedules.
    pub run_options: Option<RunOptions>,
    /// Where what is going on is shown.
    pub board: Arc<StatusBoard>,
    /// Watches the process.
    pub generator: Arc<Generator>,
}

/// Reads the configuration again.
pub type Source = Arc<dyn Fn() -> Result<Plan, Invalid> + Send + Sync>;

/// Why a daemon ended that ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to, by a signal or an order.
    Requested,
    /// Its schedules had ended, and every answer was there.
    Finished,
}

/// Runs a plan until `stop` is cancelled and what was in flight then has ended or its grace is
/// over. Cancelling `hurry` ends the grace at once. What is asked of `control` is done meanwhile.
///
/// # Errors
/// If something cannot be set up: nothing has been sent then. Or if a schedule crashes: the daemon
/// drains then, rather than stay up and send nothing.
pub async fn run(
    settings: DaemonOptions,
    (control, mut commands): (AdminHandle, mpsc::Receiver<PendingCommand>),
    stop: CancellationToken,
    force_stop: CancellationToken,
) -> Result<Exit, Error> {
    let started = SystemTime::now();
    let DaemonOptions { board, generator, run_options, .. } = settings;
    let listener = settings.listener.map(into_tokio).transpose().map_err(Error::Socket)?;
    let metrics = Arc::new(Metrics::new(Arc::clone(&generator), settings.plan.buckets.clone())?);
    let (shard, paused) = (settings.plan.shard, Pause::default());
    metrics.shard(shard);
    metrics.paused(false);
    let (draining, in_metrics) = (stop.clone(), Arc::clone(&metrics));
    let context = ScenarioContext {
        metrics: in_metrics,
        shard,
        draining,
        paused: paused.clone(),
        run_options,
    };
    let mut reloader = Reloader::new(settings.source, &settings.plan).await;
    let mut supervisor = Supervisor::new(context, Arc::clone(&board));
    supervisor.change_to(settings.plan).await?;
    let site = Arc::new(Site {
        metrics: Arc::clone(&metrics),
        generator: Arc::clone(&generator),
        board: Arc::clone(&board),
        control: control.clone(),
        lifecycle: settings.lifecycle,
        paused: paused.clone(),
        draining: stop.clone(),
        shard,
        started,
    });
    let no_more_questions = CancellationToken::new();
    // Only now: the first scrape shall find every series.
    let web = serve(listener, site, supervisor.len(), no_more_questions.clone())?;
    let seconds = tokio::spawn(count_seconds(Arc::clone(&metrics)));
    let observed = Arc::clone(&metrics);
    let watched = Arc::clone(&generator);
    let itself =
        tokio::spawn(generator::watch(generator, move |delay| observed.event_loop_delayed(delay)));
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    let impatient = run_options.map(|RunOptions { ready_timeout, .. }| {
        tokio::time::sleep(ready_timeout).map(move |()| ready_timeout)
    });
    let mut impatient = pin!(OptionFuture::from(impatient).fuse());

    let mut ended = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(Exit::Requested),
            Some(ended) = supervisor.lives.join_next() => match ended {
                Ok(Ok(())) if run_options.is_some() && supervisor.lives.is_empty() => break Ok(Exit::Finished),
                Ok(Ok(())) => {}
                Ok(Err(crashed)) => break Err(crashed.into()),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
            Some(ready_timeout) = &mut impatient => {
                if let Some((scenario, what)) = supervisor.waits_for() {
                    break Err(Error::NotReady { scenario, what, ready_timeout });
                }
            }
            Some((command, answer)) = commands.recv() => {
                let done = match command {
                    AdminCommand::Reload => tokio::select! {
                        done = reloader.reload(&mut supervisor, &metrics, &board) => done,
                        () = stop.cancelled() => break Ok(Exit::Requested),
                    },
                    AdminCommand::Pause(on) => Ok(pause(&paused, on, &metrics)),
                    AdminCommand::SetRate { .. } if run_options.is_some() => {
                        Err(CommandError::NotNow("a run keeps to its schedule; a daemon takes rates by hand".to_owned()))
                    }
                    AdminCommand::SetRate { scenario, rate } => set_rate(&supervisor, &scenario, rate),
                    AdminCommand::Quit => {
                        stop.cancel();
                        Ok("llmload drains and ends.".to_owned())
                    }
                };
                // Whoever asked may have gone.
                let _gone = answer.send(done);
            }
            _ = look.tick(), if settings.auto_reload => {
                if reloader.is_outdated().await {
                    // What came of it is in the log and in the metrics.
                    let _told = reloader.reload(&mut supervisor, &metrics, &board).await;
                }
            }
        }
    };
    // Whoever asks from here on is told that it is too late.
    drop(commands);
    if matches!(ended, Ok(Exit::Finished)) {
        // Each answer may take the time that its timeouts grant: to cut slow ones off would make the
        // rest look fast.
        tokio::select! {
            () = supervisor.rests() => {}
            () = stop.cancelled() => ended = Ok(Exit::Requested),
        }
    }
    if run_options.is_some() {
        watched.update().await;
    }
    stop.cancel();
    drain(supervisor, &force_stop).await;
    seconds.abort();
    itself.abort();
    no_more_questions.cancel();
    // It was told to end, and whether it did so well is of no interest any more.
    if let Some(web) = web {
        let _served = web.await;
    }
    ended
}

/// Serves the site, where somebody wants to see it.
fn serve(
    listener: Option<tokio::net::TcpListener>,
    site: Arc<Site>,
    scenarios: usize,
    no_more_questions: CancellationToken,
) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(listener) = listener else { return Ok(None) };
    let address = listener.local_addr().map_err(Error::Socket)?;
    tracing::info!(
        scenarios,
        "llmload serves its status page and /metrics on {}",
        visible(address)
    );
    Ok(Some(tokio::spawn(web::serve(listener, site, no_more_questions))))
}

fn pause(paused: &Pause, on: bool, metrics: &Metrics) -> String {
    let changed = paused.set(on);
    metrics.paused(on);
    let state = match (on, changed) {
        (true, true) => "paused: what comes due is dropped",
        (true, false) => "paused already: what comes due is dropped",
        (false, true) => "resumed",
        (false, false) => "not paused: there was nothing to resume",
    };
    if changed {
        tracing::info!("{state}");
    }
    format!("The load is {state}.")
}

fn set_rate(
    supervisor: &Supervisor,
    scenario: &str,
    rate: Option<(Rate, Duration)>,
) -> Result<String, CommandError> {
    let set = supervisor.set_rate(scenario, rate)?;
    let words = match rate {
        Some((rate, length)) => {
            // The hand wins; it shall not do so unnoticed.
            let ignored =
                set.ignores.map_or_else(String::new, |hours| format!(", ignoring {hours}"));
            format!("a rate of {rate} is set by hand for {}{ignored}", HumanDuration(length))
        }
        None if set.was => "back to its schedule".to_owned(),
        None => {
            return Ok(format!(
                "Scenario {scenario}: no rate was set by hand; it is on its schedule."
            ));
        }
    };
    tracing::info!(scenario, "{words}");
    Ok(format!("Scenario {scenario}: {words}."))
}

/// No arrival starts any more; what is in flight may end within the grace period.
async fn drain(mut supervisor: Supervisor, force_stop: &CancellationToken) {
    let in_flight: usize = supervisor.state().iter().map(|state| state.tasks.len()).sum();
    tracing::info!(in_flight, grace = ?GRACE, "stopping: no new requests");
    while supervisor.lives.join_next().await.is_some() {}
    let all = supervisor.state();
    let ended = async {
        for state in &all {
            state.tasks.close();
            state.tasks.wait().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = tokio::time::sleep(GRACE) => {}
        () = force_stop.cancelled() => tracing::info!("a second signal: what is in flight is cut off"),
    }
    let mut aborted = 0;
    for RouteState { ledger, tasks, cancellation } in all.iter().map(AsRef::as_ref) {
        cancellation.cancel(AbortReason::Shutdown);
        tasks.close();
        tasks.wait().await;
        let by_the_stop = |(reason, count)| if reason == AbortReason::Shutdown { count } else { 0 };
        aborted += ledger.read().aborted().map(by_the_stop).sum::<u64>();
    }
    tracing::info!(aborted, "stopped");
}

async fn count_seconds(metrics: Arc<Metrics>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        metrics.second_passed();
    }
}

/// An address that a browser on this machine can open.
fn visible(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://localhost:{}/ (all interfaces)", address.port())
    } else {
        format!("http://{address}/")
    }
}

fn check_open_files(plan: &Plan) -> Result<(), Error> {
    let ends = plan.scenarios.iter().flat_map(|scenario| {
        // The simulator holds the other end of each connection.
        let ends =
            |location: &Location| if matches!(location, Location::Simulator(_)) { 2 } else { 1 };
        let cap = u64::from(scenario.max_concurrency.get());
        scenario.targets().map(move |target| cap * ends(&target.location))
    });
    let needed = ends.sum::<u64>() + OTHER_FILES;
    // Where the limit cannot be read there is nothing to hold the plan against.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    if limit < needed { Err(Error::Files { limit, needed }) } else { Ok(()) }
}

fn into_tokio(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
