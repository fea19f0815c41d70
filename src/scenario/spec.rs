//! The specification of a scenario: its part of the plan, and the clients of its targets. Builds
//! its timetable, routes and monitors.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{HttpRoute, HttpRouteSet, RouteObserver, ScenarioContext};
use crate::archive::{RouteArchive, RouteFacts};
use crate::endpoint::{Endpoint as _, HttpEndpoint, MetricsPage};
use crate::guard::{Guard, RateLimiter, RouteBudgets};
use crate::launch::{PromptSource, ReadinessGate, RequestTemplate, Route, RouteSet};
use crate::metrics::{Baseline, Labels, RouteMetrics, RouteSettings};
use crate::observe::ObservedPage;
use crate::pairing::PairedComparison;
use crate::plan::{self, Target};
use crate::schedule::{ArrivalSpec, Repeat, Shard};
use crate::schedule_state::{PhaseWindows, ScheduleState};
use crate::status::{RouteInfo, RouteMonitor};
use crate::tally::{PhaseRule, StepMeter, Tally};
use crate::timetable::Timetable;

#[derive(Clone, Debug)]
pub struct ScenarioSpec {
    pub scenario: plan::Scenario,
    pub seed: u64,
    /// One route for each target of the scenario.
    pub routes: Vec<RouteSpec>,
    /// True if llmload counts values for the report of a run.
    pub has_tally: bool,
}

#[derive(Clone, Debug)]
pub struct RouteSpec {
    pub target: Arc<Target>,
    pub endpoint: Arc<HttpEndpoint>,
    /// `None` if the target has no rate limits. All routes to the target share it.
    pub rate_limiter: Option<Arc<RateLimiter>>,
    /// The metrics pages that a run reads. Empty in the daemon.
    pub metrics_pages: Vec<Arc<MetricsPage>>,
    /// Facts for the status page.
    pub info: RouteInfo,
}

impl ScenarioSpec {
    pub fn new_monitors(&self, schedule_state: &Arc<ScheduleState>) -> Vec<Arc<RouteMonitor>> {
        let steps = Arc::default();
        let new = |route| self.new_monitor(route, schedule_state, &steps);
        self.routes.iter().map(new).collect()
    }

    pub fn new_monitor(
        &self,
        route: &RouteSpec,
        schedule_state: &Arc<ScheduleState>,
        steps: &Arc<StepMeter>,
    ) -> Arc<RouteMonitor> {
        let (scenario, target) = (&self.scenario.name, &route.target.name);
        let schedule = &self.scenario.schedule;
        let tally = schedule_state.windows().map(|windows| {
            let has_one_pass = self.scenario.repeat == Repeat::Times(NonZeroU32::MIN);
            let tally = Tally::new(schedule, Arc::clone(windows), &self.rules(), has_one_pass);
            let tally = tally.with_turns(self.scenario.sessions.is_some());
            Arc::new(tally.of_shard(schedule_state.shard().count() > 1))
        });
        let monitor = RouteMonitor::new(
            scenario,
            target,
            Arc::clone(schedule_state),
            route.info.clone(),
            tally,
            route.metrics_pages.iter().map(|page| Arc::new(ObservedPage::new(page))).collect(),
            Arc::clone(steps),
        );
        if let Some(model) = &route.target.model {
            // The monitor is new, so no name is set.
            let _always_ok = monitor.model.set(model.clone());
        }
        Arc::new(monitor)
    }

    /// The schedule state before the start.
    pub fn new_schedule_state(&self, shard: Shard) -> Arc<ScheduleState> {
        let timetable = self.timetable();
        let schedule = Arc::clone(timetable.schedule());
        let endless = timetable.is_endless();
        let state = ScheduleState::new(Arc::clone(&schedule), endless, shard, "the target");
        if !self.has_tally {
            return Arc::new(state);
        }
        let windows = PhaseWindows::new(schedule, self.scenario.repeat);
        Arc::new(state.with_windows(Arc::new(windows)))
    }

    /// The rules by which a run judges each phase.
    fn rules(&self) -> Vec<PhaseRule> {
        let rule = |(index, phase): (usize, &plan::PhaseObjectives)| PhaseRule {
            slo: phase.slo.clone(),
            explore: phase.explore,
            most_arrivals: self.scenario.most_arrivals(index),
        };
        self.scenario.phases.iter().enumerate().map(rule).collect()
    }

    /// The models of all monitors must be known.
    pub(super) fn build_routes(
        &self,
        monitors: &[Arc<RouteMonitor>],
        gate: &Arc<ReadinessGate>,
        context: &ScenarioContext,
    ) -> HttpRouteSet {
        let routes = self.routes.iter().zip(monitors);
        let routes =
            routes.filter_map(|(route, monitor)| self.build_route(route, monitor, gate, context));
        // The first target is the baseline target.
        let differences: Vec<Arc<PairedComparison>> =
            monitors.iter().skip(1).map(|monitor| Arc::clone(&monitor.difference)).collect();
        RouteSet { routes: routes.collect(), differences: differences.into() }
    }

