//! The task of a driver: runs the schedule, and starts it again after a command.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::HttpRouteTable;
use super::completion::{Completion, wait_until_idle};
use crate::event::SessionEnd;
use crate::launch::{Alarm, Driver};

/// A driver that runs, and the signals that it obeys.
pub(super) struct Driving {
    pub(super) driver: Driver,
    pub(super) routes: Arc<HttpRouteTable>,
    pub(super) stop: CancellationToken,
    /// Cancelled when the daemon shuts down.
    pub(super) draining: CancellationToken,
    pub(super) scenario: String,
    pub(super) completion: Completion,
}

impl Driving {
    /// Runs the schedule until `stop` is cancelled. A run also ends after its schedule and its last
    /// request. In a daemon, a command can start an ended schedule again.
    pub(super) async fn run(self, is_run: bool) {
        let Driving { mut driver, routes, stop, draining, scenario, completion } = self;
        let mut alarm = Alarm::most_precise();
        while !stop.is_cancelled() {
            completion.reset();
            driver.run(&*routes, &mut alarm, &stop).await;
            if stop.is_cancelled() {
                driver.cut_windows(Instant::now());
                driver.end_sessions(match (draining.is_cancelled(), is_run) {
                    (true, _) => SessionEnd::Shutdown,
                    (false, true) => SessionEnd::ScheduleEnd,
                    (false, false) => SessionEnd::Reload,
                });
            }
            if !stop.is_cancelled() && !is_run {
                tracing::info!(scenario, "schedule ended; the daemon keeps serving /metrics");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // A command can start the schedule again before the last request has ended.
                () = driver.wait_for_command(), if !is_run => {}
                () = wait_until_idle(&routes) => {
                    completion.set();
                    if is_run {
                        return;
                    }
                    tokio::select! {
                        () = driver.wait_for_command() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }
}
