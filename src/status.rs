//! The status of the daemon: its configuration and its routes (one scenario on one target). The
//! status page, the API and the progress line of `run` read it.

mod budgets;
mod document;
mod sessions;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::incidents::Incidents;
use crate::launch::RouteState;
use crate::metrics::Labels;
use crate::observe::ObservedPage;
use crate::pairing::PairedComparison;
use crate::plan::Target;
use crate::recent::Recent;
use crate::schedule_state::ScheduleState;
use crate::tally::{StepMeter, Tally};
pub use document::{CurrentRate, Status};

/// The current routes and configuration. A reload replaces both.
#[derive(Debug, Default)]
pub struct StatusBoard {
    monitors: Mutex<Vec<Arc<RouteMonitor>>>,
    masked_config: Mutex<Bytes>,
    reload_error: Mutex<Option<String>>,
}

impl StatusBoard {
    /// Publishes new routes, and the text of their configuration with masked secrets. Clears the
    /// last reload error.
    pub fn publish(&self, monitors: Vec<Arc<RouteMonitor>>, masked_config: String) {
        *lock(&self.monitors) = monitors;
        *lock(&self.masked_config) = masked_config.into();
        *lock(&self.reload_error) = None;
    }

    /// Reports a rejected reload. The previous configuration stays in effect.
    pub fn set_reload_error(&self, reasons: String) {
        *lock(&self.reload_error) = Some(reasons);
    }

    /// Returns why the last reload was rejected, or `None` if it was accepted.
    pub fn reload_error(&self) -> Option<String> {
        lock(&self.reload_error).clone()
    }

    /// Returns the routes, in the order of the configuration.
    pub fn monitors(&self) -> Vec<Arc<RouteMonitor>> {
        lock(&self.monitors).clone()
    }

    /// Returns the text of the configuration with masked secrets, without a copy.
    pub fn masked_config(&self) -> Bytes {
        lock(&self.masked_config).clone()
    }
}

/// All that observers see of one route (one scenario on one target).
#[derive(Debug)]
pub struct RouteMonitor {
    /// `scenarios.NAME`.
    pub scenario: String,
    /// `targets.NAME`.
    pub target: String,
    /// Empty until the model is known.
    pub model: OnceLock<String>,
    /// The version that the server reported first. Only a run records it.
    pub server_version: OnceLock<String>,
    /// The ledger and the requests in flight.
    pub state: Arc<RouteState>,
    pub schedule_state: Arc<ScheduleState>,
    /// The last failure of each class.
    pub incidents: Arc<Incidents>,
    /// The TTFT and the decode speed of the last five minutes.
    pub recent: Arc<Recent>,
    /// The measured values for the report of a `run`. `None` in the daemon, because they grow
    /// without limit.
    pub tally: Option<Arc<Tally>>,
    /// The values of the metrics pages of the server. Empty in the daemon, which reads no page.
    pub observed: Vec<Arc<ObservedPage>>,
    /// Counts the requests of searches. All routes of a scenario share it.
    pub steps: Arc<StepMeter>,
    /// The difference from the baseline target. Empty for the baseline target itself.
    pub difference: Arc<PairedComparison>,
    info: Mutex<RouteInfo>,
}

/// The configuration of a route that the status shows. A reload can change it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteInfo {
    /// The remedies for failures depend on the configured target.
    pub configured: Arc<Target>,
    /// The base URL.
    pub address: String,
    pub simulated: bool,
    pub max_concurrency: u32,
    /// The keys that stop the load at some times: `its cron`, `its active windows` or both. A
    /// manual rate override ignores them.
    pub hours: Option<&'static str>,
}

impl RouteMonitor {
    pub fn new(
        scenario: &str,
        target: &str,
        schedule_state: Arc<ScheduleState>,
        info: RouteInfo,
        tally: Option<Arc<Tally>>,
        observed: Vec<Arc<ObservedPage>>,
        steps: Arc<StepMeter>,
    ) -> RouteMonitor {
        // Only the report of a run shows the difference by phase.
        let phases = if tally.is_some() { schedule_state.schedule().phases().len() } else { 0 };
        RouteMonitor {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            model: OnceLock::new(),
            server_version: OnceLock::new(),
            state: Arc::default(),
            schedule_state,
            incidents: Arc::new(Incidents::new(scenario, target)),
            recent: Arc::default(),
            tally,
            observed,
            steps,
            difference: Arc::new(PairedComparison::by_phase(phases)),
            info: Mutex::new(info),
        }
    }

    pub fn info(&self) -> RouteInfo {
        lock(&self.info).clone()
    }

    pub fn set_info(&self, info: RouteInfo) {
        *lock(&self.info) = info;
    }

    /// Returns `None` before the model is known.
    pub fn labels(&self) -> Option<Labels> {
        let (target, scenario) = (self.target.clone(), self.scenario.clone());
        Some(Labels { target, model: self.model.get()?.clone(), scenario })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
