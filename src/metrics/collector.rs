//! The metric families that are computed at scrape time, from the ledger of each route (one
//! scenario on one target) and from its schedule. All counts of a ledger are from one copy, so they
//! balance.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, IntCounter};
use tokio::time::Instant;

use super::samples::{self, Samples};
use super::series::SeriesSet;
use super::table::{self, Family};
use super::{Baseline, Labels, unix_seconds};
use crate::guard::Breaker;
use crate::ledger::{Ledger, SessionLedger};
use crate::pairing::PairedSnapshot;
use crate::schedule_state::{SchedulePosition, ScheduleState};

/// The time over which the query rate counts successes.
const WINDOW: Duration = Duration::from_secs(10);

/// The one collector of all routes, so a scrape reads them at the same instant.
#[derive(Clone, Debug)]
pub(super) struct RouteCollector {
    descriptions: Arc<[Desc]>,
    routes: Arc<Mutex<Vec<BoundRoute>>>,
}

/// An exposed route. Dropping it removes its series.
#[derive(Debug)]
pub(super) struct BoundRoute {
    pub(super) labels: Labels,
    pub(super) ledger: Arc<Ledger>,
    pub(super) schedule_state: Arc<ScheduleState>,
    /// The highest number of requests in flight.
    pub(super) limit: u32,
    pub(super) breaker: Option<Arc<Breaker>>,
    pub(super) baseline: Option<Baseline>,
    pub(super) sessions: Option<Arc<SessionLedger>>,
    pub(super) queries_per_second: Histogram,
    pub(super) warmup_requests: IntCounter,
    /// The number of successes up to each second of the window.
    pub(super) successes: VecDeque<(Instant, u64)>,
    /// Dropping this field removes the series of the route.
    pub(super) _series: SeriesSet,
}

const FAMILIES: [&Family; 28] = [
    &table::ARRIVALS,
    &table::ARRIVALS_DROPPED,
    &table::REQUESTS_STARTED,
    &table::REQUESTS,
    &table::REQUEST_FAILURES,
    &table::REQUESTS_ABORTED,
    &table::REQUESTS_IN_FLIGHT,
    &table::REQUESTS_IN_FLIGHT_LIMIT,
    &table::SESSIONS_STARTED,
    &table::SESSIONS_COMPLETED,
    &table::SESSIONS_ENDED_EARLY,
    &table::SESSIONS_IN_PROGRESS,
    &table::BREAKER_OPEN,
    &table::SCHEDULE_TARGET_REQUESTS_PER_SECOND,
    &table::SCHEDULE_TARGET_CONCURRENCY,
    &table::CAPACITY_REQUESTS_PER_SECOND,
    &table::CAPACITY_CONCURRENCY,
    &table::CAPACITY_SEARCH_TIMESTAMP,
    &table::SCHEDULE_PHASE_ACTIVE,
    &table::SCHEDULE_PHASE_START_TIMESTAMP,
    &table::SCHEDULE_RATE_OVERRIDE_ACTIVE,
    &table::SCHEDULE_FIRINGS_SKIPPED,
    &table::PAIRED_REQUESTS,
    &table::PAIRED_FIRST_TOKENS,
    &table::PAIRED_FIRST_TOKEN_DIFFERENCE,
    &table::PAIRED_FIRST_TOKEN_SQUARES,
    &table::PAIRED_DURATION_DIFFERENCE,
    &table::PAIRED_DURATION_SQUARES,
];

impl RouteCollector {
    pub(super) fn new() -> prometheus::Result<RouteCollector> {
        Ok(RouteCollector { descriptions: samples::describe(&FAMILIES)?, routes: Arc::default() })
    }

    /// Exposes a route. It replaces an earlier route with the same labels.
    pub(super) fn add(&self, mut route: BoundRoute) {
        let mut routes = self.lock();
        let Some(old) = routes.iter_mut().find(|old| old.labels == route.labels) else {
            routes.push(route);
            return;
        };
        if Arc::ptr_eq(&old.ledger, &route.ledger) {
            route.successes = std::mem::take(&mut old.successes);
        }
        *old = route;
    }

