//! Decides the effect of a reload on a running scenario. The supervisor applies the decision.

use std::sync::Arc;

use crate::scenario::{RouteSpec, ScenarioHandle, ScenarioSpec};
use crate::status::{RouteInfo, RouteMonitor};

pub(super) enum Transition {
    Keep,
    /// Later arrivals use new settings. The list has one entry for each new route.
    Change(Vec<RouteTransition>),
    /// The scenario starts again. Either its schedule has not started, or the model of a route is
    /// unknown.
    Restart,
}

/// The effect of a reload on one new route. A route is one scenario on one target.
pub(super) enum RouteTransition {
    /// The route continues with the ledger (the counts of arrivals) and the series of this monitor.
    Reuse(Arc<RouteMonitor>),
    Create,
}

impl Transition {
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

/// A route continues if its target and its model keep their names. Returns `None` if the model is
/// unknown: only a restart asks the endpoint for its model.
fn decide_route(
    before: &ScenarioSpec,
    handle: &ScenarioHandle,
    route: &RouteSpec,
) -> Option<RouteTransition> {
    let mut running = before.routes.iter().zip(&handle.monitors);
    let Some((old, monitor)) = running.find(|(old, _)| old.target.name == route.target.name) else {
        return route.target.model.is_some().then_some(RouteTransition::Create);
    };
    // The endpoint reported this model, so the model is valid only at the same address.
    let learned = monitor.model.get().filter(|_| old.info.address == route.info.address);
    let model = route.target.model.as_ref().or(learned)?;
    Some(if monitor.model.get() == Some(model) {
        RouteTransition::Reuse(Arc::clone(monitor))
    } else {
        RouteTransition::Create
    })
}
