//! One scenario: waits for its targets, sends warm-up requests, and then runs its schedule until
//! the daemon stops it. A reload can change a running scenario.

mod completion;
mod driving;
mod observation;
mod observer;
mod readiness;
mod spec;
mod start;
mod version;
mod warmup;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::calendar::rfc3339;
use crate::config::HumanDuration;
use crate::endpoint::HttpEndpoint;
use crate::generator::GeneratorMonitor;
use crate::guard::{Accounts, Pause};
use crate::launch::{Driver, Mailbox, ReadinessGate, Route, RouteSet, RouteTable};
use crate::metrics::Metrics;
use crate::remedy::Diagnosis;
use crate::schedule::Shard;
use crate::schedule_state::{RateOverride, ScheduleState};
use crate::status::RouteMonitor;
use crate::tally::SearchMeter;
pub use completion::Completion;
use driving::Driving;
pub use observer::RouteObserver;
pub use spec::{RouteSpec, ScenarioSpec};

/// The parts of a daemon that all scenarios share.
#[derive(Clone, Debug)]
pub struct ScenarioContext {
    pub metrics: Arc<Metrics>,
    pub generator: Arc<GeneratorMonitor>,
    /// Determines which arrivals this daemon sends.
    pub shard: Shard,
    /// Cancelled when the drain begins. Then llmload sends no more arrivals.
    pub draining: CancellationToken,
    pub paused: Pause,
    /// The accounts of all budgets.
    pub accounts: Arc<Accounts>,
    /// The archive of failed requests.
    pub archive: Arc<Archive>,
    /// `None` in a daemon, which continues after its schedules have ended.
    pub run_options: Option<RunOptions>,
}

/// The options of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// The longest time for a schedule, from its start.
    pub time_limit: Option<Duration>,
    /// The longest time for the preparation, in which the targets become ready and the warm-up
    /// requests end. It does not include the wait for the scenario in `after`.
    pub ready_timeout: Duration,
    /// The start of each schedule. `None` means that a schedule starts after its preparation.
    pub start_at: Option<SystemTime>,
}

/// A reason why a scenario ended before its schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error(
        "the schedule of scenario {scenario} panicked; please report this with the panic message \
         above"
    )]
    ScheduleCrashed { scenario: String },
    /// A target of a run rejects the key, or the quota is used up, so waiting is useless. A daemon
    /// does not have this error.
    #[error("scenario {scenario} cannot run on target {target}: {reason}")]
    Refused { scenario: String, target: String, reason: Diagnosis },
    #[error(
        "scenario {scenario} has sent nothing within {} (--wait), because it still waits for \
         {waiting_for}",
        HumanDuration(*ready_timeout)
    )]
    NotReady { scenario: String, waiting_for: String, ready_timeout: Duration },
    #[error(
        "scenario {scenario} was not ready at {} (--start-at), because it still waited for \
         {waiting_for}",
        rfc3339(*start_at)
    )]
    MissedStart { scenario: String, waiting_for: String, start_at: SystemTime },
    /// A run has an objective with `abort`.
    #[error(
        "scenario {scenario} ended early, because phase {phase} on target {target} can no longer \
         meet its objective {objective} (abort: true)"
    )]
    Hopeless { scenario: String, target: String, phase: String, objective: String },
}

/// A route over HTTP. A route is one scenario on one target.
pub type HttpRoute = Route<HttpEndpoint, RouteObserver>;
type HttpRouteSet = RouteSet<HttpEndpoint, RouteObserver>;
type HttpRouteTable = RouteTable<HttpEndpoint, RouteObserver>;

/// A handle to a scenario that runs in a separate task.
#[derive(Debug)]
pub struct ScenarioHandle {
    /// One monitor for each target of the scenario.
    pub monitors: Vec<Arc<RouteMonitor>>,
    /// Cancelled when the scenario can no longer send.
    pub ended: CancellationToken,
    /// The end of this scenario, for which other scenarios wait.
    pub completion: Completion,
    stop: CancellationToken,
    controls: Arc<OnceLock<Controls>>,
}

/// The controls of a scenario whose schedule has started.
#[derive(Debug)]
struct Controls {
    mailbox: Arc<Mailbox>,
    routes: Arc<HttpRouteTable>,
    gate: Arc<ReadinessGate>,
    routes_replaced: Arc<Notify>,
}

