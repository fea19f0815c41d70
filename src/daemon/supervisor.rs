//! The running scenarios, and their change to a new plan.
//!
//! A [`Preparation`] takes all steps that can fail. Then [`Supervisor::apply`] changes each
//! scenario:
//!
//! * An unchanged scenario continues.
//! * A changed scenario keeps its ledgers (the counts of arrivals), series and connections. It
//!   starts again only if it must first wait for a target.
//! * A removed scenario drains, and then its series are removed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::changes::{Changes, ScenarioChange};
use super::preparation::{Preparation, PreparedChange};
use super::simulators::Simulators;
use super::transition::{RouteTransition, Transition};
use crate::archive::ArchiveSettings;
use crate::budget_state::BudgetState;
use crate::control::CommandError;
use crate::event::AbortReason;
use crate::guard::ScenarioBudgets;
use crate::launch::RouteState;
use crate::scenario::{Completion, ScenarioContext, ScenarioError, ScenarioHandle, ScenarioSpec};
use crate::schedule_state::RateOverride;
use crate::status::{RouteMonitor, StatusBoard};

pub(super) struct Supervisor {
    context: ScenarioContext,
    board: Arc<StatusBoard>,
    scenarios: Vec<RunningScenario>,
    simulators: Simulators,
    /// The saved budgets.
    budget_state: Option<Arc<BudgetState>>,
    /// Removed routes that can still have requests in flight. A route is one scenario on one
    /// target.
    draining: Vec<Arc<RouteMonitor>>,
    pub(super) tasks: JoinSet<Result<(), ScenarioError>>,
}

/// The completion of each scenario, by name. A scenario with `after` waits for one of them.
type Completions = HashMap<String, Completion>;

struct RunningScenario {
    spec: ScenarioSpec,
    handle: ScenarioHandle,
}

impl RunningScenario {
    fn name(&self) -> &str {
        &self.spec.scenario.name
    }
}

pub(super) struct RateChange {
    pub(super) had_override: bool,
    /// The settings that the override ignores, such as cron; `None` if the scenario has none.
    pub(super) ignored_setting: Option<&'static str>,
}

