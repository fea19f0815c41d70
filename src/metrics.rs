//! What Prometheus sees. The one home of the crate `prometheus`.
//!
//! Families are made from [`table`] on a registry of our own. The handles of a stream of load are
//! bound when it is bound ([`Metrics::bind`]), every label combination at 0, so that no label is
//! looked up while requests run and no first increment is missed by `rate()`.

mod generator;
mod limits;
mod objectives;
mod page;
mod route;
mod scraped;
pub mod table;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec,
    Opts, Registry, TextEncoder,
};

use crate::buckets::Buckets;
use crate::generator::Generator;
use crate::ledger::Ledger;
use crate::pairing::PairedDifference;
use crate::plan::Prices;
use crate::schedule::{Arrivals, Shard};
use crate::schedule_state::ScheduleState;
use crate::slo::Slo;
use generator::GeneratorCollector;
pub use route::RouteMetrics;
use scraped::Scraped;
use table::Family;

/// The content type of [`Metrics::expose`]; Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The version of a target whose server has not told it.
const UNKNOWN: &str = "unknown";

/// The labels L that name a stream of load. All of them come from the configuration, or, for a
/// model that it leaves out, once from the target's list of models.
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

/// Families that clash or cannot be written: a defect of the table, not of anything a user did.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Defect(#[from] prometheus::Error);

/// What only a reload changes about a stream of load.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSettings {
    /// How arrivals are spread about the rate.
    pub arrivals: Arrivals,
    /// Whether the target is the built-in simulator.
    pub simulated: bool,
    /// The most requests in flight.
    pub limit: u32,
    /// What the target's tokens cost; where nothing is known, nothing is counted.
    pub prices: Option<Prices>,
    /// What its requests must meet, where the file says so.
    pub slo: Option<Arc<Slo>>,
}

impl RouteSettings {
    /// The last labels of `llmload_scenario_info`.
    fn values(&self) -> [&'static str; 2] {
        let arrivals = match self.arrivals {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
            Arrivals::Burstiness(_) => "gamma",
        };
        [arrivals, if self.simulated { "true" } else { "false" }]
    }
}

/// A target, as far as its series go.
#[derive(Debug)]
struct Known {
    address: String,
    /// What `llmload_target_info` says.
    version: String,
}

/// All metric families.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    buckets: Buckets,
    scraped: Scraped,
    /// Held while series of a stream begin or end.
    binding: Mutex<()>,
    routes: route::Families,
    generator: Arc<Generator>,
    event_loop_delay: Histogram,
    scenario_info: GaugeVec,
    target_ready: GaugeVec,
    target_info: GaugeVec,
    /// What is sent to, by name. Others have no series.
    targets: Mutex<HashMap<String, Known>>,
    config_successful: GaugeVec,
    config_timestamp: GaugeVec,
    config_hash: GaugeVec,
    paused: GaugeVec,
    shard_info: GaugeVec,
}

