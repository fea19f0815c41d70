//! The Prometheus exposition.
//!
//! [`table`] lists every metric family. The submodules register these families: for routes (one
//! scenario on one target), rate limits, budgets, objectives, targets and llmload itself.
//!
//! [`Metrics::bind`] creates all series of a route with the value 0. So no request looks up a
//! series by its labels, and `rate()` does not miss the first increment.

mod archive;
mod budgets;
mod collector;
mod generator;
mod limits;
mod machine;
mod objectives;
mod route;
mod samples;
mod series;
mod sessions;
pub mod table;
mod targets;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Encoder, Gauge, Histogram, Registry, TextEncoder};

use crate::archive::ArchiveCounts;
use crate::buckets::Buckets;
use crate::generator::GeneratorMonitor;
use crate::guard::{Accounts, Breaker};
use crate::ledger::{Ledger, SessionLedger};
use crate::machine::MachineMonitor;
use crate::pairing::PairedComparison;
use crate::plan::Prices;
use crate::schedule::{Arrivals, Shard};
use crate::schedule_state::ScheduleState;
use crate::slo::Slo;
use archive::ArchiveCollector;
use budgets::BudgetCollector;
use collector::{BoundRoute, RouteCollector};
use generator::GeneratorCollector;
use machine::MachineCollector;
use route::RouteFamilies;
pub use route::RouteMetrics;
use series::{Registrar, SeriesSet, SeriesVec};
pub use targets::TargetMetrics;

/// The content type of [`Metrics::expose`]. Prometheus 3 rejects a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a route (one scenario on one target), from the configuration. Without a configured
/// model, the model is from `/models` of the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// `targets.NAME`.
    pub target: String,
    /// The model in the body of each request.
    pub model: String,
    /// `scenarios.NAME`.
    pub scenario: String,
}

impl Labels {
    fn values(&self) -> [&str; 3] {
        [&self.target, &self.model, &self.scenario]
    }
}

/// Two families have the same name, or a family cannot be encoded: a defect of the table of
/// metrics, not a mistake of a user.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Defect(#[from] prometheus::Error);

/// The configuration of a route that its series depend on.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// The distribution of arrivals, a label of `llmload_scenario_info`.
    pub arrivals: Arrivals,
    /// A label of `llmload_scenario_info`.
    pub simulated: bool,
    /// The highest number of requests in flight.
    pub limit: u32,
    /// True if the schedule replays a trace.
    pub replays: bool,
    /// Without prices, the route has no cost.
    pub prices: Option<Prices>,
    pub slo: Option<Arc<Slo>>,
    /// `None` if the scenario has no breaker.
    pub breaker: Option<Arc<Breaker>>,
    /// The indexes of the phases that search a capacity. A search overloads the target on purpose,
    /// so the objectives do not judge its requests.
    pub searches: Vec<usize>,
    /// `None` if this target is the baseline target.
    pub baseline: Option<Baseline>,
    /// `None` if the prompts have no turns.
    pub sessions: Option<Arc<SessionLedger>>,
}

/// The baseline target (the first target of a scenario), and the difference from it.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// `targets.NAME` of the first target.
    pub target: String,
    /// The sums over all paired requests so far.
    pub difference: Arc<PairedComparison>,
}

impl RouteSettings {
    /// Returns the last two label values of `llmload_scenario_info`.
    fn info_values(&self) -> [&'static str; 2] {
        let arrivals = match self.arrivals {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
            Arrivals::Burstiness(_) => "gamma",
        };
        [arrivals, if self.simulated { "true" } else { "false" }]
    }
}

#[derive(Debug)]
pub struct Metrics {
    pub targets: TargetMetrics,
    pub machine: Arc<MachineMonitor>,
    registry: Registry,
    buckets: Buckets,
    collector: RouteCollector,
    routes: RouteFamilies,
    generator: Arc<GeneratorMonitor>,
    event_loop_delay: Histogram,
    config_successful: Gauge,
    config_timestamp: Gauge,
    config_hash: Gauge,
    paused: Gauge,
    shard_info: SeriesVec<Gauge>,
}

