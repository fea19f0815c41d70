//! The life of one scenario: it waits for its target and learns the model, warms up, then runs its
//! schedule on a thread of its own until it is stopped. What a reload changes reaches it there.

mod readiness;
mod version;
mod warmup;

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::course::Course;
use crate::endpoint::HttpEndpoint;
use crate::guard::{Guard, Pause};
use crate::incidents::Incidents;
use crate::launch::{Driver, Gate, Lane, Lanes, Mailbox};
use crate::metrics::{Facts, Instruments, Labels, Metrics};
use crate::plan::{self, Start};
use crate::schedule::{Rate, Shard, Spread};
use crate::status::Stream;
use crate::timetable::{Cycles, Timetable};

/// What scenarios share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where series are bound.
    pub metrics: Arc<Metrics>,
    /// Which of the arrivals are ours.
    pub shard: Shard,
    /// No arrival is sent once this is cancelled.
    pub draining: CancellationToken,
    /// No arrival is sent while this is on.
    pub paused: Pause,
}

/// The thread of a scenario's schedule could not be started, or ended by a panic: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of scenario {scenario} came to a bad end: {cause}; please report this")]
pub struct Crashed {
    scenario: String,
    cause: String,
}

/// Who is told what becomes of a request.
pub type Observer = (Instruments, (Arc<Incidents>, Arc<Gate>));
/// A stream of load over HTTP.
pub type HttpLane = Lane<HttpEndpoint, Observer>;

/// A scenario of the plan with the seed it draws from, and the client of its target.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is asked for.
    pub scenario: plan::Scenario,
    /// Everything random follows from it.
    pub seed: u64,
    /// The client of its target.
    pub endpoint: Arc<HttpEndpoint>,
}

/// A scenario at work, as it is reached from outside.
#[derive(Debug)]
pub struct Work {
    /// Where it is shown.
    pub stream: Arc<Stream>,
    /// Cancelled once nothing is launched any more.
    pub ended: CancellationToken,
    stop: CancellationToken,
    live: Arc<OnceLock<Live>>,
}

/// What there is once the schedule runs.
#[derive(Debug)]
struct Live {
    mailbox: Arc<Mailbox>,
    lanes: Arc<Lanes<HttpEndpoint, Observer>>,
    gate: Arc<Gate>,
}

impl Setting {
    /// The way to its target, whose series are made with it.
    fn lane(&self, model: &str, stream: &Stream, gate: &Arc<Gate>, around: &Surroundings) -> Arc<HttpLane> {
        let scenario = &self.scenario;
        let (draining, paused) = (around.draining.clone(), around.paused.clone());
        let instruments = bind(self, model, stream, &around.metrics);
        Arc::new(Lane {
            endpoint: Arc::clone(&self.endpoint),
            model: model.to_owned(),
            prompts: scenario.prompts.clone(),
            scenario: scenario.name.clone(),
            seed: self.seed,
            parameters: scenario.request.clone(),
            dialect: scenario.target.dialect.clone(),
            traceparent: scenario.target.traceparent,
            terminal: scenario.target.terminal,
            timeouts: scenario.target.timeouts,
            guard: Guard::new(draining, paused, scenario.max_lag, scenario.max_concurrency),
            observer: (instruments, (Arc::clone(&stream.incidents), Arc::clone(gate))),
            traffic: Arc::clone(&stream.traffic),
        })
    }

    fn spread(&self, shard: Shard) -> Spread {
        let (arrivals, scenario) = (self.scenario.arrivals, self.scenario.name.clone());
        Spread { arrivals, seed: self.seed, scenario, shard }
    }

    /// A course for it that waits.
    pub fn course(&self, shard: Shard) -> Arc<Course> {
        let timetable = timetable(&self.scenario);
        let schedule = Arc::clone(timetable.schedule());
        Arc::new(Course::new(schedule, timetable.is_endless(), shard, "the target"))
    }

    /// Whether what another setting says of arrivals is the same: then they go on undisturbed.
    fn is_timed_like(&self, other: &Setting) -> bool {
        let timing = |setting: &Setting| {
            let plan::Scenario { schedule, arrivals, repeat, start, active, .. } = &setting.scenario;
            (Arc::clone(schedule), *arrivals, *repeat, start.clone(), active.clone())
        };
        self.seed == other.seed && timing(self) == timing(other)
    }
}

/// When the cycles of a scenario begin.
fn timetable(scenario: &plan::Scenario) -> Timetable {
    let repeat = scenario.repeat;
    let cycles = match &scenario.start {
        Start::WhenReady => Cycles::Running { repeat, when_ready: true },
        Start::Now => Cycles::Running { repeat, when_ready: false },
        Start::WallClock(anchor) => Cycles::WallClock(anchor.clone()),
        Start::Cron(cron) => Cycles::Cron(cron.clone(), repeat),
    };
    Timetable::new(Arc::clone(&scenario.schedule), cycles, scenario.active.clone())
}

/// Makes the series of a stream of load.
fn bind(setting: &Setting, model: &str, stream: &Stream, metrics: &Metrics) -> Instruments {
    let model = stream.model.get_or_init(|| model.to_owned()).clone();
    let labels = Labels { target: stream.target.clone(), model, scenario: stream.scenario.clone() };
    let (arrivals, terms) = (setting.scenario.arrivals, stream.terms());
    let prices = setting.scenario.target.prices.clone();
    let facts = Facts { arrivals, simulated: terms.simulated, limit: terms.max_concurrency, prices };
    metrics.bind(&labels, Arc::clone(&stream.traffic.ledger), Arc::clone(&stream.course), facts)
}