impl ScenarioHandle {
    /// Returns a handle, and the future that runs the scenario. The series of each route with a
    /// known model already exist, so the first scrape contains them.
    pub fn start(
        spec: ScenarioSpec,
        monitors: Vec<Arc<RouteMonitor>>,
        context: &ScenarioContext,
        completion: Completion,
        predecessor: Option<Completion>,
    ) -> (ScenarioHandle, impl Future<Output = Result<(), ScenarioError>> + Send + use<>) {
        for (route, monitor) in spec.routes.iter().zip(&monitors) {
            // A route with an unknown model has no labels yet, so its series follow later.
            let _metrics = spec.bind_metrics(route, monitor, context);
        }
        completion.reset();
        let handle = ScenarioHandle {
            completion: completion.clone(),
            monitors: monitors.clone(),
            ended: CancellationToken::new(),
            stop: context.draining.child_token(),
            controls: Arc::default(),
        };
        let task = ScenarioTask {
            spec,
            monitors,
            context: context.clone(),
            controls: Arc::clone(&handle.controls),
            stop: handle.stop.clone(),
            completion,
            predecessor,
        };
        let ended = handle.ended.clone();
        let task = async move {
            // The token must be cancelled even if the task panics.
            let _ended = ended.drop_guard();
            task.run().await
        };
        (handle, task)
    }

