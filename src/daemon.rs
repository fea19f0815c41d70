//! The daemon: starts the scenarios and the web server, executes admin commands and drains.
//!
//! ```text
//! start ──> select { stop, scenario ended, --wait over, command, files read } ──> shut down
//!              │ └────────── command ──> handle ──> reply ──────────┘ │
//!              └──────────────────────── repeat ──────────────────────┘
//! ```
//!
//! The loop waits for nothing but these events. So a pause takes effect at once, even while a
//! reload reads from a slow disk.

mod changes;
mod drain;
mod error;
mod open_files;
mod preparation;
mod reader;
mod reload;
mod simulators;
mod supervisor;
mod transition;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::budget_state;
use crate::config::{HumanDuration, Invalid};
use crate::control::{AdminCommand, AdminHandle, CommandError, PendingCommand};
use crate::generator::{self, GeneratorMonitor};
use crate::guard::{Accounts, Pause};
use crate::incidents::watch_budgets;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::scenario::{RunOptions, ScenarioContext, ScenarioError};
use crate::schedule_state::RateOverride;
use crate::status::StatusBoard;
use crate::web::{WebOptions, WebServer, WebState};
pub use error::Error;
use preparation::PreparedChange;
use reader::on_thread;
use reload::{Finished, Reloader};
use supervisor::Supervisor;

const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The time that requests in flight have to end. Kubernetes kills a pod after 30 s, so this time is
/// shorter.
const GRACE: Duration = Duration::from_secs(20);
/// After a second signal, the web server has this time to finish its responses.
const FORCED_CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

pub struct DaemonOptions {
    pub plan: Plan,
    /// `None` if the configuration is not from a file.
    pub source: Option<ConfigSource>,
    /// True if the daemon reloads the configuration when one of its files changes.
    pub auto_reload: bool,
    /// `None` in a run without a web server.
    pub web: Option<WebOptions>,
    /// `None` for a daemon, which continues after its schedules have ended.
    pub run_options: Option<RunOptions>,
    pub board: Arc<StatusBoard>,
    pub generator: Arc<GeneratorMonitor>,
    /// The archive of failed requests. A daemon configures it from the plan. The caller configures
    /// the archive of a run, and closes the archive at the end.
    pub archive: Arc<Archive>,
}

pub type ConfigSource = Arc<dyn Fn() -> Result<Plan, Invalid> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    Stopped,
    /// All schedules and all their requests ended.
    Completed,
}

/// Runs a plan until the caller cancels `stop`. Then drains, until the caller cancels `force_stop`
/// or the grace period is over.
///
/// # Errors
/// There are three kinds of errors:
///
/// * A part of the daemon cannot start. Then llmload has sent nothing.
/// * A schedule panics. Then the daemon drains and ends. If it continued, nobody would notice that
///   it sends nothing.
/// * In a run, a target refuses the requests.
pub async fn run(
    options: DaemonOptions,
    (control, commands): (AdminHandle, mpsc::Receiver<PendingCommand>),
    stop: CancellationToken,
    force_stop: CancellationToken,
) -> Result<EndReason, Error> {
    Daemon::start(options, control, stop).await?.run(commands, &force_stop).await
}

struct Daemon {
    supervisor: Supervisor,
    reloader: Reloader,
    metrics: Arc<Metrics>,
    board: Arc<StatusBoard>,
    generator: Arc<GeneratorMonitor>,
    paused: Pause,
    stop: CancellationToken,
    auto_reload: bool,
    run_options: Option<RunOptions>,
    web: Option<RunningWebServer>,
    /// Tasks that observe the query rates and the event loop. They end when the set is dropped.
    _background: JoinSet<()>,
}

