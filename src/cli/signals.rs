//! The signal handlers of a running daemon.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::control::{AdminCommand, AdminHandle, CommandError};

/// Stop signals within this time count as one signal.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Cancels `stop` at the first SIGTERM or SIGINT, and `force_stop` at the second. Later signals
/// change nothing, because all requests are then aborted and the process is about to end.
pub(super) fn watch(stop: CancellationToken, force_stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        for token in [stop, force_stop] {
            next().await;
            token.cancel();
            // The command `timeout` signals a process and also its process group, so the same
            // signal can arrive twice.
            let duplicates = async {
                loop {
                    next().await;
                }
            };
            let _over: Result<(), _> = tokio::time::timeout(SAME_SIGNAL, duplicates).await;
        }
    });
    Ok(())
}

/// Reloads the configuration at each SIGHUP. The log reports the result.
pub(super) fn watch_hangups(control: AdminHandle) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(CommandError::Unavailable(reason)) =
                control.execute(AdminCommand::Reload).await
            {
                tracing::warn!("SIGHUP ignored: {reason}");
            }
        }
    });
    Ok(())
}