    /// Returns true if the schedule has started, so a reload can change the scenario without a
    /// restart.
    pub fn has_started(&self) -> bool {
        self.controls.get().is_some()
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Sets or clears a manual override. Returns true if an override was set before, and `None`
    /// before the schedule has started.
    pub fn set_rate(&self, rate: RateOverride) -> Option<bool> {
        let mailbox = &self.controls.get()?.mailbox;
        let position = self.monitors.first()?.schedule_state.position(Instant::now());
        // `position` does not show the effect of a command that the driver has not applied yet.
        Some(match mailbox.set_rate(rate) {
            Some(pending) => pending != RateOverride::Clear,
            None => position.override_until.is_some(),
        })
    }

    /// Applies a new specification. Replaces the schedule only if the timing differs. Does nothing
    /// before the schedule has started. The model of each monitor must be known.
    pub fn change(
        &mut self,
        before: &ScenarioSpec,
        after: &ScenarioSpec,
        monitors: Vec<Arc<RouteMonitor>>,
        context: &ScenarioContext,
    ) {
        let Some(controls) = self.controls.get() else { return };
        controls.routes.replace(after.build_routes(&monitors, &controls.gate, context));
        controls.routes_replaced.notify_one();
        self.monitors = monitors;
        if !before.has_same_conversations(after) {
            controls.mailbox.end_sessions();
        }
        if !before.has_same_timing(after) {
            let arrivals = after.arrival_spec(context.shard);
            self.completion.reset();
            controls.mailbox.replace_schedule(after.timetable(), arrivals);
        }
    }
}

struct ScenarioTask {
    spec: ScenarioSpec,
    monitors: Vec<Arc<RouteMonitor>>,
    context: ScenarioContext,
    controls: Arc<OnceLock<Controls>>,
    stop: CancellationToken,
    completion: Completion,
    /// The scenario in `after`.
    predecessor: Option<Completion>,
}

impl ScenarioTask {
    async fn run(self) -> Result<(), ScenarioError> {
        let Some(first) = self.monitors.first() else { return Ok(()) };
        let schedule_state = Arc::clone(&first.schedule_state);
        let gate = Arc::new(ReadinessGate::default());
        let prepared = tokio::select! {
            routes = self.prepare_in_time(&gate, &schedule_state) => Some(routes),
            () = self.stop.cancelled() => None,
        };
        let result = match prepared {
            Some(Ok((routes, begin))) => {
                self.run_schedule(routes, gate, &schedule_state, begin).await
            }
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        schedule_state.set_ended();
        result
    }

    /// Waits until all targets are ready, and sends the warm-up requests. Only a run can fail here.
    async fn prepare(&self, gate: &Arc<ReadinessGate>) -> Result<HttpRouteSet, ScenarioError> {
        let ScenarioTask { spec, monitors, context, .. } = self;
        let refused = |monitor: &RouteMonitor, reason| ScenarioError::Refused {
            scenario: monitor.scenario.clone(),
            target: monitor.target.clone(),
            reason,
        };
        let mut warmups = Vec::new();
        for (route, monitor) in spec.routes.iter().zip(monitors) {
            let start = &spec.scenario.start;
            let ready = readiness::wait(start, route, monitor, context).await;
            let ready = ready.map_err(|reason| refused(monitor, reason))?;
            // The monitor already has the name of a configured model.
            let _already_set = monitor.model.set(ready.model);
            // Some keys can use the model, but not list the models. A request shows whether this is
            // such a key.
            warmups.push(spec.scenario.warmup.max(u32::from(ready.is_key_in_doubt)));
        }
        let routes = spec.build_routes(monitors, gate, context);
        for ((route, monitor), count) in routes.routes.iter().zip(monitors).zip(warmups) {
            let warmed_up = warmup::send(route, count, monitor, context).await;
            warmed_up.map_err(|reason| refused(monitor, reason))?;
        }
        start::log_ready(&spec.scenario.name, &routes, context.run_options);
        Ok(routes)
    }

    async fn run_schedule(
        self,
        routes: HttpRouteSet,
        gate: Arc<ReadinessGate>,
        schedule_state: &Arc<ScheduleState>,
        begin: Instant,
    ) -> Result<(), ScenarioError> {
        let ScenarioTask { spec, monitors, context, controls, stop, completion, .. } = self;
        let scenario = spec.scenario.name.clone();
        let driver = build_driver(&spec, &context, &gate, schedule_state, begin);
        // The reading of the metrics pages ends with this task.
        let _observation = observation::start(&spec, &monitors, schedule_state);
        let driver = match monitors.first() {
            Some(monitor) => driver.with_meter(Arc::new(SearchMeter::new(
                Arc::clone(&monitor.steps),
                Arc::clone(&context.generator),
            ))),
            None => driver,
        };
        // A reload can replace the clients in the specification, and this task must not keep them
        // alive.
        drop(spec);
        let (mailbox, routes) = (driver.mailbox(), Arc::new(RouteTable::new(routes)));
        let routes_replaced = Arc::new(Notify::new());
        let _only_set_here = controls.set(Controls {
            mailbox: Arc::clone(&mailbox),
            routes: Arc::clone(&routes),
            gate: Arc::clone(&gate),
            routes_replaced: Arc::clone(&routes_replaced),
        });
        let is_run = context.run_options.is_some();
        // A reload can replace the monitors, and this task must not keep the old ones alive. A run
        // has no reload.
        let monitors = if is_run { monitors } else { Vec::new() };
        let driving = Driving {
            driver,
            routes: Arc::clone(&routes),
            stop: stop.clone(),
            draining: context.draining.clone(),
            scenario: scenario.clone(),
            completion,
        };
        let mut driving = tokio::spawn(driving.run(is_run));
        let joined = tokio::select! {
            joined = &mut driving => joined,
            // The driver can be sending an arrival at this instant. No arrival is allowed to start
            // after the end of this function, so wait for the driver.
            () = stop.cancelled() => driving.await,
            never = release_cycles(&gate, &routes, &mailbox, &context.metrics) => match never {},
            never = version::watch(&routes, &routes_replaced, &context.metrics, &monitors) =>
                match never {},
            hopeless = hopeless(&monitors) => {
                stop.cancel();
                let _ended = driving.await;
                return Err(hopeless);
            }
        };
        joined.map_err(|_panic| ScenarioError::ScheduleCrashed { scenario })
    }
}

/// Waits until an objective with `abort` can no longer be met on a route.
async fn hopeless(monitors: &[Arc<RouteMonitor>]) -> ScenarioError {
    let wait = |monitor: &Arc<RouteMonitor>| {
        let (monitor, tally) = (Arc::clone(monitor), monitor.tally.clone());
        Box::pin(async move {
            let Some(tally) = tally else { return std::future::pending().await };
            let hopeless = tally.hopeless().await;
            ScenarioError::Hopeless {
                scenario: monitor.scenario.clone(),
                target: monitor.target.clone(),
                phase: hopeless.phase.clone(),
                objective: hopeless.objective.to_string(),
            }
        })
    };
    let mut waits: Vec<_> = monitors.iter().map(wait).collect();
    std::future::poll_fn(|context| {
        let mut ready = waits.iter_mut().map(|wait| wait.as_mut().poll(context));
        ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

fn build_driver(
    spec: &ScenarioSpec,
    context: &ScenarioContext,
    gate: &Arc<ReadinessGate>,
    schedule_state: &Arc<ScheduleState>,
    begin: Instant,
) -> Driver {
    let arrivals = spec.arrival_spec(context.shard);
    let driver = Driver::new(spec.timetable(), arrivals, Arc::clone(schedule_state), begin);
    match context.run_options {
        None => driver.with_gate(Arc::clone(gate)),
        // After its start, a run never waits for a target, because an outage is part of its result.
        Some(RunOptions { time_limit: Some(limit), .. }) => driver.with_time_limit(begin + limit),
        Some(RunOptions { time_limit: None, .. }) => driver,
    }
}

/// Waits until the target of a held cycle returns, and then releases the cycle. Repeats this
/// forever.
async fn release_cycles(
    gate: &ReadinessGate,
    routes: &HttpRouteTable,
    mailbox: &Mailbox,
    metrics: &Metrics,
) -> Infallible {
    loop {
        gate.cycle_waiting().await;
        readiness::wait_for_return(routes, metrics).await;
        mailbox.set_target_ready();
    }
}
