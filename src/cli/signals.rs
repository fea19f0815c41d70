//! The signal handlers of the commands that send or serve load.
//!
//! A separate thread handles the stop signals. So the second signal ends the process even if all
//! other threads hang. After the load has ended, the first signal ends the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::control::{AdminCommand, AdminHandle, CommandError};

/// Stop signals within this time count as one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);
/// After a forced stop, the process ends in this time at the latest.
const FORCED_EXIT: Duration = Duration::from_millis(900);

#[derive(Clone, Debug)]
pub(super) struct StopSignals {
    /// Cancelled at the first signal.
    pub(super) stop: CancellationToken,
    /// Cancelled at the second signal, or at the first signal after the load has ended. The process
    /// then ends soon.
    pub(super) force_stop: CancellationToken,
    exit_code: Arc<AtomicU8>,
    /// True if the load has ended, so that the first signal forces the end.
    has_ended: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// A stop signal, because the terminal was closed.
    Stops,
    /// A reload: see [`watch_hangups`].
    Reloads,
}

impl StopSignals {
    /// Handles SIGTERM, SIGINT and possibly SIGHUP, and ignores SIGUSR1 and SIGUSR2. `exit_code` is
    /// the exit code of a forced end.
    pub(super) fn watch(hangup: Hangup, exit_code: u8) -> anyhow::Result<StopSignals> {
        let signals = StopSignals {
            stop: CancellationToken::new(),
            force_stop: CancellationToken::new(),
            exit_code: Arc::new(AtomicU8::new(exit_code)),
            has_ended: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("the signal handlers could not be started")?;
        let entered = runtime.enter();
        let mut handlers = Handlers {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            hangup: (hangup == Hangup::Stops && !is_hangup_ignored()).then(hangups).transpose()?,
        };
        // Without a handler, these signals would end the process without a drain. A handler remains
        // after its value is dropped.
        for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            let _handler = signal(ignored).context("cannot handle SIGUSR1 and SIGUSR2")?;
        }
        drop(entered);
        let handled = signals.clone();
        let handle = move || runtime.block_on(handled.handle(&mut handlers));
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(handle)
            .context("the thread that handles signals could not be started")?;
        Ok(signals)
    }

    /// Declares that the load has ended. The process still writes its results, and can hang there,
    /// so the next signal forces the end.
    pub(super) fn set_ended(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Sets the exit code of a forced end.
    pub(super) fn set_exit_code(&self, code: u8) {
        self.exit_code.store(code, Relaxed);
    }

    async fn handle(&self, handlers: &mut Handlers) {
        handlers.first_signal().await;
        if !self.has_ended.load(Relaxed) {
            self.stop.cancel();
            handlers.second_signal().await;
        }
        self.force_stop.cancel();
        tokio::time::sleep(FORCED_EXIT).await;
        process::exit(self.exit_code.load(Relaxed).into());
    }
}

struct Handlers {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Handlers {
    async fn stop_signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn second_signal(&mut self) {
        // The command `timeout` signals the process and its process group, so a signal can arrive
        // twice.
        let duplicates = async {
            loop {
                self.stop_signal().await;
            }
        };
        let _over: Result<(), _> = tokio::time::timeout(SAME_SIGNAL, duplicates).await;
        // A hangup is not the second signal: the shell and the kernel can both send one when a
        // terminal closes.
        self.stop_signal().await;
    }

    async fn first_signal(&mut self) {
        let Handlers { terminate, interrupt, hangup } = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(_) = OptionFuture::from(hangup.as_mut().map(Signal::recv)) => {}
        }
    }
}

fn hangups() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("cannot handle SIGHUP")
}

/// Returns true if the parent has switched SIGHUP off, as `nohup` does. A handler would switch it
/// on.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut ignored = status.lines().filter_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is for signal 1, SIGHUP.
    let mask = ignored.next().and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Reloads the configuration at each SIGHUP, and logs the result.
pub(super) fn watch_hangups(control: AdminHandle) -> anyhow::Result<()> {
    let mut hangup = hangups()?;
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
