//! The signal that aborts the requests in flight on a route.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::event::AbortReason;

/// Aborts all requests of a route at once. If `cancel` is called again, the first reason stays.
#[derive(Debug, Default)]
pub struct Cancellation {
    reason: OnceLock<AbortReason>,
    token: CancellationToken,
}

impl Cancellation {
    /// Aborts the requests in flight.
    pub fn cancel(&self, reason: AbortReason) {
        let _already_cancelled = self.reason.set(reason);
        self.token.cancel();
    }

    /// Waits until the requests are aborted, and returns the reason.
    pub(super) async fn cancelled(&self) -> AbortReason {
        self.token.cancelled().await;
        *self.reason.get_or_init(|| AbortReason::Shutdown)
    }
}
