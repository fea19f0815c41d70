//! The families that are read at the scrape: the ledger of each stream, all of it from one copy of
//! its books, and where its schedule stands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use super::page::{self, Page};
use super::route::Families;
use super::table::{self, Family};
use super::{Labels, RouteSettings, unix_seconds};
use crate::ledger::Ledger;
use crate::pairing::{PairedComparison, PairedSnapshot};
use crate::schedule_state::ScheduleState;

/// What the rate of queries is taken over.
const WINDOW: Duration = Duration::from_secs(10);

/// One collector for all of them, so that a scrape gets them together.
#[derive(Clone, Debug)]
pub(super) struct Scraped {
    descriptions: Arc<[Desc]>,
    bound: Arc<Mutex<Vec<Bound>>>,
}

#[derive(Debug)]
struct Bound {
    labels: Labels,
    ledger: Arc<Ledger>,
    schedule_state: Arc<ScheduleState>,
    settings: RouteSettings,
    against: Option<Against>,
    /// Successes so far, second by second, back to the start of the window.
    successes: VecDeque<(Instant, u64)>,
}

/// The first target of the scenario, and how this one differs from it.
pub(super) type Against = (String, Arc<PairedComparison>);

const FAMILIES: [&Family; 20] = [
    &table::ARRIVALS,
    &table::ARRIVALS_DROPPED,
    &table::REQUESTS_STARTED,
    &table::REQUESTS,
    &table::REQUEST_FAILURES,
    &table::REQUESTS_ABORTED,
    &table::REQUESTS_IN_FLIGHT,
    &table::REQUESTS_IN_FLIGHT_LIMIT,
    &table::SCHEDULE_TARGET_REQUESTS_PER_SECOND,
    &table::SCHEDULE_TARGET_CONCURRENCY,
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

impl Scraped {
    pub(super) fn new() -> prometheus::Result<Scraped> {
        Ok(Scraped { descriptions: page::describe(&FAMILIES)?, bound: Arc::default() })
    }

    /// Binds books and facts to labels; the facts that were bound to them before.
    pub(super) fn add(
        &self,
        labels: Labels,
        ledger: Arc<Ledger>,
        schedule_state: Arc<ScheduleState>,
        settings: RouteSettings,
    ) -> Option<RouteSettings> {
        let mut all = self.lock();
        let Some(bound) = all.iter_mut().find(|bound| bound.labels == labels) else {
            let successes = VecDeque::new();
            all.push(Bound { labels, ledger, schedule_state, settings, against: None, successes });
            return None;
        };
        if !Arc::ptr_eq(&bound.ledger, &ledger) {
            bound.successes.clear();
        }
        (bound.ledger, bound.schedule_state) = (ledger, schedule_state);
        Some(std::mem::replace(&mut bound.settings, settings))
    }

    /// From now on a stream is held against this, or against nothing.
    pub(super) fn hold(&self, labels: &Labels, against: Option<Against>) {
        if let Some(bound) = self.lock().iter_mut().find(|bound| bound.labels == *labels) {
            bound.against = against;
        }
    }

    /// Ends the binding of these books; its facts, if it was there.
    pub(super) fn remove(&self, labels: &Labels, ledger: &Arc<Ledger>) -> Option<RouteSettings> {
        let mut all = self.lock();
        let bound = |bound: &Bound| bound.labels == *labels && Arc::ptr_eq(&bound.ledger, ledger);
        let position = all.iter().position(bound)?;
        Some(all.remove(position).settings)
    }

    /// Once a second: the rate of what succeeded in the last ten.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn observe_rates(&self, families: &Families) {
        for stream in self.lock().iter_mut() {
            if !stream.schedule_state.is_running() {
                stream.successes.clear();
                continue;
            }
            let now = Instant::now();
            let succeeded = stream.ledger.counts().succeeded;
            stream.successes.push_back((now, succeeded));
            // The last second that lies a whole window back: seconds may have been missed.
            let whole = stream.successes.partition_point(|(then, _)| *then + WINDOW <= now);
            stream.successes.drain(..whole.saturating_sub(1));
            if whole > 0
                && let Some((then, before)) = stream.successes.front()
            {
                let span = now.saturating_duration_since(*then).as_secs_f64();
                families.observe_rate(&stream.labels, (succeeded - before) as f64 / span);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Scraped {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut page = Page::of(&FAMILIES);
        let mut scenarios = Vec::new();
        let now = Instant::now();
        // The last that was bound speaks for its scenario: those before it only drain.
        for stream in self.lock().iter().rev() {
            let labels = stream.labels.values();
            let [target, model, scenario] = labels;
            let counts = stream.ledger.counts();
            page.add(&table::ARRIVALS, &labels, counts.arrivals as f64);
            for (reason, count) in counts.dropped() {
                let labels = [target, model, scenario, reason.as_str()];
                page.add(&table::ARRIVALS_DROPPED, &labels, count as f64);
            }
            page.add(&table::REQUESTS_STARTED, &labels, counts.started as f64);
            page.add(&table::REQUESTS, &labels, counts.finished as f64);
            for (failure, count) in counts.failures() {
                let labels = [target, model, scenario, failure.as_str(), failure.blame().as_str()];
                page.add(&table::REQUEST_FAILURES, &labels, count as f64);
            }
            for (reason, count) in counts.aborted() {
                let labels = [target, model, scenario, reason.as_str()];
                page.add(&table::REQUESTS_ABORTED, &labels, count as f64);
            }
            page.add(&table::REQUESTS_IN_FLIGHT, &labels, counts.in_flight as f64);
            page.add(&table::REQUESTS_IN_FLIGHT_LIMIT, &labels, f64::from(stream.settings.limit));
            let position = stream.schedule_state.position(now);
            page.add(&table::SCHEDULE_TARGET_REQUESTS_PER_SECOND, &labels, position.rate);
            page.add(&table::SCHEDULE_TARGET_CONCURRENCY, &labels, f64::from(position.concurrency));
            if let Some(against) = &stream.against {
                differences(&mut page, labels, against);
            }
            if scenarios.contains(&scenario.to_owned()) {
                continue;
            }
            scenarios.push(scenario.to_owned());
            let by_hand = f64::from(u8::from(position.override_until.is_some()));
            page.add(&table::SCHEDULE_RATE_OVERRIDE_ACTIVE, &[scenario], by_hand);
            let skipped = stream.schedule_state.skipped_firings() as f64;
            page.add(&table::SCHEDULE_FIRINGS_SKIPPED, &[scenario], skipped);
            for phase in stream.schedule_state.phases(now) {
                let labels = [scenario, &phase.name];
                page.add(
                    &table::SCHEDULE_PHASE_ACTIVE,
                    &labels,
                    f64::from(u8::from(phase.is_active)),
                );
                if let Some(started) = phase.last_started {
                    page.add(
                        &table::SCHEDULE_PHASE_START_TIMESTAMP,
                        &labels,
                        unix_seconds(started),
                    );
                }
            }
        }
        page.families()
    }
}

/// All from one copy, so that means and margins are of the same pairs.
#[allow(clippy::cast_precision_loss)]
fn differences(
    page: &mut Page,
    [target, model, scenario]: [&str; 3],
    (baseline, difference): &Against,
) {
    let PairedSnapshot { first_token, duration } = difference.snapshot();
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
        page.add(count, &labels, sums.count as f64);
        for (direction, sum) in [("slower", sums.slower), ("faster", sums.faster)] {
            page.add(difference, &[target, model, scenario, baseline, direction], sum);
        }
        page.add(squares, &labels, sums.squares);
    }
}
