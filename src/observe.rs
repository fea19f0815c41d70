//! The server's side of a run: reads the metrics pages of the server once per second, and keeps
//! their values by phase and over time for the report.
//!
//! The latency of a client shows that a server is slow. The pages show why: requests wait in the
//! queue, the KV cache is full, or the GPUs are idle. Only `llmload run` reads the pages. For a
//! daemon, Prometheus scrapes them.
//!
//! No arrival depends on a page. Each page is read by a separate task, which begins a read only
//! after the read before has ended.

mod catalog;
mod exposition;
mod series;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::endpoint::MetricsPage;
use crate::plan::MetricsSource;
use crate::schedule_state::ScheduleState;
pub use catalog::Quantity;
pub use exposition::{Page, PageReader, Reading};
pub use series::{Level, Levels, PhaseLevels, Series};

/// The time between the beginnings of two reads of a page.
const INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of one read. An overloaded server responds late, and then its values matter most.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The values of one metrics page during one scenario.
#[derive(Debug)]
pub struct ObservedPage {
    pub source: MetricsSource,
    /// The URL of the page, without user, password and query.
    pub address: String,
    state: Mutex<PageState>,
}

/// The reads of a metrics page.
#[derive(Clone, Debug)]
pub struct PageState {
    pub series: Series,
    /// The number of pages that were read and had a known metric.
    pub read: u64,
    /// The number of other reads.
    pub failed: u64,
    /// The reason of the last read that failed.
    pub last_failure: Option<String>,
}

impl ObservedPage {
    pub fn new(page: &MetricsPage) -> ObservedPage {
        let source = page.source();
        let state =
            PageState { series: Series::new(source), read: 0, failed: 0, last_failure: None };
        ObservedPage { source, address: page.address(), state: Mutex::new(state) }
    }

    /// Returns a copy of the current values.
    pub fn read(&self) -> PageState {
        self.lock().clone()
    }

    /// Records the result of a read. Returns the reason of the first failure.
    fn record(
        &self,
        at: Instant,
        result: Result<Page, String>,
        phase: Option<String>,
    ) -> Option<String> {
        let mut state = self.lock();
        let result = result.and_then(|page| {
            let message = format!("the page has no metric of {} that llmload knows", self.source);
            if page.is_empty() { Err(message) } else { Ok(page) }
        });
        match result {
            Ok(page) => {
                state.read += 1;
                state.series.record(at, page, phase);
                None
            }
            Err(message) => {
                state.failed += 1;
                state.last_failure = Some(message.clone());
                (state.failed == 1).then_some(message)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, PageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a page once per second and records its values. The first failure is logged.
pub async fn watch(
    page: Arc<MetricsPage>,
    observed: Arc<ObservedPage>,
    schedule_state: Arc<ScheduleState>,
) -> Infallible {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let mut reader = PageReader::new(observed.source);
        let result = page.read(TIMEOUT, |bytes| reader.push(bytes)).await;
        let at = Instant::now();
        let result = result.map(|()| reader.finish()).map_err(|detail| detail.message);
        let phase = schedule_state.position(at).phase;
        if let Some(failure) = observed.record(at, result, phase) {
            tracing::warn!(
                "the metrics of {} at {} are missing: {failure}; the load continues",
                observed.source,
                observed.address
            );
        }
    }
}
