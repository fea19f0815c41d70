//! The decision what a reload does to a scenario that runs. It changes nothing; the supervisor
//! applies it.

use std::sync::Arc;

use crate::scenario::{RouteSpec, ScenarioHandle, ScenarioSpec};
use crate::status::{RouteInfo, RouteMonitor};

/// The effect of a reload on a scenario that runs.
pub(super) enum Transition {
    /// Nothing changes.
    Keep,
    /// New settings apply to arrivals from now on. One entry for each route of the new
    /// specification.
    Change(Vec<RouteTransition>),
    /// The scenario stops and starts again, because the model of a route is unknown or its schedule
    /// has not started.
    Restart,
}

/// The effect of a reload on a route of the new specification.
pub(super) enum RouteTransition {
    /// The route continues with the ledger and the series of this monitor.
    Reuse(Arc<RouteMonitor>),
    /// The route is new, and its model is known.
    Create,
}

impl Transition {
    /// Decides how a scenario with the specification `before` becomes `after`.
    pub(super) fn decide(
        before: &ScenarioSpec,
        handle: &ScenarioHandle,
        after: &ScenarioSpec,
    ) -> Transition {
        if is_same(before, after) {
            return Transition::Keep;
        }
        if !handle.has_started() {
            return Transition::Restart;
        }
        let routes = after.routes.iter().map(|route| decide_route(before, handle, route));
        routes.collect::<Option<_>>().map_or(Transition::Restart, Transition::Change)
    }
}

fn is_same(before: &ScenarioSpec, after: &ScenarioSpec) -> bool {
    let infos = |spec: &ScenarioSpec| -> Vec<RouteInfo> {
        spec.routes.iter().map(|route| route.info.clone()).collect()
    };
    before.scenario == after.scenario && before.seed == after.seed && infos(before) == infos(after)
}

/// Decides for one route. The route continues if target name and model stay the same. Returns
/// `None` if the model is unknown, so that only a restart can learn it.
fn decide_route(
    before: &ScenarioSpec,
    handle: &ScenarioHandle,
    route: &RouteSpec,
) -> Option<RouteTransition> {
    let mut running = before.routes.iter().zip(&handle.monitors);
    let Some((old, monitor)) = running.find(|(old, _)| old.target.name == route.target.name) else {
        return route.target.model.is_some().then_some(RouteTransition::Create);
    };
    // A learned model stays valid only for the endpoint that reported it.
    let learned = monitor.model.get().filter(|_| old.info.address == route.info.address);
    let model = route.target.model.as_ref().or(learned)?;
    Some(if monitor.model.get() == Some(model) {
        RouteTransition::Reuse(Arc::clone(monitor))
    } else {
        RouteTransition::Create
    })
}