struct RunningWebServer {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Daemon {
    async fn start(
        options: DaemonOptions,
        control: AdminHandle,
        stop: CancellationToken,
    ) -> Result<Daemon, Error> {
        let started = SystemTime::now();
        let DaemonOptions { plan, board, generator, archive, run_options, .. } = options;
        let accounts = Accounts::new();
        let metrics = Metrics::new(
            Arc::clone(&generator),
            Arc::clone(archive.counts()),
            Arc::clone(&accounts),
            plan.buckets.clone(),
        )?;
        let metrics = Arc::new(metrics);
        let (shard, paused) = (plan.shard, Pause::default());
        metrics.set_shard(shard);
        metrics.set_paused(false);
        let reloader = Reloader::new(options.source, &plan).await;
        let context = ScenarioContext {
            metrics: Arc::clone(&metrics),
            generator: Arc::clone(&generator),
            shard,
            draining: stop.clone(),
            paused: paused.clone(),
            accounts: Arc::clone(&accounts),
            run_options,
            archive,
        };
        let mut supervisor = Supervisor::new(context, Arc::clone(&board));
        let preparation = supervisor.preparation();
        let change = on_thread(move || preparation.prepare(plan)).await;
        supervisor.apply(change.map_err(|_| Error::Thread)??);
        let background = background_tasks(&metrics, &generator, &accounts);
        let site = WebState {
            metrics: Arc::clone(&metrics),
            generator: Arc::clone(&generator),
            accounts,
            board: Arc::clone(&board),
            control,
            paused: paused.clone(),
            draining: stop.clone(),
            shard,
            started,
        };
        // The scenarios register their series first, so the first scrape finds every series.
        let web = options.web.map(|web| RunningWebServer::start(web, site, supervisor.len()));
        Ok(Daemon {
            supervisor,
            reloader,
            board,
            paused,
            stop,
            auto_reload: options.auto_reload,
            run_options,
            web: web.transpose()?,
            _background: background,
            metrics,
            generator,
        })
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<PendingCommand>,
        force_stop: &CancellationToken,
    ) -> Result<EndReason, Error> {
        let end = self.serve(&mut commands).await;
        // From now on, a caller gets the error that llmload is shutting down.
        drop(commands);
        self.reloader.stop();
        if self.run_options.is_some() {
            self.generator.update().await;
        }
        self.shut_down(end.as_ref().ok().copied(), force_stop).await;
        end
    }

    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<PendingCommand>,
    ) -> Result<EndReason, Error> {
        let stop = self.stop.clone();
        let mut file_check = file_check_interval();
        // `Some` after the last scenario of a run has ended. A run waits for its last requests
        // without a grace period, because measured latencies would be too low if llmload aborted
        // slow responses.
        let mut last_requests = pin!(OptionFuture::from(None));
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(EndReason::Stopped),
                Some(()) = &mut last_requests => return Ok(EndReason::Completed),
                Some(ended) = self.supervisor.tasks.join_next() => {
                    if self.scenario_ended(ended)? {
                        last_requests.set(Some(self.supervisor.wait_until_idle()).into());
                    }
                }
                Some(command) = commands.recv() => self.handle(command),
                finished = self.reloader.finished() => self.reading_finished(finished),
                _ = file_check.tick(), if self.auto_reload => self.reloader.check_files(),
            }
        }
    }

    /// Executes a command and replies with the result. Only the reply to a reload is sent later.
    fn handle(&mut self, PendingCommand { command, reply }: PendingCommand) {
        let result = match command {
            AdminCommand::Reload => {
                self.reloader.request(Some(reply));
                return self.reloader.start(|| self.supervisor.preparation());
            }
            AdminCommand::Pause => Ok(self.set_paused(true)),
            AdminCommand::Resume => Ok(self.set_paused(false)),
            AdminCommand::SetRate { .. } if self.run_options.is_some() => {
                Err(CommandError::Unavailable(
                    "a run follows its schedule; only a daemon accepts manual rates".to_owned(),
                ))
            }
            AdminCommand::SetRate { scenario, rate } => self.set_rate(&scenario, rate),
            AdminCommand::Quit => {
                self.stop.cancel();
                Ok("llmload drains and ends.".to_owned())
            }
        };
        // The caller has possibly stopped waiting.
        let _ignored = reply.send(result);
    }

    /// Applies a reload whose thread has ended, and starts the next requested reload.
    fn reading_finished(&mut self, finished: Finished) {
        if let Some(change) = self.reloader.handle(finished) {
            let result =
                change.map(|change| self.apply(change)).map_err(|problem| self.reject(problem));
            self.reloader.reply(&result);
        }
        self.reloader.start(|| self.supervisor.preparation());
    }

    fn apply(&mut self, change: PreparedChange) -> String {
        for warning in &change.warnings {
            tracing::warn!("{warning}");
        }
        let changes = self.supervisor.apply(change);
        tracing::info!("configuration reloaded: {changes}");
        format!("The configuration was reloaded: {changes}.")
    }

    fn reject(&self, problem: String) -> CommandError {
        self.metrics.config_rejected();
        self.board.set_reload_error(problem.clone());
        tracing::error!(
            "configuration rejected; the previous configuration stays in effect: {problem}"
        );
        CommandError::Invalid(problem)
    }

    fn set_paused(&self, paused: bool) -> String {
        let has_changed = self.paused.set(paused);
        self.metrics.set_paused(paused);
        let state = match (paused, has_changed) {
            (true, true) => "paused, so all arrivals are dropped",
            (true, false) => "paused already, so all arrivals are dropped",
            (false, true) => "resumed",
            (false, false) => "not paused, so there was nothing to resume",
        };
        if has_changed {
            tracing::info!("load {state}");
        }
        format!("The load is {state}.")
    }

    fn set_rate(&self, scenario: &str, rate: RateOverride) -> Result<String, CommandError> {
        let change = self.supervisor.set_rate(scenario, rate)?;
        let result = match rate {
            RateOverride::Set { rate, length } => {
                // The override also ignores cron and active windows, so the reply names them.
                let ignored = change.ignored_setting;
                let ignored =
                    ignored.map_or_else(String::new, |setting| format!(", ignoring {setting}"));
                format!("the rate is set to {rate} for {}{ignored}", HumanDuration(length))
            }
            RateOverride::Clear if change.had_override => {
                "it follows its schedule again".to_owned()
            }
            RateOverride::Clear => {
                return Ok(format!(
                    "Scenario {scenario}: no manual rate was set; it follows its schedule."
                ));
            }
        };
        tracing::info!(scenario, "{result}");
        Ok(format!("Scenario {scenario}: {result}."))
    }

    /// Returns true if the run is complete: its last scenario has ended, and nobody stopped the
    /// run.
    fn scenario_ended(
        &self,
        ended: Result<Result<(), ScenarioError>, JoinError>,
    ) -> Result<bool, Error> {
        ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        let is_complete = self.supervisor.tasks.is_empty() && !self.stop.is_cancelled();
        Ok(self.run_options.is_some() && is_complete)
    }

    /// Drains, and stops the web server last, so that a scrape can show the drain.
    /// `end` is `None` after an error.
    async fn shut_down(self, end: Option<EndReason>, force_stop: &CancellationToken) {
        self.stop.cancel();
        let budget_state = self.supervisor.budget_state();
        if end != Some(EndReason::Completed) {
            let is_stopped = end == Some(EndReason::Stopped);
            drain::drain(self.supervisor, is_stopped, force_stop).await;
        }
        if let Some(state) = budget_state {
            tokio::select! {
                // The thread logs a failure.
                _closed = on_thread(move || state.close()) => {}
                // A disk that hangs must not delay a forced stop.
                () = after_force_stop(force_stop) => {}
            }
        }
        if let Some(web) = self.web {
            web.stop.cancel();
            tokio::select! {
                // The process ends now, so an error of the web server does not matter.
                _result = web.task => {}
                // A client that does not read must not delay a forced stop.
                () = after_force_stop(force_stop) => {}
            }
        }
    }
}

