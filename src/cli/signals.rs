//! What signals mean to a running daemon.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::control::{AdminCommand, AdminHandle, CommandError};

/// Signals closer together than this are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// The first SIGTERM or SIGINT stops, the second hurries. Any more change nothing: by then everything
/// in flight is cut off, and the process is about to end.
pub(super) fn watch(stop: CancellationToken, force_stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
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
            // Whoever signals a process and its group, as `timeout` does, means it once.
            let echoes = async {
                loop {
                    next().await;
                }
            };
            let _over: Result<(), _> = tokio::time::timeout(SAME_SIGNAL, echoes).await;
        }
    });
    Ok(())
}

/// SIGHUP reloads; what came of it is in the log.
pub(super) fn watch_hangups(control: AdminHandle) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(CommandError::NotNow(why)) = control.ask(AdminCommand::Reload).await {
                tracing::warn!("SIGHUP: nothing is reloaded, {why}");
            }
        }
    });
    Ok(())
}