impl Metrics {
    /// All families, with what is known at the start; `generator` is told what is sent late. The
    /// buckets are for good: a histogram cannot be counted anew.
    ///
    /// # Errors
    /// If two families in the table clash: a defect.
    pub fn new(generator: Arc<Generator>, buckets: Buckets) -> Result<Metrics, Defect> {
        let registry = Registry::new();
        let scraped = Scraped::new()?;
        registry.register(Box::new(scraped.clone()))?;
        registry.register(Box::new(GeneratorCollector::of(Arc::clone(&generator))?))?;
        let build = gauge(&registry, &table::BUILD_INFO)?;
        let revision = env!("LLMLOAD_REVISION");
        let rustc = env!("LLMLOAD_RUSTC_VERSION");
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, rustc]).set(1.0);
        let none: &[&str] = &[];
        Ok(Metrics {
            binding: Mutex::default(),
            routes: route::Families::new(&registry, &buckets)?,
            generator,
            event_loop_delay: histogram(&registry, &table::EVENT_LOOP_DELAY, &buckets)?
                .with_label_values(none),
            scenario_info: gauge(&registry, &table::SCENARIO_INFO)?,
            target_ready: gauge(&registry, &table::TARGET_READY)?,
            target_info: gauge(&registry, &table::TARGET_INFO)?,
            targets: Mutex::default(),
            config_successful: gauge(&registry, &table::CONFIG_LAST_RELOAD_SUCCESSFUL)?,
            config_timestamp: gauge(&registry, &table::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP)?,
            config_hash: gauge(&registry, &table::CONFIG_HASH)?,
            paused: gauge(&registry, &table::PAUSED)?,
            shard_info: gauge(&registry, &table::SHARD_INFO)?,
            registry,
            buckets,
            scraped,
        })
    }

    /// Where the buckets of its histograms lie.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Makes the series of a stream of load, all at 0, and its handles. Where they are there already
    /// they go on, with the books and facts that are given now.
    pub fn bind(
        &self,
        labels: &Labels,
        ledger: Arc<Ledger>,
        schedule_state: Arc<ScheduleState>,
        settings: RouteSettings,
    ) -> RouteMetrics {
        // What ends is not to take along what begins.
        let _alone = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        let [target, model, scenario] = labels.values();
        let info = |settings: &RouteSettings| {
            let [arrivals, simulated] = settings.values();
            [target, model, scenario, arrivals, simulated]
        };
        let (prices, slo, after) = (settings.prices.clone(), settings.slo.clone(), info(&settings));
        if let Some(before) = self.scraped.add(labels.clone(), ledger, schedule_state, settings) {
            // It may not have been there.
            let _gone = self.scenario_info.remove_label_values(&info(&before));
            let currency =
                |prices: &Option<Prices>| prices.as_ref().map(|prices| prices.currency.clone());
            if currency(&before.prices) != currency(&prices) {
                self.routes.unprice(labels, before.prices.as_ref());
            }
            self.routes.unobject(labels, before.slo.as_deref(), slo.as_deref());
        }
        self.scenario_info.with_label_values(&after).set(1.0);
        self.routes.bind(labels, self.readiness(target), (prices, slo), Arc::clone(&self.generator))
    }

    /// From now on a stream of load that is bound is held against another target of its scenario, which
    /// is named, or against none.
    pub fn compare(&self, labels: &Labels, against: Option<(String, Arc<PairedDifference>)>) {
        self.scraped.hold(labels, against);
    }

    /// Ends the series of a stream of load, unless others than these books are bound to them by now.
    pub fn unbind(&self, labels: &Labels, ledger: &Arc<Ledger>) {
        let _alone = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(settings) = self.scraped.remove(labels, ledger) {
            let [target, model, scenario] = labels.values();
            let [arrivals, simulated] = settings.values();
            let info = [target, model, scenario, arrivals, simulated];
            let _gone = self.scenario_info.remove_label_values(&info);
            self.routes.unbind(labels);
            self.routes.unprice(labels, settings.prices.as_ref());
            self.routes.unobject(labels, settings.slo.as_deref(), None);
        }
    }

    /// Makes the series of a target, which has not answered yet. At another address it is another
    /// server, of which nothing is known either.
    pub fn target_known(&self, target: &str, address: &str) {
        let mut targets = self.targets();
        match targets.get(target) {
            Some(known) if known.address == address => return,
            Some(known) => _ = self.target_info.remove_label_values(&[target, &known.version]),
            None => {}
        }
        self.target_ready.with_label_values(&[target]).set(0.0);
        self.target_info.with_label_values(&[target, UNKNOWN]).set(1.0);
        let known = Known { address: address.to_owned(), version: UNKNOWN.to_owned() };
        targets.insert(target.to_owned(), known);
    }

    /// The server at this address has answered below 500; nothing, where the target is gone or
    /// elsewhere by now.
    pub fn target_answered(&self, target: &str, address: &str) {
        if self.targets().get(target).is_some_and(|known| known.address == address) {
            self.target_ready.with_label_values(&[target]).set(1.0);
        }
    }

    /// The server at this address says that it is of this version; nothing, where the target is gone or
    /// elsewhere by now.
    pub fn target_version(&self, target: &str, address: &str, version: &str) {
        if let Some(known) = self.targets().get_mut(target)
            && known.address == address
            && known.version != version
        {
            let _gone = self.target_info.remove_label_values(&[target, &known.version]);
            self.target_info.with_label_values(&[target, version]).set(1.0);
            version.clone_into(&mut known.version);
        }
    }

    /// Ends the series of a target that nothing is sent to any more.
    pub fn target_gone(&self, target: &str) {
        let mut targets = self.targets();
        if let Some(known) = targets.remove(target) {
            let _gone = self.target_ready.remove_label_values(&[target]);
            let _gone = self.target_info.remove_label_values(&[target, &known.version]);
        }
    }

    /// The handle by which a stream of load tells whether its target is ready. Where that is gone by
    /// now, what it tells goes nowhere.
    fn readiness(&self, target: &str) -> Gauge {
        let targets = self.targets();
        let gauge = self.target_ready.with_label_values(&[target]);
        if !targets.contains_key(target) {
            let _gone = self.target_ready.remove_label_values(&[target]);
        }
        gauge
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A warm-up request has ended.
    pub fn warmed_up(&self, labels: &Labels) {
        self.routes.warmed_up(labels);
    }

    /// Whether the load is paused.
    pub fn paused(&self, paused: bool) {
        let none: &[&str] = &[];
        self.paused.with_label_values(none).set(f64::from(u8::from(paused)));
    }

    /// Which of how many shards this is.
    pub fn shard(&self, shard: Shard) {
        let (index, count) = (shard.index().to_string(), shard.count().to_string());
        self.shard_info.with_label_values(&[index.as_str(), &count]).set(1.0);
    }

    /// A configuration could not be loaded; the one before goes on.
    pub fn config_refused(&self) {
        let none: &[&str] = &[];
        self.config_successful.with_label_values(none).set(0.0);
    }

    /// A configuration of this hash was loaded now.
    pub fn config_loaded(&self, hash: u64) {
        let none: &[&str] = &[];
        self.config_successful.with_label_values(none).set(1.0);
        self.config_timestamp.with_label_values(none).set(unix_seconds(SystemTime::now()));
        self.config_hash.with_label_values(none).set(folded(hash));
    }

    /// The event loop was so late at an instant at which it was looked at.
    pub fn event_loop_delayed(&self, delay: Duration) {
        self.event_loop_delay.observe(delay.as_secs_f64());
    }

    /// Feeds what is observed once a second. Call it once a second.
    pub fn second_passed(&self) {
        self.scraped.observe_rates(&self.routes);
    }

    /// The exposition, as `GET /metrics` answers it.
    ///
    /// # Errors
    /// If a family cannot be written: a defect.
    pub fn expose(&self) -> Result<Vec<u8>, Defect> {
        let mut text = Vec::with_capacity(64 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A hash in 48 bits: a gauge holds them exactly.
#[allow(clippy::cast_precision_loss)]
fn folded(hash: u64) -> f64 {
    ((hash >> 48 ^ hash) & 0xffff_ffff_ffff) as f64
}

fn opts(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn gauge(registry: &Registry, family: &Family) -> prometheus::Result<GaugeVec> {
    registered(registry, GaugeVec::new(opts(family), family.labels)?)
}

fn counter(registry: &Registry, family: &Family) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(opts(family), family.labels)?)
}

/// A counter of something that comes in fractions.
fn amounts(registry: &Registry, family: &Family) -> prometheus::Result<CounterVec> {
    registered(registry, CounterVec::new(opts(family), family.labels)?)
}

fn histogram(
    registry: &Registry,
    family: &Family,
    buckets: &Buckets,
) -> prometheus::Result<HistogramVec> {
    let bounds = buckets.bounds(family.short_name()).to_vec();
    let options = HistogramOpts::from(opts(family)).buckets(bounds);
    registered(registry, HistogramVec::new(options, family.labels)?)
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_gone_or_elsewhere_has_no_say_any_more() {
        let metrics = Metrics::new(Generator::new(), Buckets::default()).unwrap();
        let shown = || {
            let text = String::from_utf8(metrics.expose().unwrap()).unwrap();
            let lines = text.lines().filter(|line| line.starts_with("llmload_target_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let both = |version: &str, ready: u8| {
            [
                format!("llmload_target_info{{target=\"t\",version=\"{version}\"}} 1"),
                format!("llmload_target_ready{{target=\"t\"}} {ready}"),
            ]
        };
        metrics.target_known("t", "http://a/v1");
        metrics.target_answered("t", "http://a/v1");
        metrics.target_version("t", "http://a/v1", "1.0");
        assert_eq!(shown(), both("1.0", 1));
        metrics.target_known("t", "http://a/v1");
        assert_eq!(shown(), both("1.0", 1));
        metrics.target_known("t", "http://b/v1");
        assert_eq!(shown(), both("unknown", 0));
        // A question that was on its way.
        metrics.target_answered("t", "http://a/v1");
        metrics.target_version("t", "http://a/v1", "1.0");
        assert_eq!(shown(), both("unknown", 0));
        metrics.target_gone("t");
        metrics.target_answered("t", "http://b/v1");
        metrics.target_version("t", "http://b/v1", "2.0");
        metrics.readiness("t").set(1.0);
        assert_eq!(shown(), [""; 0]);
    }
}