impl Supervisor {
    pub(super) fn new(context: ScenarioContext, board: Arc<StatusBoard>) -> Supervisor {
        Supervisor {
            context,
            board,
            scenarios: Vec::new(),
            simulators: Simulators::default(),
            budget_state: None,
            draining: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn budget_state(&self) -> Option<Arc<BudgetState>> {
        self.budget_state.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.scenarios.len()
    }

    /// Copies the parts that the preparation of a reload needs.
    pub(super) fn preparation(&self) -> Preparation {
        Preparation {
            metrics: Arc::clone(&self.context.metrics),
            has_tally: self.context.run_options.is_some(),
            running: self.scenarios.iter().map(|running| running.spec.clone()).collect(),
            monitors: self.monitors().cloned().collect(),
            draining: self.draining.clone(),
            simulators: self.simulators.clone(),
            accounts: Arc::clone(&self.context.accounts),
            budget_state: self.budget_state.clone(),
        }
    }

    pub(super) fn apply(&mut self, change: PreparedChange) -> Changes {
        // The caller of a run has configured its archive.
        if self.context.run_options.is_none() {
            self.context.metrics.machine.configure(change.resources);
            self.context.archive.configure(change.failures.as_ref().map(ArchiveSettings::rotating));
        }
        self.budget_state = change.budget_state;
        let budgets = change.specs.iter().map(|spec| ScenarioBudgets::new(&spec.scenario));
        self.context.accounts.configure(budgets, SystemTime::now(), Instant::now());
        let changes = self.replace_scenarios(change.specs);
        self.simulators = change.simulators;
        let monitors = self.monitors().cloned().collect();
        self.board.publish(monitors, change.masked_source);
        self.context.metrics.config_loaded(change.source_hash);
        changes
    }

    fn replace_scenarios(&mut self, specs: Vec<ScenarioSpec>) -> Changes {
        let metrics = Arc::clone(&self.context.metrics);
        let (old_targets, mut changes) = (self.target_names(), Changes::default());
        let mut old = std::mem::take(&mut self.scenarios);
        // Create all completions first: a scenario can wait for a scenario that is later in the
        // file.
        let completions: Completions = specs
            .iter()
            .map(|spec| {
                let name = spec.scenario.name.clone();
                let running = old.iter().find(|running| running.name() == name);
                (name, running.map(|running| running.handle.completion.clone()).unwrap_or_default())
            })
            .collect();
        for spec in specs {
            for route in &spec.routes {
                metrics.targets.add(&route.target.name, &route.info.address);
            }
            let name = spec.scenario.name.clone();
            let position = old.iter().position(|running| running.name() == name);
            let (running, change) = match position.map(|position| old.remove(position)) {
                Some(running) => self.change_scenario(running, spec, &completions),
                None => (self.start(spec, &completions), ScenarioChange::Added),
            };
            changes.record(&name, change);
            self.scenarios.push(running);
        }
        for target in old_targets.difference(&self.target_names()) {
            metrics.targets.remove(target);
        }
        for removed in old {
            changes.record(removed.name(), ScenarioChange::Removed);
            self.stop(removed);
        }
        changes
    }

    pub(super) fn set_rate(
        &self,
        scenario: &str,
        rate: RateOverride,
    ) -> Result<RateChange, CommandError> {
        let Some(running) = self.scenarios.iter().find(|running| running.name() == scenario) else {
            return Err(CommandError::NotFound(format!("there is no scenario `{scenario}`")));
        };
        let Some(had_override) = running.handle.set_rate(rate) else {
            return Err(CommandError::Unavailable(format!(
                "the schedule of scenario `{scenario}` has not started; try again when it runs"
            )));
        };
        let first = running.spec.routes.first();
        Ok(RateChange { had_override, ignored_setting: first.and_then(|route| route.info.hours) })
    }

    pub(super) fn route_states(&self) -> Vec<Arc<RouteState>> {
        let monitors = self.monitors().chain(&self.draining);
        monitors.map(|monitor| Arc::clone(&monitor.state)).collect()
    }

    /// Waits until no request is in flight. Call this after the last scenario has stopped sending.
    pub(super) fn wait_until_idle(&self) -> impl Future<Output = ()> + use<> {
        let states = self.route_states();
        async move {
            for state in states {
                state.tasks.close();
                state.tasks.wait().await;
            }
        }
    }

    fn monitors(&self) -> impl Iterator<Item = &Arc<RouteMonitor>> {
        self.scenarios.iter().flat_map(|running| &running.handle.monitors)
    }

    fn target_names(&self) -> BTreeSet<String> {
        let routes = self.scenarios.iter().flat_map(|running| &running.spec.routes);
        routes.map(|route| route.target.name.clone()).collect()
    }

    fn start(&mut self, spec: ScenarioSpec, completions: &Completions) -> RunningScenario {
        let schedule_state = spec.new_schedule_state(self.context.shard);
        let monitors = spec.new_monitors(&schedule_state);
        let completion = completions.get(&spec.scenario.name).cloned().unwrap_or_default();
        let predecessor =
            spec.scenario.after.as_ref().and_then(|after| completions.get(after)).cloned();
        let (handle, task) =
            ScenarioHandle::start(spec.clone(), monitors, &self.context, completion, predecessor);
        self.tasks.spawn(task);
        RunningScenario { spec, handle }
    }

    fn change_scenario(
        &mut self,
        running: RunningScenario,
        after: ScenarioSpec,
        completions: &Completions,
    ) -> (RunningScenario, ScenarioChange) {
        match Transition::decide(&running.spec, &running.handle, &after) {
            Transition::Keep => (running, ScenarioChange::Unchanged),
            Transition::Change(routes) => {
                (self.change_in_place(running, after, routes), ScenarioChange::Changed)
            }
            Transition::Restart => {
                self.stop(running);
                (self.start(after, completions), ScenarioChange::Restarted)
            }
        }
    }

    /// Changes a scenario whose schedule has started.
    fn change_in_place(
        &mut self,
        mut running: RunningScenario,
        after: ScenarioSpec,
        routes: Vec<RouteTransition>,
    ) -> RunningScenario {
        let old_monitors = running.handle.monitors.clone();
        let Some(old_baseline_monitor) = old_monitors.first() else { return running };
        // All routes of a scenario share one schedule state.
        let schedule_state = &old_baseline_monitor.schedule_state;
        let monitors: Vec<_> = std::iter::zip(routes, &after.routes)
            .map(|(transition, route)| match transition {
                RouteTransition::Reuse(monitor) => {
                    monitor.set_info(route.info.clone());
                    monitor
                }
                RouteTransition::Create => {
                    after.new_monitor(route, schedule_state, &old_baseline_monitor.steps)
                }
            })
            .collect();
        // Paired differences to the old baseline target and to the new one must not be added up.
        if monitors.first().map(Arc::as_ptr) != Some(Arc::as_ptr(old_baseline_monitor)) {
            for monitor in &monitors {
                monitor.difference.reset();
            }
        }
        running.handle.change(&running.spec, &after, monitors.clone(), &self.context);
        for old in old_monitors {
            if !monitors.iter().any(|monitor| Arc::ptr_eq(monitor, &old)) {
                self.drain_route(old, None);
            }
        }
        RunningScenario { spec: after, handle: running.handle }
    }

    fn stop(&mut self, running: RunningScenario) {
        running.handle.stop();
        for monitor in running.handle.monitors {
            self.drain_route(monitor, Some(running.handle.ended.clone()));
        }
    }

    /// Drains a route in the background, and then removes its series. If `launching_ended` is
    /// given, waits for it first.
    fn drain_route(
        &mut self,
        monitor: Arc<RouteMonitor>,
        launching_ended: Option<CancellationToken>,
    ) {
        self.draining.retain(|old| !(old.state.tasks.is_closed() && old.state.tasks.is_empty()));
        self.draining.push(Arc::clone(&monitor));
        let metrics = Arc::clone(&self.context.metrics);
        tokio::spawn(async move {
            if let Some(ended) = launching_ended {
                ended.cancelled().await;
            }
            let RouteState { ledger, tasks, cancellation, .. } = &*monitor.state;
            tasks.close();
            if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
                cancellation.cancel(AbortReason::Reload);
                tasks.wait().await;
            }
            if let Some(labels) = monitor.labels() {
                metrics.unbind(&labels, ledger);
            }
        });
    }
}
