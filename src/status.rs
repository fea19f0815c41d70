//! The current status of the daemon: its routes and its configuration, for the status page, the API
//! and the progress line.

mod document;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::incidents::Incidents;
use crate::launch::RouteState;
use crate::metrics::Labels;
use crate::pairing::PairedComparison;
use crate::plan::Target;
use crate::recent::Recent;
use crate::schedule_state::ScheduleState;
use crate::tally::Tally;
pub use document::{CurrentRate, Status};

/// The routes and the configuration that are in effect. A reload replaces them.
#[derive(Debug, Default)]
pub struct StatusBoard {
    monitors: Mutex<Vec<Arc<RouteMonitor>>>,
    masked_config: Mutex<String>,
    reload_error: Mutex<Option<String>>,
}

impl StatusBoard {
    /// Publishes the routes of a configuration and its text, in which secrets are masked. Forgets
    /// the last reload error.
    pub fn publish(&self, monitors: Vec<Arc<RouteMonitor>>, masked_config: String) {
        *lock(&self.monitors) = monitors;
        *lock(&self.masked_config) = masked_config;
        *lock(&self.reload_error) = None;
    }

    /// Reports that a reload was rejected. The previous configuration stays in effect.
    pub fn set_reload_error(&self, reasons: String) {
        *lock(&self.reload_error) = Some(reasons);
    }

    /// Returns the reasons if the last reload was rejected.
    pub fn reload_error(&self) -> Option<String> {
        lock(&self.reload_error).clone()
    }

    /// Returns the routes, in the order of the configuration.
    pub fn monitors(&self) -> Vec<Arc<RouteMonitor>> {
        lock(&self.monitors).clone()
    }

    /// Returns the text of the configuration, in which secrets are masked.
    pub fn masked_config(&self) -> String {
        lock(&self.masked_config).clone()
    }
}

/// Everything that can be observed of one route while it runs.
#[derive(Debug)]
pub struct RouteMonitor {
    /// `scenarios.NAME`.
    pub scenario: String,
    /// `targets.NAME`.
    pub target: String,
    /// The model, as soon as it is known.
    pub model: OnceLock<String>,
    /// The ledger and the requests in flight.
    pub state: Arc<RouteState>,
    /// The state of the scenario's schedule.
    pub schedule_state: Arc<ScheduleState>,
    /// The last failures.
    pub incidents: Arc<Incidents>,
    /// TTFT and speed of the last minutes.
    pub recent: Arc<Recent>,
    /// All figures of a `run`, for its report. The daemon has none: they would grow.
    pub tally: Option<Arc<Tally>>,
    /// The difference from the first target of the scenario; empty for that target itself.
    pub difference: Arc<PairedComparison>,
    info: Mutex<RouteInfo>,
}

/// The configuration of a route, as far as its status shows it. A reload may change it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteInfo {
    /// The target as configured, from which the remedies for its failures follow.
    pub configured: Arc<Target>,
    /// The base URL.
    pub address: String,
    /// True if the target is the built-in simulator.
    pub simulated: bool,
    /// The highest number of requests in flight.
    pub max_concurrency: u32,
    /// The configured times without load (`its cron`, `its active windows`), which a manual rate
    /// override ignores.
    pub hours: Option<&'static str>,
}

impl RouteMonitor {
    /// Returns the monitor of a route with an empty ledger.
    pub fn new(
        scenario: &str,
        target: &str,
        schedule_state: Arc<ScheduleState>,
        info: RouteInfo,
        tally: Option<Arc<Tally>>,
    ) -> RouteMonitor {
        RouteMonitor {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            model: OnceLock::new(),
            state: Arc::default(),
            schedule_state,
            incidents: Arc::new(Incidents::new(scenario, target)),
            recent: Arc::default(),
            tally,
            difference: Arc::default(),
            info: Mutex::new(info),
        }
    }

    /// Returns the current configuration.
    pub fn info(&self) -> RouteInfo {
        lock(&self.info).clone()
    }

    /// Replaces the configuration after a reload.
    pub fn set_info(&self, info: RouteInfo) {
        *lock(&self.info) = info;
    }

    /// Returns the labels of the route's series, or `None` before the model is known.
    pub fn labels(&self) -> Option<Labels> {
        let (target, scenario) = (self.target.clone(), self.scenario.clone());
        Some(Labels { target, model: self.model.get()?.clone(), scenario })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