impl Metrics {
    /// Registers all families. `generator` gets the dispatch lag of each request. The buckets
    /// cannot change later, because a histogram does not keep its values.
    ///
    /// # Errors
    /// If two families in the table have the same name, which is a defect.
    pub fn new(
        generator: Arc<GeneratorMonitor>,
        archive: Arc<ArchiveCounts>,
        accounts: Arc<Accounts>,
        buckets: Buckets,
    ) -> Result<Metrics, Defect> {
        let registry = Registry::new();
        let collector = RouteCollector::new()?;
        registry.register(Box::new(collector.clone()))?;
        registry.register(Box::new(ArchiveCollector::new(archive)?))?;
        let machine = Arc::<MachineMonitor>::default();
        registry.register(Box::new(MachineCollector::new(Arc::clone(&machine))?))?;
        registry.register(Box::new(BudgetCollector::new(accounts)?))?;
        registry.register(Box::new(GeneratorCollector::new(Arc::clone(&generator))?))?;
        let registrar = Registrar { registry: &registry, buckets: &buckets };
        let gauge = |family| Ok::<_, Defect>(registrar.register::<Gauge>(family)?.permanent(&[]));
        let build: SeriesVec<Gauge> = registrar.register(&table::BUILD_INFO)?;
        let revision = env!("LLMLOAD_REVISION");
        let rustc = env!("LLMLOAD_RUSTC_VERSION");
        build.permanent(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1.0);
        Ok(Metrics {
            machine,
            targets: TargetMetrics::register(&registrar)?,
            collector,
            routes: RouteFamilies::register(&registrar)?,
            generator,
            event_loop_delay: registrar.register(&table::EVENT_LOOP_DELAY)?.permanent(&[]),
            config_successful: gauge(&table::CONFIG_LAST_RELOAD_SUCCESSFUL)?,
            config_timestamp: gauge(&table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP)?,
            config_hash: gauge(&table::CONFIG_HASH)?,
            paused: gauge(&table::PAUSED)?,
            shard_info: registrar.register(&table::SHARD_INFO)?,
            registry,
            buckets,
        })
    }

    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Exposes a route and returns its metrics. Each scrape reads `ledger` and `schedule_state`. If
    /// other settings already expose the route, its series keep their values, and series that the
    /// new settings do not need are removed.
    pub fn bind(
        &self,
        labels: &Labels,
        ledger: Arc<Ledger>,
        schedule_state: Arc<ScheduleState>,
        settings: RouteSettings,
    ) -> RouteMetrics {
        let mut series = SeriesSet::default();
        let (generator, ready) =
            (Arc::clone(&self.generator), self.targets.readiness(&labels.target));
        let metrics = self.routes.bind(labels, &settings, &mut series, generator, ready);
        self.collector.add(BoundRoute {
            labels: labels.clone(),
            ledger,
            schedule_state,
            limit: settings.limit,
            breaker: settings.breaker,
            baseline: settings.baseline,
            sessions: settings.sessions,
            queries_per_second: metrics.queries_per_second(),
            warmup_requests: metrics.warmup_requests(),
            successes: VecDeque::new(),
            _series: series,
        });
        metrics
    }

    /// Removes the series of a route, unless a newer route with another ledger has these labels.
    pub fn unbind(&self, labels: &Labels, ledger: &Arc<Ledger>) {
        self.collector.remove(labels, ledger);
    }

    pub fn warmup_request_ended(&self, labels: &Labels) {
        self.collector.warmup_request_ended(labels);
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.set(f64::from(u8::from(paused)));
    }

    pub fn set_shard(&self, shard: Shard) {
        let (index, count) = (shard.index().to_string(), shard.count().to_string());
        self.shard_info.permanent(&[&index, &count]).set(1.0);
    }

    /// Reports a rejected configuration. The previous configuration stays in effect.
    pub fn config_rejected(&self) {
        self.config_successful.set(0.0);
    }

    pub fn config_loaded(&self, hash: u64) {
        self.config_successful.set(1.0);
        self.config_timestamp.set(unix_seconds(SystemTime::now()));
        self.config_hash.set(hash_in_48_bits(hash));
    }

    pub fn observe_event_loop_delay(&self, delay: Duration) {
        self.event_loop_delay.observe(delay.as_secs_f64());
    }

    pub fn has_requests_in_flight(&self) -> bool {
        self.collector.has_requests_in_flight()
    }

    /// Records the query rate of every running route. Must be called each second.
    pub fn observe_query_rates(&self) {
        self.collector.observe_query_rates();
    }

    /// Appends the body of `GET /metrics` to `text`.
    ///
    /// # Errors
    /// If a family cannot be encoded, which is a defect.
    pub fn expose(&self, text: &mut Vec<u8>) -> Result<(), Defect> {
        Ok(TextEncoder::new().encode(&self.registry.gather(), text)?)
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns 48 bits of a hash, because an `f64` gauge cannot represent 64 bits exactly.
#[allow(clippy::cast_precision_loss)]
fn hash_in_48_bits(hash: u64) -> f64 {
    ((hash >> 48 ^ hash) & 0xffff_ffff_ffff) as f64
}
