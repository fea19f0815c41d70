//! The running scenarios, and the change from one plan to the next.
//!
//! A [`Preparation`] first takes all steps that can fail. Then the supervisor applies the new plan,
//! which cannot fail, in this way:
//!
//! - An unchanged scenario continues without a change.
//! - A changed scenario keeps its ledgers (the counts of its arrivals), Prometheus series and
//!   connections. It restarts only if it must wait until a target is ready.
//! - A removed scenario drains: it sends nothing more, and its requests in flight can end. Then its
//!   series are removed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::changes::{Changes, ScenarioChange};
use super::preparation::{Preparation, PreparedChange};
use super::simulators::Simulators;
use super::transition::{RouteTransition, Transition};
use crate::control::CommandError;
use crate::event::AbortReason;
use crate::launch::RouteState;
use crate::scenario::{Completion, ScenarioContext, ScenarioError, ScenarioHandle, ScenarioSpec};
use crate::schedule_state::RateOverride;
use crate::status::{RouteMonitor, StatusBoard};

/// Owns all running scenarios.
pub(super) struct Supervisor {
    context: ScenarioContext,
    board: Arc<StatusBoard>,
    scenarios: Vec<RunningScenario>,
    simulators: Simulators,
    /// The routes (one scenario on one target each) that reloads removed. They may still have
    /// requests in flight.
    draining: Vec<Arc<RouteMonitor>>,
    /// The tasks of the scenarios.
    pub(super) tasks: JoinSet<Result<(), ScenarioError>>,
}

/// For each scenario of a plan, the signal that it has ended.
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

/// The effect of a manual rate override.
pub(super) struct RateChange {
    /// True if an override was set before.
    pub(super) had_override: bool,
    /// The text for the settings that the override ignores (cron, active windows), if the scenario
    /// has such settings.
    pub(super) ignored_setting: Option<&'static str>,
}

impl Supervisor {
    pub(super) fn new(context: ScenarioContext, board: Arc<StatusBoard>) -> Supervisor {
        Supervisor {
            context,
            board,
            scenarios: Vec::new(),
            simulators: Simulators::default(),
            draining: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Returns the number of scenarios.
    pub(super) fn len(&self) -> usize {
        self.scenarios.len()
    }

    /// Returns everything that the preparation of a change needs.
    pub(super) fn preparation(&self) -> Preparation {
        Preparation {
            metrics: Arc::clone(&self.context.metrics),
            has_tally: self.context.run_options.is_some(),
            running: self.scenarios.iter().map(|running| running.spec.clone()).collect(),
            monitors: self.monitors().cloned().collect(),
            draining: self.draining.clone(),
            simulators: self.simulators.clone(),
        }
    }

    /// Applies a change, which cannot fail. Returns the effect on each scenario.
    pub(super) fn apply(&mut self, change: PreparedChange) -> Changes {
        let changes = self.replace_scenarios(change.specs);
        self.simulators = change.simulators;
        let monitors = self.monitors().cloned().collect();
        self.board.publish(monitors, change.masked_source);
        self.context.metrics.config_loaded(change.source_hash);
        changes
    }

    /// Replaces the running scenarios by the scenarios of `specs`.
    fn replace_scenarios(&mut self, specs: Vec<ScenarioSpec>) -> Changes {
        let metrics = Arc::clone(&self.context.metrics);
        let (old_targets, mut changes) = (self.target_names(), Changes::default());
        let mut old = std::mem::take(&mut self.scenarios);
        // A scenario can wait for a scenario that is later in the file.
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

    /// Sets or clears the manual rate override of a scenario.
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

    /// Returns the state of all routes that may have requests in flight.
    pub(super) fn route_states(&self) -> Vec<Arc<RouteState>> {
        let monitors = self.monitors().chain(&self.draining);
        monitors.map(|monitor| Arc::clone(&monitor.state)).collect()
    }

    /// Returns a future that waits until no request is in flight. Call this only when no scenario
    /// can launch arrivals any more.
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

    /// Applies a new specification to a scenario whose schedule runs.
    fn change_in_place(
        &mut self,
        mut running: RunningScenario,
        after: ScenarioSpec,
        routes: Vec<RouteTransition>,
    ) -> RunningScenario {
        let old_monitors = running.handle.monitors.clone();
        let Some(old_baseline_monitor) = old_monitors.first() else { return running };
        // All monitors of a scenario share its schedule state.
        let schedule_state = &old_baseline_monitor.schedule_state;
        let monitors: Vec<_> = std::iter::zip(routes, &after.routes)
            .map(|(transition, route)| match transition {
                RouteTransition::Reuse(monitor) => {
                    monitor.set_info(route.info.clone());
                    monitor
                }
                RouteTransition::Create => after.new_monitor(route, schedule_state),
            })
            .collect();
        // If the baseline target has changed, the comparison starts again, because a sum of
        // differences from two baseline targets has no meaning.
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

    /// Stops a scenario. Its routes drain.
    fn stop(&mut self, running: RunningScenario) {
        running.handle.stop();
        for monitor in running.handle.monitors {
            self.drain_route(monitor, Some(running.handle.ended.clone()));
        }
    }

    /// Drains a route in the background, and then removes its series. If the scenario can still
    /// launch arrivals, the drain begins only when `launching_ended` is cancelled.
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
            let RouteState { ledger, tasks, cancellation } = &*monitor.state;
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
