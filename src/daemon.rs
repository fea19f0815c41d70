//! Composition: a plan becomes running scenarios and a web server, and a stop becomes a drain.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::course::Course;
use crate::endpoint::{BuildError, HttpEndpoint};
use crate::generator::{self, Generator};
use crate::incidents::Incidents;
use crate::ledger::Ledger;
use crate::metrics::{self, Metrics};
use crate::plan::{Location, Plan, Target};
use crate::scenario::{self, Crashed, Surroundings};
use crate::simulator::Simulator;
use crate::status::Stream;
use crate::web::{self, Site};

/// How long requests in flight may go on once the daemon was told to stop. Kubernetes gives 30 s.
const GRACE: Duration = Duration::from_secs(20);
/// File descriptors for everything but requests: the web server's connections among them.
const OTHER_FILES: u64 = 640;

/// Why the daemon could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario's schedule crashed.
    #[error(transparent)]
    Crashed(#[from] Crashed),
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

/// Runs a plan until `stop` is cancelled and what was in flight then has ended or its grace is
/// over. Cancelling `hurry` ends the grace at once.
///
/// # Errors
/// If something cannot be set up: nothing has been sent then. Or if a schedule crashes: the daemon
/// drains then, rather than stay up and send nothing.
pub async fn run(
    plan: Plan,
    listener: TcpListener,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Result<(), Error> {
    let started = SystemTime::now();
    check_open_files(&plan)?;
    let listener = into_tokio(listener).map_err(Error::Socket)?;
    let address = listener.local_addr().map_err(Error::Socket)?;
    let generator = Generator::new();
    let metrics = Arc::new(Metrics::new(Arc::clone(&generator))?);
    metrics.config_loaded(plan.source_hash);
    let around = Surroundings {
        metrics: Arc::clone(&metrics),
        seed: plan.seed,
        draining: stop.clone(),
        cut: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };

    let mut simulators = Simulators::default();
    let mut prepared = Vec::new();
    for scenario in plan.scenarios {
        let target = &scenario.target;
        let address = simulators.address(target)?;
        metrics.target_known(&target.name);
        let endpoint = HttpEndpoint::new(target, &address, connections(scenario.max_concurrency))?;
        let course = Course::new(Arc::clone(&scenario.schedule), scenario.repeat, "the target");
        let stream = Arc::new(Stream {
            scenario: scenario.name.clone(),
            target: target.name.clone(),
            simulated: matches!(target.location, Location::Simulator(_)),
            address: address.to_string(),
            model: OnceLock::new(),
            max_concurrency: scenario.max_concurrency.get(),
            ledger: Ledger::new(),
            course: Arc::new(course),
            incidents: Arc::new(Incidents::new(&scenario.name, &target.name)),
        });
        prepared.push((scenario, endpoint, stream));
    }

    // Everything that can be refused has been: from here on it runs.
    let scenarios = prepared.len();
    tracing::info!(scenarios, "llmload serves its status page and /metrics on {}", visible(address));
    let streams: Vec<_> = prepared.iter().map(|(.., stream)| Arc::clone(stream)).collect();
    let site = Arc::new(Site {
        metrics: Arc::clone(&metrics),
        generator: Arc::clone(&generator),
        streams: streams.clone(),
        config: plan.masked_source,
        draining: stop.clone(),
        started,
    });
    let no_more_questions = CancellationToken::new();
    let mut scenarios = JoinSet::new();
    for (scenario, endpoint, stream) in prepared {
        scenarios.spawn(scenario::run(scenario, endpoint, stream, around.clone()));
    }
    // Only now: the first scrape shall find every series.
    let web = tokio::spawn(web::serve(listener, site, no_more_questions.clone()));
    let seconds = tokio::spawn(count_seconds(Arc::clone(&metrics)));
    let itself = tokio::spawn(generator::watch(generator, move |delay| metrics.event_loop_delayed(delay)));

    let crashed = watch(&mut scenarios, &stop).await;
    stop.cancel();
    drain(scenarios, &around, &streams, &hurry).await;
    seconds.abort();
    itself.abort();
    no_more_questions.cancel();
    // It was told to end, and whether it did so well is of no interest any more.
    let _ended = web.await;
    crashed
}

/// Until the daemon is told to stop, or a scenario crashes. Those that end well change nothing.
async fn watch(scenarios: &mut JoinSet<Result<(), Crashed>>, stop: &CancellationToken) -> Result<(), Error> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = scenarios.join_next() => match ended {
                Ok(ended) => ended?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
        }
    }
}

/// No arrival starts any more; what is in flight may end within the grace period.
async fn drain(
    mut scenarios: JoinSet<Result<(), Crashed>>,
    around: &Surroundings,
    streams: &[Arc<Stream>],
    hurry: &CancellationToken,
) {
    tracing::info!(in_flight = around.tasks.len(), grace = ?GRACE, "stopping: no new requests");
    while scenarios.join_next().await.is_some() {}
    around.tasks.close();
    tokio::select! {
        () = around.tasks.wait() => {}
        () = tokio::time::sleep(GRACE) => {}
        () = hurry.cancelled() => tracing::info!("a second signal: what is in flight is cut off"),
    }
    around.cut.cancel();
    around.tasks.wait().await;
    let aborted: u64 = streams
        .iter()
        .flat_map(|stream| stream.ledger.read().aborted().collect::<Vec<_>>())
        .map(|a| a.1)
        .sum();
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

/// The simulators of targets, one each, for as long as this lives.
#[derive(Default)]
struct Simulators(Vec<(String, Simulator)>);

impl Simulators {
    /// The base URL of a target, its simulator started if it is one.
    fn address(&mut self, target: &Target) -> Result<Url, Error> {
        let settings = match &target.location {
            Location::Url(url) => return Ok(url.clone()),
            Location::Simulator(settings) => settings,
        };
        let failed = |source| Error::Simulator { target: target.name.clone(), source };
        let running = self.0.iter().position(|(name, _)| *name == target.name);
        let index = if let Some(index) = running {
            index
        } else {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            let simulator = Simulator::start(settings.clone(), listener).map_err(failed)?;
            self.0.push((target.name.clone(), simulator));
            self.0.len() - 1
        };
        let address = format!("http://{}/v1", self.0[index].1.address());
        Url::parse(&address).map_err(|error| failed(std::io::Error::other(error)))
    }
}

/// As many idle connections as there may be requests in flight.
fn connections(max_concurrency: NonZeroU32) -> usize {
    usize::try_from(max_concurrency.get()).unwrap_or(usize::MAX)
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
    let in_flight: u64 = plan.scenarios.iter().map(|s| u64::from(s.max_concurrency.get())).sum();
    // The simulator holds the other end of each connection.
    let simulated = plan.scenarios.iter().filter(|s| matches!(s.target.location, Location::Simulator(_)));
    let other_ends: u64 = simulated.map(|s| u64::from(s.max_concurrency.get())).sum();
    let needed = in_flight + other_ends + OTHER_FILES;
    // Where the limit cannot be read there is nothing to hold the plan against.
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
    if limit < needed { Err(Error::Files { limit, needed }) } else { Ok(()) }
}

fn into_tokio(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
