//! The end of a scenario, for which another scenario can wait.

use std::sync::Arc;

use tokio::sync::watch;

use super::HttpRouteTable;

/// Shows if a scenario has ended: its schedule, and its requests in flight. It survives a restart
/// of the scenario by a reload, so a scenario that waits does not notice the restart.
#[derive(Clone, Debug)]
pub struct Completion(Arc<watch::Sender<bool>>);

impl Default for Completion {
    fn default() -> Completion {
        Completion(Arc::new(watch::Sender::new(false)))
    }
}

impl Completion {
    /// Records that the schedule runs, or that it will run.
    pub(super) fn reset(&self) {
        self.0.send_replace(false);
    }

    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the scenario has ended.
    pub(super) async fn wait(&self) {
        // `self` holds the sender, so the channel is never closed.
        let mut receiver = self.0.subscribe();
        let _always_ok = receiver.wait_for(|has_ended| *has_ended).await;
    }
}

/// Waits until no request is in flight.
pub(super) async fn wait_until_idle(routes: &HttpRouteTable) {
    for route in &routes.current().routes {
        // Requests can still start, because a closed tracker only allows the wait to end.
        route.state.tasks.close();
        route.state.tasks.wait().await;
    }
}
