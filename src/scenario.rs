//! The life of one scenario: it waits for its target and learns the model, warms up, then runs its
//! schedule until it is stopped. What a reload changes reaches it there.

mod readiness;
mod spec;
mod version;
mod warmup;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::endpoint::HttpEndpoint;
use crate::guard::Pause;
use crate::incidents::Incidents;
use crate::launch::{Alarm, Driver, Mailbox, ReadinessGate, Route, RouteTable};
use crate::metrics::{Metrics, RouteMetrics};
use crate::recent::Recent;
use crate::schedule::{Rate, Shard};
use crate::status::RouteMonitor;
use crate::tally::Tally;
pub use spec::{RouteSpec, ScenarioSpec};

/// What scenarios share.
#[derive(Clone, Debug)]
pub struct ScenarioContext {
    /// Where series are bound.
    pub metrics: Arc<Metrics>,
    /// Which of the arrivals are ours.
    pub shard: Shard,
    /// No arrival is sent once this is cancelled.
    pub draining: CancellationToken,
    /// No arrival is sent while this is on.
    pub paused: Pause,
    /// Each scenario ends with its schedule; else it stays, for whatever a reload brings.
    pub run_options: Option<RunOptions>,
}

/// A run that ends.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// What is not due by then, from the beginning of a schedule, is not sent.
    pub limit: Option<Duration>,
    /// How long targets may take to be ready.
    pub ready_timeout: Duration,
}

/// A scenario's schedule ended by a panic: a defect.
#[derive(Debug, thiserror::Error)]
#[error(
    "the schedule of scenario {scenario} ended by a panic, whose words are above; please report this"
)]
pub struct ScheduleCrashed {
    scenario: String,
}

/// Who is told what becomes of a request.
pub type Observer =
    (RouteMetrics, (Arc<Incidents>, (Arc<Recent>, (Arc<ReadinessGate>, Option<Arc<Tally>>))));
/// A stream of load over HTTP.
pub type HttpRoute = Route<HttpEndpoint, Observer>;

/// A scenario at work, as it is reached from outside.
#[derive(Debug)]
pub struct ScenarioHandle {
    /// Where it is shown, one to each target.
    pub monitors: Vec<Arc<RouteMonitor>>,
    /// Cancelled once nothing is launched any more.
    pub ended: CancellationToken,
    stop: CancellationToken,
    live: Arc<OnceLock<Live>>,
}

/// What there is once the schedule runs.
#[derive(Debug)]
struct Live {
    mailbox: Arc<Mailbox>,
    routes: Arc<RouteTable<HttpEndpoint, Observer>>,
    gate: Arc<ReadinessGate>,
    /// The lanes were exchanged.
    exchanged: Arc<Notify>,
}

impl ScenarioHandle {
    /// A scenario that begins its life with the future that comes with it. Where its labels are
    /// known, its series are there when this returns: nobody scrapes without them.
    pub fn begin(
        spec: ScenarioSpec,
        monitors: Vec<Arc<RouteMonitor>>,
        context: &ScenarioContext,
    ) -> (ScenarioHandle, impl Future<Output = Result<(), ScheduleCrashed>> + Send + use<>) {
        for (route, monitor) in spec.routes.iter().zip(&monitors) {
            // Those whose model is unknown have no labels yet.
            let _known = spec.bind(route, monitor, context);
        }
        let (live, stop) = (Arc::new(OnceLock::new()), context.draining.child_token());
        let ended = CancellationToken::new();
        let handle = ScenarioHandle {
            monitors: monitors.clone(),
            ended: ended.clone(),
            stop: stop.clone(),
            live: Arc::clone(&live),
        };
        let life = go_through(spec, monitors, context.clone(), live, stop);
        let life = async move {
            let _however_it_ends = ended.drop_guard();
            life.await
        };
        (handle, life)
    }

    /// Whether its schedule runs, so that it can be changed without a new beginning.
    pub fn is_live(&self) -> bool {
        self.live.get().is_some()
    }

    /// Stops its arrivals.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Sets a rate in place of the schedule for a while, or goes back to it; whether one was set before,
    /// or nothing before its schedule runs.
    pub fn set_rate(&self, rate: Option<(Rate, Duration)>) -> Option<bool> {
        let mailbox = &self.live.get()?.mailbox;
        let set =
            self.monitors.first()?.schedule_state.position(Instant::now()).set_until.is_some();
        // An order that is still on its way is the last word.
        Some(mailbox.set_rate(rate).unwrap_or(set))
    }

