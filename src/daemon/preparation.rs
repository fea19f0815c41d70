//! The first half of a reload, which can fail or take long: starts simulators and builds clients.
//! It runs on a separate thread. The supervisor then applies the result, which cannot fail.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::simulators::Simulators;
use super::{Error, open_files};
use crate::budget_state::{BudgetState, StateError};
use crate::check::warnings::little_memory;
use crate::endpoint::{HttpEndpoint, MetricsPage};
use crate::generator;
use crate::guard::{Accounts, RateLimiter, ScenarioBudgets};
use crate::metrics::Metrics;
use crate::plan::{self, FailureArchive, Location, Plan, Resources};
use crate::scenario::{RouteSpec, ScenarioSpec};
use crate::status::{RouteInfo, RouteMonitor};
use crate::timetable::Timetable;

/// A copy of the daemon's parts that the preparation reads. It cannot become outdated, because
/// llmload prepares one reload at a time and only a reload changes these parts.
pub(super) struct Preparation {
    pub(super) metrics: Arc<Metrics>,
    pub(super) has_tally: bool,
    pub(super) running: Vec<ScenarioSpec>,
    /// The monitors of the running routes. A route is one scenario on one target.
    pub(super) monitors: Vec<Arc<RouteMonitor>>,
    /// Removed routes that can still have requests in flight.
    pub(super) draining: Vec<Arc<RouteMonitor>>,
    pub(super) simulators: Simulators,
    pub(super) accounts: Arc<Accounts>,
    /// The saved budgets.
    pub(super) budget_state: Option<Arc<BudgetState>>,
}

type RateLimiters = HashMap<String, Arc<RateLimiter>>;

/// A reload that can no longer fail.
pub(super) struct PreparedChange {
    pub(super) specs: Vec<ScenarioSpec>,
    pub(super) simulators: Simulators,
    pub(super) budget_state: Option<Arc<BudgetState>>,
    pub(super) failures: Option<FailureArchive>,
    pub(super) resources: Resources,
    pub(super) warnings: Vec<String>,
    pub(super) masked_source: String,
    pub(super) source_hash: u64,
}

impl Preparation {
    /// # Errors
    /// Fails if a part of the plan cannot be set up. Then nothing has changed.
    pub(super) fn prepare(self, plan: Plan) -> Result<PreparedChange, Error> {
        self.check_buckets(&plan)?;
        if let Some(warning) = little_memory(&plan, generator::memory_limit()) {
            tracing::warn!("{warning}");
        }
        let needed_files = plan.open_files();
        let targets = plan.scenarios.iter().flat_map(plan::Scenario::targets);
        let simulators = Simulators::start(targets, &self.simulators)?;
        let limiters = self.rate_limiters(&plan);
        let specs = plan.scenarios.into_iter();
        let specs = specs
            .map(|scenario| self.prepare_scenario(scenario, plan.seed, &simulators, &limiters));
        let specs = specs.collect::<Result<Vec<_>, Error>>()?;
        let draining = open_files::draining(&self.monitors, &self.draining, &specs);
        open_files::check(needed_files, draining)?;
        let Plan { failures, resources, state_dir, warnings, masked_source, source_hash, .. } =
            plan;
        // The last step, because nothing takes it back.
        let budget_state = self.open_budget_state(&specs, state_dir.as_deref())?;
        Ok(PreparedChange {
            specs,
            simulators,
            budget_state,
            failures,
            resources,
            warnings,
            masked_source,
            source_hash,
        })
    }

    /// Opens the state file when the first budget needs it. It stays open until the process ends.
    fn open_budget_state(
        &self,
        specs: &[ScenarioSpec],
        folder: Option<&Path>,
    ) -> Result<Option<Arc<BudgetState>>, Error> {
        if specs.iter().all(|spec| spec.scenario.budgets.is_empty()) {
            return Ok(self.budget_state.clone());
        }
        let budgets: Vec<_> =
            specs.iter().map(|spec| ScenarioBudgets::new(&spec.scenario)).collect();
        let conflict = self.accounts.currency_conflict(&budgets, &[], SystemTime::now());
        conflict.map_or(Ok(()), |conflict| Err(StateError::Currency(conflict)))?;
        match (&self.budget_state, folder) {
            (None, None) => Ok(None),
            (Some(open), Some(folder)) if open.folder() == folder => Ok(Some(Arc::clone(open))),
            (Some(open), _) => Err(Error::StateDir(open.folder().display().to_string())),
            (None, Some(folder)) => Ok(Some(BudgetState::open(folder, &self.accounts, budgets)?)),
        }
    }

    fn check_buckets(&self, plan: &Plan) -> Result<(), Error> {
        let changed = self.metrics.buckets().changed_histograms(&plan.buckets);
        if changed.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = changed.iter().map(|name| format!("`{name}`")).collect();
        Err(Error::Buckets(names.join(", ")))
    }

    /// Returns the rate limiter of each target, by name. Unchanged limits keep their state, and so
    /// does each unchanged part of changed limits.
    fn rate_limiters(&self, plan: &Plan) -> RateLimiters {
        let mut limiters = RateLimiters::new();
        for target in plan.scenarios.iter().flat_map(plan::Scenario::targets) {
            let Some(limits) = target.rate_limits else { continue };
            limiters.entry(target.name.clone()).or_insert_with(|| {
                let routes = self.running.iter().flat_map(|spec| &spec.routes);
                let same = routes.filter(|route| route.target.name == target.name);
                let mut running = same.filter_map(|route| route.rate_limiter.as_ref());
                match running.next() {
                    Some(running) if running.limits() == limits => Arc::clone(running),
                    Some(running) => {
                        Arc::new(RateLimiter::replacing(running, limits, Instant::now()))
                    }
                    None => Arc::new(RateLimiter::new(limits, Instant::now())),
                }
            });
        }
        limiters
    }

    /// An unchanged target keeps its client, and so its connections.
    fn prepare_scenario(
        &self,
        scenario: plan::Scenario,
        seed: u64,
        simulators: &Simulators,
        limiters: &RateLimiters,
    ) -> Result<ScenarioSpec, Error> {
        let running = self.running.iter().find(|spec| spec.scenario.name == scenario.name);
        let before = running.map_or(&[][..], |spec| spec.routes.as_slice());
        let routes = scenario.targets().map(|target| {
            let (address, host) = simulators.resolve(target)?;
            let info = RouteInfo {
                configured: Arc::clone(target),
                address: address.to_string(),
                simulated: matches!(target.location, Location::Simulator(_)),
                max_concurrency: scenario.max_concurrency.get(),
                hours: Timetable::for_scenario(&scenario).idle_cause(),
            };
            let same = before
                .iter()
                .find(|route| route.target == *target && route.info.address == info.address);
            let endpoint = match same {
                Some(route) => Arc::clone(&route.endpoint),
                None => Arc::new(HttpEndpoint::new(target, &address)?.served_by(host)),
            };
            // Prometheus scrapes these pages for a daemon.
            let pages = target.metrics_pages.iter().filter(|_| self.has_tally);
            let pages = pages.map(|page| Ok(Arc::new(MetricsPage::new(target, page, &address)?)));
            let metrics_pages = pages.collect::<Result<_, Error>>()?;
            let (target, rate_limiter) = (Arc::clone(target), limiters.get(&target.name).cloned());
            Ok(RouteSpec { target, endpoint, rate_limiter, metrics_pages, info })
        });
        let routes = routes.collect::<Result<Vec<_>, Error>>()?;
        Ok(ScenarioSpec { scenario, seed, routes, has_tally: self.has_tally })
    }
}
