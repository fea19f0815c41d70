//! The scenarios at work, and the change from one plan to the next.
//!
//! Everything about a new plan that can be refused is tried first; what follows cannot fail. A
//! scenario that did not change is left alone; one that changed goes on with its books, its series
//! and its connections, unless another endpoint wants to be waited for; one that is gone drains, and
//! then its series go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::changes::{Changes, ScenarioChange};
use super::simulators::Simulators;
use super::{Error, GRACE, check_open_files};
use crate::control::CommandError;
use crate::endpoint::HttpEndpoint;
use crate::event::AbortReason;
use crate::launch::RouteState;
use crate::plan::{self, Location, Plan};
use crate::scenario::{RouteSpec, ScenarioContext, ScenarioHandle, ScenarioSpec, ScheduleCrashed};
use crate::schedule::Rate;
use crate::schedule_state::{Activity, ScheduleState};
use crate::status::{RouteInfo, RouteMonitor, StatusBoard};
use crate::timetable::Timetable;

/// All scenarios at work.
pub(super) struct Supervisor {
    context: ScenarioContext,
    board: Arc<StatusBoard>,
    scenarios: Vec<RunningScenario>,
    simulators: Simulators,
    /// What is in flight of streams that nothing is sent on any more.
    retiring: Vec<Arc<RouteState>>,
    /// The lives of the scenarios.
    pub(super) lives: JoinSet<Result<(), ScheduleCrashed>>,
}

/// What a rate that is set by hand stands in place of.
pub(super) struct Set {
    /// Whether another was set already.
    pub(super) was: bool,
    /// What would say that nothing is due now and then, in words.
    pub(super) ignores: Option<&'static str>,
}

struct RunningScenario {
    spec: ScenarioSpec,
    handle: ScenarioHandle,
}

impl Supervisor {
    pub(super) fn new(context: ScenarioContext, board: Arc<StatusBoard>) -> Supervisor {
        let (scenarios, retiring) = (Vec::new(), Vec::new());
        Supervisor {
            context,
            board,
            scenarios,
            simulators: Simulators::default(),
            retiring,
            lives: JoinSet::new(),
        }
    }

    /// How many scenarios there are.
    pub(super) fn len(&self) -> usize {
        self.scenarios.len()
    }

    /// Changes over to a plan; what became of each scenario.
    ///
    /// # Errors
    /// If something in it cannot be set up: nothing has changed then.
    pub(super) async fn change_to(&mut self, plan: Plan) -> Result<Changes, Error> {
        check_open_files(&plan)?;
        let changed = self.context.metrics.buckets().changed_histograms(&plan.buckets);
        if !changed.is_empty() {
            let names: Vec<_> = changed.iter().map(|name| format!("`{name}`")).collect();
            return Err(Error::Buckets(names.join(", ")));
        }
        let targets = plan.scenarios.iter().flat_map(plan::Scenario::targets).cloned().collect();
        let simulators = Simulators::of(targets, self.simulators.clone()).await?;
        let mut prepared = Vec::new();
        for scenario in plan.scenarios {
            prepared.push(self.prepare(scenario, plan.seed, &simulators)?);
        }
        // Everything that can be refused has been: from here on it changes.
        let metrics = Arc::clone(&self.context.metrics);
        let targets = self.targets();
        let (mut before, mut changes) = (std::mem::take(&mut self.scenarios), Changes::default());
        for next in prepared {
            next.routes
                .iter()
                .for_each(|route| metrics.target_known(&route.target.name, &route.info.address));
            let name = &next.scenario.name;
            let running = before.iter().position(|running| running.spec.scenario.name == *name);
            let running = running.map(|position| before.remove(position));
            let running = if let Some(running) = running {
                self.changed(running, next, &mut changes)
            } else {
                changes.note(name, ScenarioChange::Added);
                let schedule_state = next.schedule_state(self.context.shard);
                self.begin(next, &schedule_state)
            };
            self.scenarios.push(running);
        }
        for target in targets.difference(&self.targets()) {
            metrics.target_gone(target);
        }
        for gone in before {
            changes.note(&gone.spec.scenario.name, ScenarioChange::Removed);
            self.dismiss(gone);
        }
        self.simulators = simulators;
        let monitors = self
            .scenarios
            .iter()
            .flat_map(|running| running.handle.monitors.iter().cloned())
            .collect();
        self.board.show(monitors, plan.masked_source);
        metrics.config_loaded(plan.source_hash);
        Ok(changes)
    }

    /// Sets the rate of a scenario by hand.
    pub(super) fn set_rate(
        &self,
        scenario: &str,
        rate: Option<(Rate, Duration)>,
    ) -> Result<Set, CommandError> {
        let running = self.scenarios.iter().find(|running| running.spec.scenario.name == scenario);
        let Some(running) = running else {
            return Err(CommandError::Unknown(format!("there is no scenario `{scenario}`")));
        };
        let waits = || {
            CommandError::NotNow(format!(
                "scenario `{scenario}` waits for its target; try again once it runs"
            ))
        };
        let was = running.handle.set_rate(rate).ok_or_else(waits)?;
        Ok(Set { was, ignores: running.spec.routes.first().and_then(|route| route.info.hours) })
    }

    /// What the first scenario waits for whose schedule does not run yet, and its name.
    pub(super) fn waits_for(&self) -> Option<(String, String)> {
        let waiting = self.scenarios.iter().find(|running| !running.handle.is_live())?;
        let state = waiting.handle.monitors.first().map(|monitor| monitor.schedule_state.state());
        let words = match state {
            Some(Activity::Waiting(words)) => words,
            _ => "the target".to_owned(),
        };
        Some((waiting.spec.scenario.name.clone(), words))
    }