    /// Changes what new requests have in common, and the schedule if it is another; nothing before its
    /// schedule runs. They may be those of other streams from now on, whose models are known.
    pub fn change(
        &mut self,
        before: &ScenarioSpec,
        after: &ScenarioSpec,
        monitors: Vec<Arc<RouteMonitor>>,
        context: &ScenarioContext,
    ) {
        let Some(live) = self.live.get() else { return };
        live.routes.exchange(after.routes(&monitors, &live.gate, context));
        live.exchanged.notify_one();
        self.monitors = monitors;
        if !before.is_timed_like(after) {
            live.mailbox.replace(after.timetable(), after.spread(context.shard));
        }
    }
}

async fn go_through(
    spec: ScenarioSpec,
    monitors: Vec<Arc<RouteMonitor>>,
    context: ScenarioContext,
    live: Arc<OnceLock<Live>>,
    stop: CancellationToken,
) -> Result<(), ScheduleCrashed> {
    let name = spec.scenario.name.clone();
    let Some(schedule_state) = monitors.first().map(|monitor| Arc::clone(&monitor.schedule_state))
    else {
        return Ok(());
    };
    let gate = Arc::new(ReadinessGate::default());
    let begun = async {
        for (route, monitor) in spec.routes.iter().zip(&monitors) {
            let model =
                readiness::wait(&spec.scenario.start, route, monitor, &context.metrics).await;
            // It is that of the file where that names one.
            let _known = monitor.model.set(model);
        }
        let routes = spec.routes(&monitors, &gate, &context);
        for (route, monitor) in routes.routes.iter().zip(&monitors) {
            warmup::send(route, spec.scenario.warmup, monitor, &context).await;
        }
        routes
    };
    let routes = tokio::select! {
        routes = begun => routes,
        () = stop.cancelled() => {
            schedule_state.set_ended();
            return Ok(());
        }
    };
    for route in &routes.routes {
        tracing::info!(
            scenario = name,
            target = route.target,
            model = route.model,
            "ready: requests come when they are due"
        );
    }
    let spread = spec.spread(context.shard);
    let begin = Instant::now();
    let driver = Driver::new(spec.timetable(), spread, Arc::clone(&schedule_state), begin);
    let driver = match context.run_options {
        None => driver.behind(Arc::clone(&gate)),
        // A run does not wait once it has begun: an outage is what it is to show.
        Some(RunOptions { limit: Some(limit), .. }) => driver.until(begin + limit),
        Some(RunOptions { limit: None, .. }) => driver,
    };
    // A reload may replace its clients, and then nothing shall hold on to those of before.
    drop(spec);
    let (mailbox, routes) = (driver.mailbox(), Arc::new(RouteTable::new(routes)));
    let mut schedule = tokio::spawn(keep_to(
        driver,
        Arc::clone(&routes),
        stop.clone(),
        name.clone(),
        context.run_options,
    ));
    let exchanged = Arc::new(Notify::new());
    let reached = Live {
        mailbox: Arc::clone(&mailbox),
        routes: Arc::clone(&routes),
        gate: Arc::clone(&gate),
        exchanged: Arc::clone(&exchanged),
    };
    // Nobody else sets it.
    let _set = live.set(reached);
    let let_in = async {
        loop {
            gate.asked().await;
            readiness::comes_back(&routes, &context.metrics).await;
            mailbox.ready();
        }
    };
    let version = version::keep(&routes, &exchanged, &context.metrics);
    let well = tokio::select! {
        well = &mut schedule => well,
        () = let_in => return Ok(()),
        () = version => return Ok(()),
        // It may be launching this very moment; nothing may start once this returns.
        () = stop.cancelled() => schedule.await,
    };
    schedule_state.set_ended();
    well.map_err(|_| ScheduleCrashed { scenario: name })
}

/// Runs the schedule until `stop`; where it ends before, another may take its place, but not in a pass.
async fn keep_to(
    mut driver: Driver,
    routes: Arc<RouteTable<HttpEndpoint, Observer>>,
    stop: CancellationToken,
    scenario: String,
    run_options: Option<RunOptions>,
) {
    let mut alarm = Alarm::of_this_machine();
    if run_options.is_some() {
        return driver.run(&*routes, &mut alarm, &stop).await;
    }
    while !stop.is_cancelled() {
        driver.run(&*routes, &mut alarm, &stop).await;
        if !stop.is_cancelled() {
            tracing::info!(
                scenario,
                "schedule ended; the daemon stays up and serves /metrics until a signal"
            );
        }
        tokio::select! {
            () = driver.is_told() => {}
            () = stop.cancelled() => {}
        }
    }
}
