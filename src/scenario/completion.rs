//! The end of a scenario, for which another scenario can wait.

use std::sync::Arc;

use tokio::sync::watch;

use super::HttpRouteTable;

/// True after the schedule and all requests of a scenario have ended. It survives a restart by a
/// reload, so a waiting scenario does not notice the restart.
#[derive(Clone, Debug)]
pub struct Completion(Arc<watch::Sender<bool>>);

impl Default for Completion {
    fn default() -> Completion {
        Completion(Arc::new(watch::Sender::new(false)))
    }
}

impl Completion {
    /// Records that the schedule runs or will run.
    pub(super) fn reset(&self) {
        self.0.send_replace(false);
    }

    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn wait(&self) {
        // The channel never closes, because `self` holds the sender.
        let mut receiver = self.0.subscribe();
        let _always_ok = receiver.wait_for(|has_ended| *has_ended).await;
    }
}

pub(super) async fn wait_until_idle(routes: &HttpRouteTable) {
    for route in &routes.current().routes {
        // The tracker must be closed for the wait to end. Requests can still start.
        route.state.tasks.close();
        route.state.tasks.wait().await;
    }
}