    /// All that may be in flight.
    pub(super) fn state(&self) -> Vec<Arc<RouteState>> {
        let monitors = self.scenarios.iter().flat_map(|running| &running.handle.monitors);
        let at_work = monitors.map(|monitor| Arc::clone(&monitor.state));
        at_work.chain(self.retiring.iter().cloned()).collect()
    }

    /// Until nothing is in flight any more, and nothing more can be.
    pub(super) async fn rests(&self) {
        for state in self.state() {
            state.tasks.close();
            state.tasks.wait().await;
        }
    }

    fn targets(&self) -> BTreeSet<String> {
        let routes = self.scenarios.iter().flat_map(|running| &running.spec.routes);
        routes.map(|route| route.target.name.clone()).collect()
    }

    /// The clients of a scenario, and what is shown of them. A client stays, and with it its
    /// connections, where the target is the same.
    fn prepare(
        &self,
        scenario: plan::Scenario,
        seed: u64,
        simulators: &Simulators,
    ) -> Result<ScenarioSpec, Error> {
        let running =
            self.scenarios.iter().find(|running| running.spec.scenario.name == scenario.name);
        let before = running.map_or(&[][..], |running| running.spec.routes.as_slice());
        let routes = scenario.targets().map(|target| {
            let (address, host) = simulators.reach(target)?;
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
            Ok(RouteSpec { target: Arc::clone(target), endpoint, info })
        });
        let routes = routes.collect::<Result<Vec<_>, Error>>()?;
        Ok(ScenarioSpec { scenario, seed, routes, tallied: self.context.run_options.is_some() })
    }

    fn begin(
        &mut self,
        spec: ScenarioSpec,
        schedule_state: &Arc<ScheduleState>,
    ) -> RunningScenario {
        let monitors = spec.monitors(schedule_state);
        let (handle, life) = ScenarioHandle::begin(spec.clone(), monitors, &self.context);
        self.lives.spawn(life);
        RunningScenario { spec, handle }
    }

    /// A scenario that was there before goes on, changed or not, or begins anew.
    fn changed(
        &mut self,
        mut running: RunningScenario,
        next: ScenarioSpec,
        changes: &mut Changes,
    ) -> RunningScenario {
        let (before, name) = (&running.spec, next.scenario.name.as_str());
        let info = |spec: &ScenarioSpec| {
            spec.routes.iter().map(|route| route.info.clone()).collect::<Vec<_>>()
        };
        if before.scenario == next.scenario
            && before.seed == next.seed
            && info(before) == info(&next)
        {
            changes.note(name, ScenarioChange::Unchanged);
            return running;
        }
        let monitors = next
            .routes
            .iter()
            .map(|route| goes_on(&running, &next, route))
            .collect::<Option<Vec<_>>>();
        let Some(monitors) = monitors.filter(|_| running.handle.is_live()) else {
            changes.note(name, ScenarioChange::Anew);
            self.dismiss(running);
            let schedule_state = next.schedule_state(self.context.shard);
            return self.begin(next, &schedule_state);
        };
        changes.note(name, ScenarioChange::Changed);
        let baseline = |monitors: &[Arc<RouteMonitor>]| monitors.first().map(Arc::as_ptr);
        if baseline(&monitors) != baseline(&running.handle.monitors) {
            for monitor in &monitors {
                monitor.difference.forget();
            }
        }
        let left = running.handle.monitors.clone();
        let left = left
            .into_iter()
            .filter(|old| !monitors.iter().any(|monitor| Arc::ptr_eq(monitor, old)));
        let left: Vec<_> = left.collect();
        running.handle.change(&running.spec, &next, monitors, &self.context);
        for monitor in left {
            self.retire(monitor, None);
        }
        RunningScenario { spec: next, handle: running.handle }
    }

    fn dismiss(&mut self, running: RunningScenario) {
        running.handle.stop();
        for monitor in running.handle.monitors {
            self.retire(monitor, Some(running.handle.ended.clone()));
        }
    }

    /// Once nothing is launched any more, what is in flight may end; then the series go.
    fn retire(&mut self, monitor: Arc<RouteMonitor>, launched: Option<CancellationToken>) {
        self.retiring.retain(|state| !(state.tasks.is_closed() && state.tasks.is_empty()));
        self.retiring.push(Arc::clone(&monitor.state));
        let metrics = Arc::clone(&self.context.metrics);
        tokio::spawn(async move {
            if let Some(launched) = launched {
                launched.cancelled().await;
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

/// The stream of load to a target of the next setting: the one there is, if it has the same name and
/// model, else another. None where the model would have to be learned.
fn goes_on(
    running: &RunningScenario,
    next: &ScenarioSpec,
    route: &RouteSpec,
) -> Option<Arc<RouteMonitor>> {
    let mut all = running.spec.routes.iter().zip(&running.handle.monitors);
    let old = all.find(|(old, _)| old.target.name == route.target.name);
    let Some((before, monitor)) = old else {
        let schedule_state = &running.handle.monitors.first()?.schedule_state;
        return route.target.model.is_some().then(|| next.monitor(route, schedule_state));
    };
    // A model that was learned is that of the same endpoint.
    let learned = monitor.model.get().filter(|_| before.info.address == route.info.address);
    let model = route.target.model.as_ref().or(learned)?;
    if monitor.model.get() == Some(model) {
        monitor.change(route.info.clone());
        Some(Arc::clone(monitor))
    } else {
        Some(next.monitor(route, &monitor.schedule_state))
    }
}