impl Work {
    /// A scenario that begins its life with the future that comes with it. Where its labels are
    /// known, its series are there when this returns: nobody scrapes without them.
    pub fn begin(
        setting: Setting,
        stream: Arc<Stream>,
        around: &Surroundings,
    ) -> (Work, impl Future<Output = Result<(), Crashed>> + Send + use<>) {
        if let Some(model) = &setting.scenario.target.model {
            bind(&setting, model, &stream, &around.metrics);
        }
        let (live, stop) = (Arc::new(OnceLock::new()), around.draining.child_token());
        let ended = CancellationToken::new();
        let work = Work {
            stream: Arc::clone(&stream),
            ended: ended.clone(),
            stop: stop.clone(),
            live: Arc::clone(&live),
        };
        let life = go_through(setting, stream, around.clone(), live, stop);
        let life = async move {
            let _however_it_ends = ended.drop_guard();
            life.await
        };
        (work, life)
    }

    /// Whether its schedule runs, so that it can be changed without a new beginning.
    pub fn is_live(&self) -> bool {
        self.live.get().is_some()
    }

    /// Stops its arrivals.
    pub fn stop(&self) {
        self.stop.cancel();
        if let Some(live) = self.live.get() {
            live.mailbox.wake();
        }
    }

    /// Sets a rate in place of the schedule for a while, or goes back to it; false before its schedule
    /// runs.
    pub fn set_rate(&self, rate: Option<(Rate, Duration)>) -> bool {
        let Some(live) = self.live.get() else { return false };
        live.mailbox.set_rate(rate);
        true
    }

    /// Changes what new requests have in common, and the schedule if it is another; nothing before its
    /// schedule runs. They may be those of another `stream` from now on.
    pub fn change(
        &mut self,
        before: &Setting,
        after: &Setting,
        model: &str,
        stream: Arc<Stream>,
        around: &Surroundings,
    ) {
        let Some(live) = self.live.get() else { return };
        live.lanes.exchange(vec![after.lane(model, &stream, &live.gate, around)]);
        self.stream = stream;
        if !before.is_timed_like(after) {
            live.mailbox.replace(timetable(&after.scenario), after.spread(around.shard));
        }
    }
}

async fn go_through(
    setting: Setting,
    stream: Arc<Stream>,
    around: Surroundings,
    live: Arc<OnceLock<Live>>,
    stop: CancellationToken,
) -> Result<(), Crashed> {
    let scenario = &setting.scenario;
    let gate = Arc::new(Gate::default());
    let begun = async {
        let model = readiness::wait(scenario, &setting.endpoint, &stream, &around.metrics).await;
        let lane = setting.lane(&model, &stream, &gate, &around);
        if scenario.warmup > 0 {
            stream.course.waits_for("its warm-up");
            warmup::send(&lane, scenario.warmup, &stream, &around.metrics).await;
        }
        lane
    };
    let lane = tokio::select! {
        lane = begun => lane,
        () = stop.cancelled() => {
            stream.course.ends();
            return Ok(());
        }
    };
    tracing::info!(scenario = scenario.name, target = stream.target, model = lane.model, "schedule begins");
    let spread = setting.spread(around.shard);
    let driver = Driver::new(timetable(scenario), spread, Arc::clone(&stream.course), Instant::now());
    let driver = driver.behind(Arc::clone(&gate));
    let (mailbox, lanes) = (driver.mailbox(), Arc::new(Lanes::new(vec![lane])));
    let crashed = |cause: String| Crashed { scenario: scenario.name.clone(), cause };
    let (_thread, mut ended) = on_a_thread(driver, Arc::clone(&lanes), stop.clone(), &scenario.name)
        .map_err(|error| crashed(error.to_string()))?;
    let (mailbox_of_work, lanes_of_work) = (Arc::clone(&mailbox), Arc::clone(&lanes));
    // Nobody else sets it.
    let _set = live.set(Live { mailbox: mailbox_of_work, lanes: lanes_of_work, gate: Arc::clone(&gate) });
    let let_in = async {
        loop {
            gate.asked().await;
            if let Some(lane) = lanes.now().first() {
                let endpoint = Arc::clone(&lane.endpoint);
                readiness::comes_back(&stream.target, &endpoint, &around.metrics).await;
            }
            mailbox.ready();
        }
    };
    let of_lane = || lanes.now().first().map(|lane| Arc::clone(&lane.endpoint));
    let version = version::keep(&stream.target, of_lane, &around.metrics);
    let well = tokio::select! {
        well = &mut ended => well,
        () = let_in => return Ok(()),
        () = version => return Ok(()),
        () = stop.cancelled() => {
            mailbox.wake();
            // It may be launching this very moment; nothing may start once this returns.
            ended.await
        }
    };
    stream.course.ends();
    // The sender is gone without a word only if a panic took it along.
    well.map_err(|_| crashed("a panic, whose words are above".to_owned()))
}

/// Runs the schedule until `stop`; where it ends before, another may take its place.
fn on_a_thread(
    mut driver: Driver,
    lanes: Arc<Lanes<HttpEndpoint, Observer>>,
    stop: CancellationToken,
    scenario: &str,
) -> std::io::Result<(JoinHandle<()>, oneshot::Receiver<()>)> {
    let (runtime, scenario) = (Handle::current(), scenario.to_owned());
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("pacer".into()).spawn(move || {
        while !stop.is_cancelled() {
            driver.run(&*lanes, &runtime, &stop);
            if !stop.is_cancelled() {
                tracing::info!(
                    scenario,
                    "schedule ended; the daemon stays up and serves /metrics until a signal"
                );
            }
            driver.sleep(&stop);
        }
        // Whoever waits may have gone.
        let _gone = end.send(());
    })?;
    Ok((thread, ended))
}
