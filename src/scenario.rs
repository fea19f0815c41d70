//! The life of one scenario: it waits for its target and learns the model, warms up, then runs its
//! schedule until it is stopped. What a reload changes reaches it there.

mod readiness;
mod setting;
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
use crate::launch::{Alarm, Driver, Gate, Lane, Lanes, Mailbox};
use crate::metrics::{Instruments, Metrics};
use crate::recent::Recent;
use crate::schedule::{Rate, Shard};
use crate::status::Stream;
use crate::tally::Tally;
pub use setting::{Setting, Way};

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
    /// Each scenario ends with its schedule; else it stays, for whatever a reload brings.
    pub pass: Option<Pass>,
}

/// A run that ends.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// What is not due by then, from the beginning of a schedule, is not sent.
    pub limit: Option<Duration>,
    /// How long targets may take to be ready.
    pub patience: Duration,
}

/// A scenario's schedule ended by a panic: a defect.
#[derive(Debug, thiserror::Error)]
#[error("the schedule of scenario {scenario} ended by a panic, whose words are above; please report this")]
pub struct Crashed {
    scenario: String,
}

/// Who is told what becomes of a request.
pub type Observer = (Instruments, (Arc<Incidents>, (Arc<Recent>, (Arc<Gate>, Option<Arc<Tally>>))));
/// A stream of load over HTTP.
pub type HttpLane = Lane<HttpEndpoint, Observer>;

/// A scenario at work, as it is reached from outside.
#[derive(Debug)]
pub struct Work {
    /// Where it is shown, one to each target.
    pub streams: Vec<Arc<Stream>>,
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
    /// The lanes were exchanged.
    exchanged: Arc<Notify>,
}

impl Work {
    /// A scenario that begins its life with the future that comes with it. Where its labels are
    /// known, its series are there when this returns: nobody scrapes without them.
    pub fn begin(
        setting: Setting,
        streams: Vec<Arc<Stream>>,
        around: &Surroundings,
    ) -> (Work, impl Future<Output = Result<(), Crashed>> + Send + use<>) {
        for (way, stream) in setting.ways.iter().zip(&streams) {
            // Those whose model is unknown have no labels yet.
            let _known = setting.bind(way, stream, around);
        }
        let (live, stop) = (Arc::new(OnceLock::new()), around.draining.child_token());
        let ended = CancellationToken::new();
        let work = Work {
            streams: streams.clone(),
            ended: ended.clone(),
            stop: stop.clone(),
            live: Arc::clone(&live),
        };
        let life = go_through(setting, streams, around.clone(), live, stop);
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
    }

    /// Sets a rate in place of the schedule for a while, or goes back to it; whether one was set before,
    /// or nothing before its schedule runs.
    pub fn set_rate(&self, rate: Option<(Rate, Duration)>) -> Option<bool> {
        let mailbox = &self.live.get()?.mailbox;
        let set = self.streams.first()?.course.standing(Instant::now()).set_until.is_some();
        // An order that is still on its way is the last word.
        Some(mailbox.set_rate(rate).unwrap_or(set))
    }

    /// Changes what new requests have in common, and the schedule if it is another; nothing before its
    /// schedule runs. They may be those of other streams from now on, whose models are known.
    pub fn change(
        &mut self,
        before: &Setting,
        after: &Setting,
        streams: Vec<Arc<Stream>>,
        around: &Surroundings,
    ) {
        let Some(live) = self.live.get() else { return };
        live.lanes.exchange(after.lanes(&streams, &live.gate, around));
        live.exchanged.notify_one();
        self.streams = streams;
        if !before.is_timed_like(after) {
            live.mailbox.replace(after.timetable(), after.spread(around.shard));
        }
    }
}

async fn go_through(
    setting: Setting,
    streams: Vec<Arc<Stream>>,
    around: Surroundings,
    live: Arc<OnceLock<Live>>,
    stop: CancellationToken,
) -> Result<(), Crashed> {
    let name = setting.scenario.name.clone();
    let Some(course) = streams.first().map(|stream| Arc::clone(&stream.course)) else { return Ok(()) };
    let gate = Arc::new(Gate::default());
    let begun = async {
        for (way, stream) in setting.ways.iter().zip(&streams) {
            let model = readiness::wait(&setting.scenario.start, way, stream, &around.metrics).await;
            // It is that of the file where that names one.
            let _known = stream.model.set(model);
        }
        let ways = setting.lanes(&streams, &gate, &around);
        for (lane, stream) in ways.lanes.iter().zip(&streams) {
            warmup::send(lane, setting.scenario.warmup, stream, &around).await;
        }
        ways
    };
    let ways = tokio::select! {
        ways = begun => ways,
        () = stop.cancelled() => {
            course.ends();
            return Ok(());
        }
    };
    for lane in &ways.lanes {
        tracing::info!(
            scenario = name,
            target = lane.target,
            model = lane.model,
            "ready: requests come when they are due"
        );
    }
    let spread = setting.spread(around.shard);
    let begin = Instant::now();
    let driver = Driver::new(setting.timetable(), spread, Arc::clone(&course), begin);
    let driver = match around.pass {
        None => driver.behind(Arc::clone(&gate)),
        // A run does not wait once it has begun: an outage is what it is to show.
        Some(Pass { limit: Some(limit), .. }) => driver.until(begin + limit),
        Some(Pass { limit: None, .. }) => driver,
    };
    // A reload may replace its clients, and then nothing shall hold on to those of before.
    drop(setting);
    let (mailbox, lanes) = (driver.mailbox(), Arc::new(Lanes::new(ways)));
    let mut schedule =
        tokio::spawn(keep_to(driver, Arc::clone(&lanes), stop.clone(), name.clone(), around.pass));
    let exchanged = Arc::new(Notify::new());
    let reached = Live {
        mailbox: Arc::clone(&mailbox),
        lanes: Arc::clone(&lanes),
        gate: Arc::clone(&gate),
        exchanged: Arc::clone(&exchanged),
    };
    // Nobody else sets it.
    let _set = live.set(reached);
    let let_in = async {
        loop {
            gate.asked().await;
            readiness::comes_back(&lanes, &around.metrics).await;
            mailbox.ready();
        }
    };
    let version = version::keep(&lanes, &exchanged, &around.metrics);
    let well = tokio::select! {
        well = &mut schedule => well,
        () = let_in => return Ok(()),
        () = version => return Ok(()),
        // It may be launching this very moment; nothing may start once this returns.
        () = stop.cancelled() => schedule.await,
    };
    course.ends();
    well.map_err(|_| Crashed { scenario: name })
}

/// Runs the schedule until `stop`; where it ends before, another may take its place, but not in a pass.
async fn keep_to(
    mut driver: Driver,
    lanes: Arc<Lanes<HttpEndpoint, Observer>>,
    stop: CancellationToken,
    scenario: String,
    pass: Option<Pass>,
) {
    let mut alarm = Alarm::of_this_machine();
    if pass.is_some() {
        return driver.run(&*lanes, &mut alarm, &stop).await;
    }
    while !stop.is_cancelled() {
        driver.run(&*lanes, &mut alarm, &stop).await;
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
