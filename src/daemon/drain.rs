//! The drain at the end of the daemon.

use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::supervisor::Supervisor;
use crate::event::AbortReason;
use crate::launch::RouteState;

/// Waits until no scenario sends. Then waits for the requests in flight, up to the grace period,
/// and aborts the remaining ones. Logs the drain if somebody stopped llmload, or if requests are in
/// flight.
pub(super) async fn drain(
    mut supervisor: Supervisor,
    is_stopped: bool,
    force_stop: &CancellationToken,
) {
    let in_flight: usize = supervisor.route_states().iter().map(|state| state.tasks.len()).sum();
    if is_stopped || in_flight > 0 {
        tracing::info!(in_flight, grace = ?GRACE, "stopping: llmload sends no new requests");
    }
    while supervisor.tasks.join_next().await.is_some() {}
    let states = supervisor.route_states();
    tokio::select! {
        () = supervisor.wait_until_idle() => {}
        () = tokio::time::sleep(GRACE) => {}
        () = force_stop.cancelled() => {
            tracing::info!("second signal: aborting the requests in flight");
        }
    }
    let mut aborted = 0;
    for RouteState { ledger, tasks, cancellation, .. } in states.iter().map(AsRef::as_ref) {
        cancellation.cancel(AbortReason::Shutdown);
        tasks.close();
        tasks.wait().await;
        let counts = ledger.counts();
        let by_shutdown = counts.aborted().filter(|(reason, _)| *reason == AbortReason::Shutdown);
        aborted += by_shutdown.map(|(_, count)| count).sum::<u64>();
    }
    if is_stopped || in_flight > 0 {
        tracing::info!(aborted, "stopped");
    }
}
