//! What is going on: the streams of load as they can be looked at while they run.

mod answer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::comparison::Difference;
use crate::course::Course;
use crate::incidents::Incidents;
use crate::launch::Traffic;
use crate::metrics::Labels;
use crate::plan::Target;
use crate::recent::Recent;
use crate::tally::Tally;
pub use answer::{RateNow, Status};

/// What the daemon has to show; a reload changes it.
#[derive(Debug, Default)]
pub struct Board {
    streams: Mutex<Vec<Arc<Stream>>>,
    config: Mutex<String>,
    refused: Mutex<Option<String>>,
}

impl Board {
    /// From now on these streams and this configuration, its secrets masked.
    pub fn show(&self, streams: Vec<Arc<Stream>>, config: String) {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = streams;
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
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration, its secrets masked.
    pub fn config(&self) -> String {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream of load, as it can be looked at while it runs.
#[derive(Debug)]
pub struct Stream {
    /// `scenarios.NAME`.
    pub scenario: String,
    /// `targets.NAME`.
    pub target: String,
    /// The model, once it is known.
    pub model: OnceLock<String>,
    /// The books, and what is in flight.
    pub traffic: Arc<Traffic>,
    /// Where the schedule stands.
    pub course: Arc<Course>,
    /// What failed last.
    pub incidents: Arc<Incidents>,
    /// What requests took in the last minutes.
    pub recent: Arc<Recent>,
    /// All figures of a run that ends; the daemon, which does not, keeps none.
    pub tally: Option<Arc<Tally>>,
    /// How it differs from the first target of its scenario; nothing for that one itself.
    pub difference: Arc<Difference>,
    /// What a reload may change.
    terms: Mutex<Terms>,
}

/// What a reload may change about a stream of load.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
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

impl Stream {
    /// A stream of load whose books are empty.
    pub fn new(
        scenario: &str,
        target: &str,
        course: Arc<Course>,
        terms: Terms,
        tally: Option<Arc<Tally>>,
    ) -> Stream {
        Stream {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            model: OnceLock::new(),
            traffic: Arc::default(),
            course,
            incidents: Arc::new(Incidents::new(scenario, target)),
            recent: Arc::default(),
            tally,
            difference: Arc::default(),
            terms: Mutex::new(terms),
        }
    }

    /// What a reload may change.
    pub fn terms(&self) -> Terms {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these.
    pub fn change(&self, terms: Terms) {
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// The labels of its series, once the model is known.
    pub fn labels(&self) -> Option<Labels> {
        let (target, scenario) = (self.target.clone(), self.scenario.clone());
        Some(Labels { target, model: self.model.get()?.clone(), scenario })
    }
}
