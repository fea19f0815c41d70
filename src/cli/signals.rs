//! The signal handlers of the commands that send or serve load.
//!
//! A separate thread handles the stop signals. So a second signal ends the process even if all
//! other threads wait for a file, a name lookup or the reader of stdout. After the end of a run,
//! one signal is enough.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::control::{AdminCommand, AdminHandle, CommandError};

/// Stop signals within this time count as one signal.
const SAME_SIGNAL: Duration = Duration::from_millis(200);
/// The time from the forced stop to the end of the process, if the process does not end before.
const FORCED_EXIT: Duration = Duration::from_millis(900);

/// The stop signals of this process.
#[derive(Clone, Debug)]
pub(super) struct StopSignals {
    /// Cancelled at the first signal.
    pub(super) stop: CancellationToken,
    /// Cancelled at the signal that forces the end: the second signal, or the first signal after
    /// the load has ended. The process ends soon after it.
    pub(super) force_stop: CancellationToken,
    exit_code: Arc<AtomicU8>,
    /// True if nothing is left that a first signal could stop.
    has_ended: Arc<AtomicBool>,
}

/// The effect of SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// It is a stop signal, because a closed terminal means the end.
    Stops,
    /// Another handler reloads the configuration: see [`watch_hangups`].
    Reloads,
}

impl StopSignals {
    /// Handles SIGTERM, SIGINT and possibly SIGHUP until the process ends. `exit_code` is the exit
    /// code if a signal has to force the end of the process.
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
        drop(entered);
        let handled = signals.clone();
        let handle = move || runtime.block_on(handled.handle(&mut handlers));
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(handle)
            .context("the thread that handles signals could not be started")?;
        Ok(signals)
    }

    /// Declares that the load has ended. The process still writes its results, and it can wait for
    /// a disk or for a reader. So the next signal forces the end of the process.
    pub(super) fn set_ended(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Sets the exit code if a signal has to force the end of the process.
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
        // The command `timeout` signals a process and also its process group, so the same signal
        // can arrive twice.
        let duplicates = async {
            loop {
                self.stop_signal().await;
            }
        };
        let _over: Result<(), _> = tokio::time::timeout(SAME_SIGNAL, duplicates).await;
        // A hangup is never the second signal, because the shell and the kernel can both send one
        // when a terminal closes.
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

/// Returns true if the parent of this process has switched SIGHUP off, as `nohup` does. A handler
/// would switch it on again.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut ignored = status.lines().filter_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is for signal 1, which is SIGHUP.
    let mask = ignored.next().and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Reloads the configuration at each SIGHUP. The log reports the result.
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
