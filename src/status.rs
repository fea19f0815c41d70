//! What is going on: the streams of load as they can be looked at while they run.

mod answer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::incidents::Incidents;
use crate::launch::RouteState;
use crate::metrics::Labels;
use crate::pairing::PairedComparison;
use crate::plan::Target;
use crate::recent::Recent;
use crate::schedule_state::ScheduleState;
use crate::tally::Tally;
pub use answer::{RateNow, Status};

/// What the daemon has to show; a reload changes it.
#[derive(Debug, Default)]
pub struct StatusBoard {
    monitors: Mutex<Vec<Arc<RouteMonitor>>>,
    config: Mutex<String>,
    refused: Mutex<Option<String>>,
}

impl StatusBoard {
    /// From now on these streams and this configuration, its secrets masked.
    pub fn show(&self, monitors: Vec<Arc<RouteMonitor>>, config: String) {
        *self.monitors.lock().unwrap_or_else(PoisonError::into_inner) = monitors;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What stands in the file was refused, for these reasons; what was shown before goes on.
    pub fn refuse(&self, why: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why the last reload changed nothing, if it was refused.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The streams of load.
    pub fn monitors(&self) -> Vec<Arc<RouteMonitor>> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration, its secrets masked.
    pub fn config(&self) -> String {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream of load, as it can be looked at while it runs.
#[derive(Debug)]
pub struct RouteMonitor {
    /// `scenarios.NAME`.
    pub scenario: String,
    /// `targets.NAME`.
    pub target: String,
    /// The model, once it is known.
    pub model: OnceLock<String>,
    /// The books, and what is in flight.
    pub state: Arc<RouteState>,
    /// Where the schedule stands.
    pub schedule_state: Arc<ScheduleState>,
    /// What failed last.
    pub incidents: Arc<Incidents>,
    /// What requests took in the last minutes.
    pub recent: Arc<Recent>,
    /// All figures of a run that ends; the daemon, which does not, keeps none.
    pub tally: Option<Arc<Tally>>,
    /// How it differs from the first target of its scenario; nothing for that one itself.
    pub difference: Arc<PairedComparison>,
    /// What a reload may change.
    info: Mutex<RouteInfo>,
}

/// What a reload may change about a stream of load.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteInfo {
    /// As it is configured: what mends its failures follows from it.
    pub configured: Arc<Target>,
    /// The base URL.
    pub address: String,
    /// Whether that is the built-in simulator.
    pub simulated: bool,
    /// `max_concurrency`.
    pub max_concurrency: u32,
    /// What says that nothing is due now and then, in words: a rate that is set by hand ignores it.
    pub hours: Option<&'static str>,
}

impl RouteMonitor {
    /// A stream of load whose books are empty.
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

    /// What a reload may change.
    pub fn info(&self) -> RouteInfo {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these.
    pub fn change(&self, info: RouteInfo) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }

    /// The labels of its series, once the model is known.
    pub fn labels(&self) -> Option<Labels> {
        let (target, scenario) = (self.target.clone(), self.scenario.clone());
        Some(Labels { target, model: self.model.get()?.clone(), scenario })
    }
}