    /// Removes the route with these labels, if it has this ledger.
    pub(super) fn remove(&self, labels: &Labels, ledger: &Arc<Ledger>) {
        self.lock().retain(|route| route.labels != *labels || !Arc::ptr_eq(&route.ledger, ledger));
    }

    pub(super) fn warmup_request_ended(&self, labels: &Labels) {
        if let Some(route) = self.lock().iter().find(|route| route.labels == *labels) {
            route.warmup_requests.inc();
        }
    }

    pub(super) fn has_requests_in_flight(&self) -> bool {
        self.lock().iter().any(|route| route.ledger.counts().in_flight > 0)
    }

    pub(super) fn observe_query_rates(&self) {
        let now = Instant::now();
        for route in self.lock().iter_mut() {
            if let Some(rate) = route.query_rate(now) {
                route.queries_per_second.observe(rate);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BoundRoute>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoundRoute {
    /// Returns the successes per second over the last [`WINDOW`], or `None` if the schedule has run
    /// for less. Must be called each second.
    #[allow(clippy::cast_precision_loss)]
    fn query_rate(&mut self, now: Instant) -> Option<f64> {
        if !self.schedule_state.is_running() {
            self.successes.clear();
            return None;
        }
        let succeeded = self.ledger.counts().succeeded;
        self.successes.push_back((now, succeeded));
        // The window starts at the latest record that is at least `WINDOW` old. The record can be
        // older, because some seconds have none.
        let old = self.successes.partition_point(|(then, _)| *then + WINDOW <= now);
        if old == 0 {
            return None;
        }
        self.successes.drain(..old - 1);
        let (then, before) = self.successes.front()?;
        let elapsed = now.saturating_duration_since(*then).as_secs_f64();
        Some((succeeded - before) as f64 / elapsed)
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect_ledger(&self, samples: &mut Samples) {
        let labels = self.labels.values();
        let [target, model, scenario] = labels;
        let counts = self.ledger.counts();
        samples.add(&table::ARRIVALS, &labels, counts.arrivals as f64);
        for (reason, count) in counts.dropped() {
            let labels = [target, model, scenario, reason.as_str()];
            samples.add(&table::ARRIVALS_DROPPED, &labels, count as f64);
        }
        samples.add(&table::REQUESTS_STARTED, &labels, counts.started as f64);
        samples.add(&table::REQUESTS, &labels, counts.finished as f64);
        for (failure, count) in counts.failures() {
            let labels = [target, model, scenario, failure.as_str(), failure.blame().as_str()];
            samples.add(&table::REQUEST_FAILURES, &labels, count as f64);
        }
        for (reason, count) in counts.aborted() {
            let labels = [target, model, scenario, reason.as_str()];
            samples.add(&table::REQUESTS_ABORTED, &labels, count as f64);
        }
        samples.add(&table::REQUESTS_IN_FLIGHT, &labels, counts.in_flight as f64);
        samples.add(&table::REQUESTS_IN_FLIGHT_LIMIT, &labels, f64::from(self.limit));
    }

    /// Collects the counts of the sessions, which are from one copy.
    #[allow(clippy::cast_precision_loss)]
    fn collect_sessions(&self, samples: &mut Samples) {
        let Some(sessions) = &self.sessions else { return };
        let labels = self.labels.values();
        let [target, model, scenario] = labels;
        let counts = sessions.counts();
        samples.add(&table::SESSIONS_STARTED, &labels, counts.started as f64);
        samples.add(&table::SESSIONS_COMPLETED, &labels, counts.completed as f64);
        for (reason, count) in counts.ended_early() {
            let labels = [target, model, scenario, reason.as_str()];
            samples.add(&table::SESSIONS_ENDED_EARLY, &labels, count as f64);
        }
        samples.add(&table::SESSIONS_IN_PROGRESS, &labels, counts.in_progress as f64);
    }

    fn collect_breaker(&self, samples: &mut Samples, now: Instant) {
        let Some(breaker) = &self.breaker else { return };
        let is_open = f64::from(u8::from(breaker.open_for(now).is_some()));
        samples.add(&table::BREAKER_OPEN, &self.labels.values(), is_open);
    }

    fn collect_load(&self, samples: &mut Samples, position: &SchedulePosition) {
        let labels = self.labels.values();
        samples.add(&table::SCHEDULE_TARGET_REQUESTS_PER_SECOND, &labels, position.rate);
        let concurrency = f64::from(position.concurrency);
        samples.add(&table::SCHEDULE_TARGET_CONCURRENCY, &labels, concurrency);
        let Some((capacity, ended)) = self.schedule_state.searches.capacity() else { return };
        let per_second = capacity.requests_per_second;
        samples.add(&table::CAPACITY_REQUESTS_PER_SECOND, &labels, per_second);
        if let Some(concurrency) = capacity.concurrency {
            samples.add(&table::CAPACITY_CONCURRENCY, &labels, concurrency);
        }
        samples.add(&table::CAPACITY_SEARCH_TIMESTAMP, &labels, unix_seconds(ended));
    }

    /// Collects the families with one series for each scenario, not for each route.
    #[allow(clippy::cast_precision_loss)]
    fn collect_schedule(&self, samples: &mut Samples, position: &SchedulePosition, now: Instant) {
        let scenario = self.labels.scenario.as_str();
        let is_overridden = position.override_until.is_some();
        let overridden = f64::from(u8::from(is_overridden));
        samples.add(&table::SCHEDULE_RATE_OVERRIDE_ACTIVE, &[scenario], overridden);
        let skipped = self.schedule_state.skipped_firings() as f64;
        samples.add(&table::SCHEDULE_FIRINGS_SKIPPED, &[scenario], skipped);
        for phase in self.schedule_state.phases(now) {
            let labels = [scenario, &phase.name];
            let active = f64::from(u8::from(phase.is_active));
            samples.add(&table::SCHEDULE_PHASE_ACTIVE, &labels, active);
            if let Some(started) = phase.last_started.map(unix_seconds) {
                samples.add(&table::SCHEDULE_PHASE_START_TIMESTAMP, &labels, started);
            }
        }
    }

    /// Collects the differences from the baseline target. All sums are from one snapshot, so they
    /// contain the same pairs.
    #[allow(clippy::cast_precision_loss)]
    fn collect_differences(&self, samples: &mut Samples) {
        let Some(Baseline { target: baseline, difference }) = &self.baseline else { return };
        let [target, model, scenario] = self.labels.values();
        let PairedSnapshot { first_token, duration, .. } = difference.snapshot();
        let labels = [target, model, scenario, baseline];
        let families = [
            (
                first_token,
                &table::PAIRED_FIRST_TOKENS,
                &table::PAIRED_FIRST_TOKEN_DIFFERENCE,
                &table::PAIRED_FIRST_TOKEN_SQUARES,
            ),
            (
                duration,
                &table::PAIRED_REQUESTS,
                &table::PAIRED_DURATION_DIFFERENCE,
                &table::PAIRED_DURATION_SQUARES,
            ),
        ];
        for (sums, count, difference, squares) in families {
            samples.add(count, &labels, sums.count as f64);
            for (direction, sum) in [("slower", sums.slower), ("faster", sums.faster)] {
                samples.add(difference, &[target, model, scenario, baseline, direction], sum);
            }
            samples.add(squares, &labels, sums.squares);
        }
    }
}

impl Collector for RouteCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::new(&FAMILIES);
        let mut scenarios: Vec<&str> = Vec::new();
        let now = Instant::now();
        let routes = self.lock();
        // The newest route is first. An older route of the same scenario only drains, and has no
        // running schedule.
        for route in routes.iter().rev() {
            route.collect_ledger(&mut samples);
            route.collect_sessions(&mut samples);
            route.collect_breaker(&mut samples, now);
            // All values of a scrape are from one snapshot, so they agree.
            let position = route.schedule_state.position(now);
            route.collect_load(&mut samples, &position);
            route.collect_differences(&mut samples);
            if !scenarios.contains(&route.labels.scenario.as_str()) {
                scenarios.push(&route.labels.scenario);
                route.collect_schedule(&mut samples, &position, now);
            }
        }
        samples.into_families()
    }
}