impl RunningWebServer {
    fn start(
        options: WebOptions,
        site: WebState,
        scenarios: usize,
    ) -> Result<RunningWebServer, Error> {
        let server = WebServer::new(options, site).map_err(Error::Web)?;
        for url in server.urls() {
            tracing::info!(scenarios, "status page and /metrics on {url}");
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone()));
        Ok(RunningWebServer { task, stop })
    }
}

async fn after_force_stop(force_stop: &CancellationToken) {
    force_stop.cancelled().await;
    tokio::time::sleep(FORCED_CLOSE_TIMEOUT).await;
}

fn background_tasks(
    metrics: &Arc<Metrics>,
    generator: &Arc<GeneratorMonitor>,
    accounts: &Arc<Accounts>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(budget_state::watch_writes(Arc::clone(accounts)));
    tasks.spawn(watch_budgets(Arc::clone(accounts)));
    tasks.spawn(observe_query_rates_every_second(Arc::clone(metrics)));
    let (requests, delays) = (Arc::clone(metrics), Arc::clone(metrics));
    let watch = generator::watch(
        Arc::clone(generator),
        move || requests.has_requests_in_flight(),
        move |delay| delays.observe_event_loop_delay(delay),
    );
    tasks.spawn(watch);
    tasks
}

async fn observe_query_rates_every_second(metrics: Arc<Metrics>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        metrics.observe_query_rates();
    }
}

fn file_check_interval() -> Interval {
    let mut interval = tokio::time::interval(FILE_CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