    /// `None` if the model is unknown.
    fn build_route(
        &self,
        route: &RouteSpec,
        monitor: &RouteMonitor,
        gate: &Arc<ReadinessGate>,
        context: &ScenarioContext,
    ) -> Option<Arc<HttpRoute>> {
        let (scenario, target) = (&self.scenario, &route.target);
        let budgets = context.accounts.of_scenario(&scenario.name);
        let budgets = budgets.map(|budgets| {
            Arc::new(RouteBudgets::new(budgets, &scenario.budgets, target.prices.clone()))
        });
        let (draining, paused) = (context.draining.clone(), context.paused.clone());
        let state = &monitor.state;
        state.set_rate_limiter(route.rate_limiter.clone());
        let sessions = state.set_sessions(&scenario.prompts, self.seed);
        let sessions = sessions.zip(scenario.sessions.clone());
        Some(Arc::new(Route {
            target: target.name.clone(),
            endpoint: Arc::clone(&route.endpoint),
            template: RequestTemplate {
                model: monitor.model.get()?.clone(),
                prompts: PromptSource {
                    prompts: scenario.prompts.clone(),
                    seed: self.seed,
                    scenario: scenario.name.clone(),
                    schedule: Arc::clone(&scenario.schedule),
                },
                parameters: scenario.request.clone(),
                dialect: target.dialect.clone(),
                traceparent: target.traceparent,
                terminal: target.terminal,
                timeouts: target.timeouts,
            },
            guard: Guard::new(draining, paused, scenario.max_lag, scenario.max_concurrency)
                .with_sessions(sessions.as_ref().map(|(sessions, plan)| sessions.limit(plan.max)))
                .with_breaker(state.set_breaker(scenario.breaker), &scenario.phases)
                .with_budgets(budgets)
                .with_rate_limiter(route.rate_limiter.clone()),
            observer: RouteObserver {
                metrics: self.bind_metrics(route, monitor, context)?,
                incidents: Arc::clone(&monitor.incidents),
                recent: Arc::clone(&monitor.recent),
                archive: self.archive_route(route, monitor.model.get()?, context),
                readiness: Arc::clone(gate),
                tally: monitor.tally.clone(),
                steps: Arc::clone(&monitor.steps),
            },
            sessions,
            state: Arc::clone(state),
        }))
    }

    fn archive_route(
        &self,
        route: &RouteSpec,
        model: &str,
        context: &ScenarioContext,
    ) -> RouteArchive {
        let phases = self.scenario.schedule.phases();
        let facts = RouteFacts {
            scenario: &self.scenario.name,
            target: &route.target.name,
            model,
            path: route.target.dialect.path(),
            phases: phases.iter().map(|phase| phase.name.clone()).collect(),
        };
        let endpoint = Arc::clone(&route.endpoint);
        RouteArchive::new(&context.archive, facts, Arc::new(move |text| endpoint.redact(text)))
    }

    /// Creates the series of a route. `None` if its model is unknown.
    pub(super) fn bind_metrics(
        &self,
        route: &RouteSpec,
        monitor: &RouteMonitor,
        context: &ScenarioContext,
    ) -> Option<RouteMetrics> {
        let labels: Labels = monitor.labels()?;
        let info = monitor.info();
        let baseline = self.scenario.baseline_of(&route.target.name).map(|baseline| Baseline {
            target: baseline.to_owned(),
            difference: Arc::clone(&monitor.difference),
        });
        let settings = RouteSettings {
            arrivals: self.scenario.arrivals,
            simulated: info.simulated,
            limit: info.max_concurrency,
            replays: self.scenario.schedule.has_replay(),
            prices: route.target.prices.clone(),
            slo: self.scenario.slo.clone(),
            breaker: monitor.state.set_breaker(self.scenario.breaker),
            searches: self.scenario.schedule.search_phases(),
            baseline,
            sessions: self
                .scenario
                .sessions
                .as_ref()
                .map(|_| Arc::clone(&monitor.state.session_state.ledger)),
        };
        let ledger = Arc::clone(&monitor.state.ledger);
        let schedule_state = Arc::clone(&monitor.schedule_state);
        Some(context.metrics.bind(&labels, ledger, schedule_state, settings))
    }

    pub(super) fn arrival_spec(&self, shard: Shard) -> ArrivalSpec {
        let (arrivals, scenario) = (self.scenario.arrivals, self.scenario.name.clone());
        ArrivalSpec { arrivals, seed: self.seed, scenario, shard }
    }

    pub(super) fn timetable(&self) -> Timetable {
        Timetable::for_scenario(&self.scenario)
    }

    /// Returns true if sessions in progress can continue after a reload.
    pub(super) fn has_same_conversations(&self, other: &ScenarioSpec) -> bool {
        self.seed == other.seed && self.scenario.prompts == other.scenario.prompts
    }

    /// Returns true if the arrivals are the same, so a reload does not replace the schedule.
    pub(super) fn has_same_timing(&self, other: &ScenarioSpec) -> bool {
        let timing = |spec: &ScenarioSpec| {
            let plan::Scenario { schedule, arrivals, repeat, start, active, .. } = &spec.scenario;
            (Arc::clone(schedule), *arrivals, *repeat, start.clone(), active.clone())
        };
        self.seed == other.seed && timing(self) == timing(other)
    }
}
