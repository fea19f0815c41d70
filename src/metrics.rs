//! The Prometheus exposition. The one home of the crate `prometheus`.
//!
//! [`table`] has every family. Each subsystem registers its families on a registry of this module:
//! routes, limits, objectives, targets and the generator itself. Every label combination of a route
//! exists at 0 from the moment it is bound ([`Metrics::bind`]). So no label is looked up while
//! requests run, and `rate()` does not miss the first increment.

mod collector;
mod generator;
mod limits;
mod objectives;
mod route;
mod samples;
mod series;
pub mod table;
mod targets;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Encoder, Gauge, Histogram, Registry, TextEncoder};

use crate::buckets::Buckets;
use crate::generator::Generator;
use crate::ledger::Ledger;
use crate::pairing::PairedComparison;
use crate::plan::Prices;
use crate::schedule::{Arrivals, Shard};
use crate::schedule_state::ScheduleState;
use crate::slo::Slo;
use collector::{BoundRoute, RouteCollector};
use generator::GeneratorCollector;
use route::RouteFamilies;
pub use route::RouteMetrics;
use series::{Registrar, SeriesSet, SeriesVec};
pub use targets::TargetMetrics;

/// The content type of [`Metrics::expose`]; Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a route. All of them come from the configuration, except a model that it leaves
/// out: that one comes once from the target's list of models.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// `targets.NAME`.
    pub target: String,
    /// The model that requests name.
    pub model: String,
    /// `scenarios.NAME`.
    pub scenario: String,
}

impl Labels {
    fn values(&self) -> [&str; 3] {
        [&self.target, &self.model, &self.scenario]
    }
}

/// Families that clash or cannot be encoded: a defect of the table, not a mistake of a user.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Defect(#[from] prometheus::Error);

/// The configuration of a route, as far as its series show it.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// The distribution of arrivals, a label of `llmload_scenario_info`.
    pub arrivals: Arrivals,
    /// True if the target is the built-in simulator, a label of `llmload_scenario_info`.
    pub simulated: bool,
    /// The highest number of requests in flight.
    pub limit: u32,
    /// The prices of tokens. Without them the route has no cost.
    pub prices: Option<Prices>,
    /// The objectives that requests are judged by.
    pub slo: Option<Arc<Slo>>,
    /// The target that this one is compared with; absent for the baseline itself.
    pub baseline: Option<Baseline>,
}

/// The first target of a scenario, and the difference of another target from it.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// `targets.NAME` of the first target.
    pub target: String,
    /// The sums over all pairs of requests so far.
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

/// All metric families.
#[derive(Debug)]
pub struct Metrics {
    /// The series of targets.
    pub targets: TargetMetrics,
    registry: Registry,
    buckets: Buckets,
    collector: RouteCollector,
    routes: RouteFamilies,
    generator: Arc<Generator>,
    event_loop_delay: Histogram,
    config_successful: Gauge,
    config_timestamp: Gauge,
    config_hash: Gauge,
    paused: Gauge,
    shard_info: SeriesVec<Gauge>,
}

impl Metrics {
    /// Registers all families. `generator` receives the lag of each request. The buckets stay for
    /// the life of the process: a histogram cannot be counted again with other bounds.
    ///
    /// # Errors
    /// If two families in the table clash: a defect.
    pub fn new(generator: Arc<Generator>, buckets: Buckets) -> Result<Metrics, Defect> {
        let registry = Registry::new();
        let collector = RouteCollector::new()?;
        registry.register(Box::new(collector.clone()))?;
        registry.register(Box::new(GeneratorCollector::new(Arc::clone(&generator))?))?;
        let registrar = Registrar { registry: &registry, buckets: &buckets };
        let gauge = |family| Ok::<_, Defect>(registrar.register::<Gauge>(family)?.permanent(&[]));
        let build: SeriesVec<Gauge> = registrar.register(&table::BUILD_INFO)?;
        let revision = env!("LLMLOAD_REVISION");
        let rustc = env!("LLMLOAD_RUSTC_VERSION");
        build.permanent(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1.0);
        Ok(Metrics {
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

    /// Returns the upper bounds of all histograms.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Exposes a route and returns its handles. Series that exist already keep their values; series
    /// that the settings before had and these have not are removed. From now on the ledger and the
    /// schedule state given here are read at each scrape.
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
            baseline: settings.baseline,
            queries_per_second: metrics.queries_per_second(),
            warmup_requests: metrics.warmup_requests(),
            successes: VecDeque::new(),
            _series: series,
        });
        metrics
    }

    /// Removes the series of a route, unless a later route with another ledger has its labels.
    pub fn unbind(&self, labels: &Labels, ledger: &Arc<Ledger>) {
        self.collector.remove(labels, ledger);
    }

    /// Counts a warm-up request that ended.
    pub fn warmup_request_ended(&self, labels: &Labels) {
        self.collector.warmup_request_ended(labels);
    }

    /// Exposes whether the load is paused.
    pub fn set_paused(&self, paused: bool) {
        self.paused.set(f64::from(u8::from(paused)));
    }

    /// Exposes the number of this shard. Call it once.
    pub fn set_shard(&self, shard: Shard) {
        let (index, count) = (shard.index().to_string(), shard.count().to_string());
        self.shard_info.permanent(&[&index, &count]).set(1.0);
    }

    /// Reports that a configuration was rejected, and the previous one is still running.
    pub fn config_rejected(&self) {
        self.config_successful.set(0.0);
    }

    /// Reports that the configuration with this hash was loaded just now.
    pub fn config_loaded(&self, hash: u64) {
        self.config_successful.set(1.0);
        self.config_timestamp.set(unix_seconds(SystemTime::now()));
        self.config_hash.set(hash_in_48_bits(hash));
    }

    /// Records the delay of the event loop, which is measured ten times a second.
    pub fn observe_event_loop_delay(&self, delay: Duration) {
        self.event_loop_delay.observe(delay.as_secs_f64());
    }

    /// Records the query rate of every running route. Call it once a second.
    pub fn observe_query_rates(&self) {
        self.collector.observe_query_rates();
    }

    /// Returns the exposition, the body of `GET /metrics`.
    ///
    /// # Errors
    /// If a family cannot be encoded: a defect.
    pub fn expose(&self) -> Result<Vec<u8>, Defect> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Returns 48 bits of a hash, which a gauge holds exactly.
#[allow(clippy::cast_precision_loss)]
fn hash_in_48_bits(hash: u64) -> f64 {
    ((hash >> 48 ^ hash) & 0xffff_ffff_ffff) as f64
}
