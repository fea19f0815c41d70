//! Decides the effect of a reload on a running scenario. This module changes nothing, because the
//! supervisor applies the decision.

use std::sync::Arc;

use crate::scenario::{RouteSpec, ScenarioHandle, ScenarioSpec};
use crate::status::{RouteInfo, RouteMonitor};

/// The effect of a reload on a running scenario.
pub(super) enum Transition {
    /// Nothing changes.
    Keep,
    /// New settings apply to all later arrivals. The list has one entry for each route of the new
    /// specification.
    Change(Vec<RouteTransition>),
    /// The scenario stops and starts again, because its schedule has not started or the model of a
    /// route is unknown.
    Restart,
}

/// The effect of a reload on a route (one scenario on one target) of the new specification.
pub(super) enum RouteTransition {
    /// The route continues with the ledger (the counts of arrivals) and the series of this monitor.
    Reuse(Arc<RouteMonitor>),
    /// The route is new, and its model is known.
    Create,
}

impl Transition {
    /// Decides the effect of a reload that changes the specification of a scenario from `before` to
    /// `after`.
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

/// Decides the effect on one route. The route continues if its target name and its model stay the
/// same. Returns `None` if the model is unknown, because only a restart can learn the model.
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
