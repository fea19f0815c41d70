//! A scenario as it is set up: what is asked for, and for each of its targets the client and what is
//! shown. From it come the lanes that requests go by.

use std::sync::Arc;

use super::{HttpRoute, Observer, ScenarioContext};
use crate::endpoint::HttpEndpoint;
use crate::guard::Guard;
use crate::launch::{ReadinessGate, Route, RouteSet};
use crate::metrics::{Labels, RouteMetrics, RouteSettings};
use crate::pairing::PairedDifference;
use crate::plan::{self, Target};
use crate::schedule::{ArrivalSpec, Shard};
use crate::schedule_state::ScheduleState;
use crate::status::{RouteInfo, RouteMonitor};
use crate::tally::Tally;
use crate::timetable::Timetable;

/// A scenario of the plan, with the seed it draws from and the ways to its targets.
#[derive(Clone, Debug)]
pub struct ScenarioSpec {
    /// What is asked for.
    pub scenario: plan::Scenario,
    /// Everything random follows from it.
    pub seed: u64,
    /// In the order of the scenario's targets.
    pub routes: Vec<RouteSpec>,
    /// Whether all figures are kept, for a report.
    pub tallied: bool,
}

/// A target of a scenario.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Where it leads.
    pub target: Arc<Target>,
    /// The client.
    pub endpoint: Arc<HttpEndpoint>,
    /// What is shown of it.
    pub info: RouteInfo,
}

impl ScenarioSpec {
    /// Streams of load to its targets, nothing of which has been sent.
    pub fn monitors(&self, schedule_state: &Arc<ScheduleState>) -> Vec<Arc<RouteMonitor>> {
        self.routes.iter().map(|route| self.monitor(route, schedule_state)).collect()
    }

    /// A stream of load to one of its targets.
    pub fn monitor(
        &self,
        route: &RouteSpec,
        schedule_state: &Arc<ScheduleState>,
    ) -> Arc<RouteMonitor> {
        let (scenario, target) = (&self.scenario.name, &route.target.name);
        let tally = || Arc::new(Tally::new(&self.scenario.schedule, self.scenario.slo.clone()));
        let tally = self.tallied.then(tally);
        let monitor = RouteMonitor::new(
            scenario,
            target,
            Arc::clone(schedule_state),
            route.info.clone(),
            tally,
        );
        if let Some(model) = &route.target.model {
            let _first = monitor.model.set(model.clone());
        }
        Arc::new(monitor)
    }

    /// A course for it that waits.
    pub fn schedule_state(&self, shard: Shard) -> Arc<ScheduleState> {
        let timetable = self.timetable();
        let schedule = Arc::clone(timetable.schedule());
        Arc::new(ScheduleState::new(schedule, timetable.is_endless(), shard, "the target"))
    }

    /// The ways that its requests go by. The model of each stream is known by now.
    pub(super) fn routes(
        &self,
        monitors: &[Arc<RouteMonitor>],
        gate: &Arc<ReadinessGate>,
        context: &ScenarioContext,
    ) -> RouteSet<HttpEndpoint, Observer> {
        let all = || self.routes.iter().zip(monitors);
        let routes = all().filter_map(|(route, monitor)| self.route(route, monitor, gate, context));
        let differences: Vec<Arc<PairedDifference>> =
            monitors.iter().skip(1).map(|monitor| Arc::clone(&monitor.difference)).collect();
        RouteSet { routes: routes.collect(), differences: differences.into() }
    }

    fn route(
        &self,
        route: &RouteSpec,
        monitor: &RouteMonitor,
        gate: &Arc<ReadinessGate>,
        context: &ScenarioContext,
    ) -> Option<Arc<HttpRoute>> {
        let scenario = &self.scenario;
        let (draining, paused) = (context.draining.clone(), context.paused.clone());
        let (model, metrics) = (monitor.model.get()?.clone(), self.bind(route, monitor, context)?);
        Some(Arc::new(Route {
            target: route.target.name.clone(),
            endpoint: Arc::clone(&route.endpoint),
            model,
            prompts: scenario.prompts.clone(),
            scenario: scenario.name.clone(),
            seed: self.seed,
            parameters: scenario.request.clone(),
            dialect: route.target.dialect.clone(),
            traceparent: route.target.traceparent,
            terminal: route.target.terminal,
            timeouts: route.target.timeouts,
            guard: Guard::new(draining, paused, scenario.max_lag, scenario.max_concurrency),
            observer: (
                metrics,
                (
                    Arc::clone(&monitor.incidents),
                    (Arc::clone(&monitor.recent), (Arc::clone(gate), monitor.tally.clone())),
                ),
            ),
            state: Arc::clone(&monitor.state),
        }))
    }

    /// Makes the series of a stream of load, if its model is known.
    pub(super) fn bind(
        &self,
        route: &RouteSpec,
        monitor: &RouteMonitor,
        context: &ScenarioContext,
    ) -> Option<RouteMetrics> {
        let labels: Labels = monitor.labels()?;
        let (arrivals, info, prices) =
            (self.scenario.arrivals, monitor.info(), route.target.prices.clone());
        let slo = self.scenario.slo.clone();
        let facts = RouteSettings {
            arrivals,
            simulated: info.simulated,
            limit: info.max_concurrency,
            prices,
            slo,
        };
        let (ledger, schedule_state) =
            (Arc::clone(&monitor.state.ledger), Arc::clone(&monitor.schedule_state));
        let metrics = context.metrics.bind(&labels, ledger, schedule_state, facts);
        let baseline = self.scenario.baseline_of(&route.target.name);
        let against =
            baseline.map(|baseline| (baseline.to_owned(), Arc::clone(&monitor.difference)));
        context.metrics.compare(&labels, against);
        Some(metrics)
    }

    pub(super) fn spread(&self, shard: Shard) -> ArrivalSpec {
        let (arrivals, scenario) = (self.scenario.arrivals, self.scenario.name.clone());
        ArrivalSpec { arrivals, seed: self.seed, scenario, shard }
    }

    /// When its cycles begin.
    pub(super) fn timetable(&self) -> Timetable {
        Timetable::for_scenario(&self.scenario)
    }

    /// Whether what another setting says of arrivals is the same: then they go on undisturbed.
    pub(super) fn is_timed_like(&self, other: &ScenarioSpec) -> bool {
        let timing = |spec: &ScenarioSpec| {
            let plan::Scenario { schedule, arrivals, repeat, start, active, .. } = &spec.scenario;
            (Arc::clone(schedule), *arrivals, *repeat, start.clone(), active.clone())
        };
        self.seed == other.seed && timing(self) == timing(other)
    }
}
